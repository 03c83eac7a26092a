"""Programs of several processes on this machine, joined over loopback, each with simulated devices of its own."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Finished:
    """How a process ended. `status` is minus the signal's number where one killed it."""

    status: int
    stdout: str
    stderr: str


class Process:
    """One of the processes, running or ended."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        self._stdout, self._stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - until `close`
        self._popen = subprocess.Popen(
            [sys.executable, *arguments], stdout=self._stdout, stderr=self._stderr, cwd=ROOT, env=environment
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)

    def stdout(self) -> str:
        """What it has printed so far."""
        return _read(self._stdout)

    def stderr(self) -> str:
        return _read(self._stderr)

    def wait_for(self, text: str, timeout_s: float) -> None:
        """Returns once `text` stands in its standard output."""
        end = time.monotonic() + timeout_s
        while text not in self.stdout():
            assert self.is_running, f"ended without {text!r}: {self.stdout()}\n{self.stderr()}"
            assert time.monotonic() < end, f"{text!r} did not come: {self.stdout()}\n{self.stderr()}"
            time.sleep(0.05)

    def finish(self, timeout_s: float) -> Finished:
        """Waits for its end; raises subprocess.TimeoutExpired, with what it printed on our standard output."""
        try:
            status = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            print(f"process {self.pid} does not end:\n{self.stdout()}\n{self.stderr()}")
            raise
        return Finished(status, self.stdout(), self.stderr())

    def close(self) -> None:
        """Kills it if it still runs."""
        if self.is_running:
            self._popen.kill()
        self._popen.wait()
        self._stdout.close()
        self._stderr.close()


@contextlib.contextmanager
def start(
    program: list[str], count: int, devices: int, *, env: Mapping[str, str] | None = None
) -> Iterator[list[Process]]:
    """Starts the processes of a program, and kills at the end what is left of them.

    Args:
      program: arguments of Python, such as `["-m", "dnabert_jax", "train", ...]`; with several processes `--hosts.*`
        flags are added that join them. `{process}` in it becomes the number of each.
      count: processes.
      devices: simulated ones of each process.
      env: variables beside those of this process.
    """
    environment = {
        **os.environ,
        "PYTHONFAULTHANDLER": "1",
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        # Compiling is what takes the time, so as little as possible is optimised.
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0",
        **(env or {}),
    }
    port = free_port()
    with contextlib.ExitStack() as closing:
        processes = []
        for number in range(count):
            flags = []
            if count > 1:
                flags += ["--hosts.coordinator", f"127.0.0.1:{port}", "--hosts.processes", str(count)]
                flags += ["--hosts.process", str(number)]
            arguments = [each.replace("{process}", str(number)) for each in (*program, *flags)]
            processes.append(Process(arguments, environment))
            closing.callback(processes[-1].close)
        yield processes


def run(
    program: list[str], count: int, devices: int, timeout_s: float, *, env: Mapping[str, str] | None = None
) -> list[Finished]:
    """Runs the processes of a program to their ends, as `start` begins them; `timeout_s` is for all of them."""
    end = time.monotonic() + timeout_s
    with start(program, count, devices, env=env) as processes:
        return [each.finish(max(end - time.monotonic(), 0.1)) for each in processes]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _read(file: IO[bytes]) -> str:
    """All of it; where the process that writes it stands stays as it is."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")
