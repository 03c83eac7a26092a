"""Programs that run unattended: each within a time of its own, its output in a log, and nothing of it left behind."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes:
      status: its exit status, negative for a signal; None where it was stopped because its time was over.
      seconds: that it ran.
      output: what it printed.
    """

    status: int | None
    seconds: float
    output: str

    @property
    def why(self) -> str:
        """In a few words why it failed: its last line that speaks of an error, or its last line at all."""
        if self.status is None:
            return f"not done within {self.seconds:.0f} s"
        lines = [line.strip() for line in self.output.splitlines() if line.strip()] or [f"exit status {self.status}"]
        errors = [line for line in lines if "error" in line.lower() or "unknown flag" in line.lower()]
        return (errors or lines)[-1].removeprefix("error: ")[:200]


def run(
    command: Sequence[str],
    log: Path,
    limit_s: float,
    environment: Mapping[str, str] | None = None,
    *,
    grace_s: float = 10.0,
    meanwhile: Callable[[float], None] = lambda seconds: None,
) -> Ended:
    """Runs a program to its end or to the end of its time.

    Args:
      command: program and arguments.
      log: file that the command, what it prints and how it ended are appended to.
      limit_s: seconds after which it is asked to stop, by SIGTERM.
      environment: variables that are added to those of this process.
      grace_s: seconds that it then has before it, and all that it started, are killed.
      meanwhile: hears a few times a second, and once at the end, for how many seconds the program has run.
    """
    added = dict(environment or {})
    shown = " ".join([*(f"{name}={value!r}" for name, value in added.items()), *command])
    began = time.monotonic()
    with open(log, "ab+", buffering=0) as file:
        file.write(f"\n$ {shown}\n".encode())
        before = file.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | added,
            start_new_session=True,  # a group of its own, so that all that it starts can be ended with it
        )
        try:
            status = _wait(process, began + limit_s, lambda: meanwhile(time.monotonic() - began))
            if status is None:
                _signal(process, signal.SIGTERM)
                _wait(process, time.monotonic() + grace_s, lambda: meanwhile(time.monotonic() - began))
        finally:
            _signal(process, signal.SIGKILL)
            process.wait()
        seconds = time.monotonic() - began
        meanwhile(seconds)
        file.seek(before)
        output = file.read().decode(errors="replace")
        ended = "stopped, its time was over" if status is None else f"exit status {status}"
        file.write(f"# {ended}, {seconds:.1f} s\n".encode())
    return Ended(status, seconds, output)


def _wait(process: subprocess.Popen, until: float, tick: Callable[[], None]) -> int | None:
    """The exit status, or None where the program still runs at that time."""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=max(0.0, min(0.2, until - time.monotonic())))
        tick()
        if time.monotonic() >= until:
            return None


def _signal(process: subprocess.Popen, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
