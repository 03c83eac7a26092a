"""Where the processes of a run wait for each other before JAX joins them.

JAX's own joining ends a program with a stack trace when a process does not come. Here the first process listens where
JAX will listen, every other one comes and says who it is, and all go on together or end with one line that names what
is wrong.
"""

import contextlib
import json
import socket
import time

from dnabert_jax.errors import InputError, RunStopped

_AGAIN_S = 0.5
_GREETING_S = 5.0


def meet(coordinator: str, processes: int, process: int, wait_s: float) -> None:
    """Returns once all processes of a run have come.

    Args:
      coordinator: HOST:PORT at which process 0 is reached; it listens on this port of all its addresses.
      processes: how many there are.
      process: number of this one.
      wait_s: longest wait.

    Raises:
      InputError: two processes have one number, or were told of different counts.
      RunStopped: some did not come in time, or the port is taken.
    """
    end = time.monotonic() + wait_s
    host, _, port = coordinator.rpartition(":")
    if process == 0:
        _receive(coordinator, int(port), processes, wait_s, end)
    else:
        _come(coordinator, host.strip("[]"), int(port), processes, process, wait_s, end)


def _receive(coordinator: str, port: int, processes: int, wait_s: float, end: float) -> None:
    try:
        listener = _listen(port)
    except OSError as error:
        raise RunStopped(
            f"{coordinator}: process 0 cannot listen there ({error.strerror}); expected a free port in "
            "--hosts.coordinator"
        ) from None
    with listener, contextlib.ExitStack() as open_ones:
        listener.settimeout(_AGAIN_S)
        here: dict[int, socket.socket] = {}
        while len(here) < processes - 1:
            if time.monotonic() > end:
                missing = [str(number) for number in range(1, processes) if number not in here]
                line = f"{_listed(missing)} of {processes} did not come to {coordinator} within {wait_s:g} s"
                _answer_all(here, "late", line)
                raise RunStopped(line)
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            open_ones.enter_context(connection)
            said = _heard(connection)
            if not all(isinstance(said.get(name), int) for name in ("process", "processes")):  # not one of ours
                continue
            here = {number: each for number, each in here.items() if _is_waiting(each)}  # others are to come again
            wrong = _wrong(said, processes, here)
            if wrong:
                _answer_all({**here, -1: connection}, "wrong", wrong)
                raise InputError(wrong)
            here[said["process"]] = connection
        listener.close()
        _answer_all(here, "go", "")
        for connection in here.values():  # the others hang up first, which leaves the port free at once
            _heard(connection)


def _come(coordinator: str, host: str, port: int, processes: int, process: int, wait_s: float, end: float) -> None:
    while time.monotonic() < end:
        try:
            with socket.create_connection((host, port), timeout=_GREETING_S) as connection:
                connection.sendall(json.dumps({"process": process, "processes": processes}).encode() + b"\n")
                said = _heard(connection, end + _GREETING_S)
        except OSError:  # nobody listens yet, or the name is not known yet
            said = {}
        match said.get("word"):
            case "go":
                return
            case "wrong":
                raise InputError(said["line"])
            case "late":
                raise RunStopped(said["line"])
        time.sleep(_AGAIN_S)
    raise RunStopped(
        f"process {process} of {processes} did not find process 0 at {coordinator} within {wait_s:g} s; expected it to "
        "run there, or --hosts.detect False to run alone"
    )


def _wrong(said: dict, processes: int, here: dict[int, socket.socket]) -> str:
    number, told = said["process"], said["processes"]
    if told != processes:
        return (
            f"process {number} was told of {told} processes and process 0 of {processes}; expected the same number "
            "for all"
        )
    if number == 0 or number in here:
        return f"two processes are number {number} of {processes}; expected each number from 0 once"
    return ""


def _is_waiting(connection: socket.socket) -> bool:
    """Whether the other side is still there, which says nothing while it waits."""
    connection.settimeout(0)
    try:
        return bool(connection.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _answer_all(connections: dict[int, socket.socket], word: str, line: str) -> None:
    for connection in connections.values():
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps({"word": word, "line": line}).encode() + b"\n")


def _heard(connection: socket.socket, end: float | None = None) -> dict:
    """The JSON object that the other side sends as a line; empty where it sends none."""
    end = time.monotonic() + _GREETING_S if end is None else end
    text = b""
    connection.settimeout(_AGAIN_S)
    while not text.endswith(b"\n") and time.monotonic() < end and len(text) < 10_000:
        try:
            more = connection.recv(1_000)
        except TimeoutError:
            continue
        except OSError:
            return {}
        if not more:
            return {}
        text += more
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _listed(numbers: list[str]) -> str:
    shown = numbers[:8] + ([f"{len(numbers) - 8} more"] if len(numbers) > 8 else [])
    return ("process " if len(numbers) == 1 else "processes ") + ", ".join(shown)
