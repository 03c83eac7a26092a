"""What ends a process of a run when another one is gone, where it would else wait for it for ever.

The processes of a run hold a connection each to the first one, apart from JAX's. The system closes it when a process
is killed, so the others hear of it at once, say in one line who is gone and from which step the same command goes on,
and end, whatever their main thread waits for: a step, a compilation, a save. A process that ends with an error of its
own says so before it ends. A host that falls silent without closing anything is found by the heartbeats of JAX's
coordination service, which knows no better than to abort the program with a stack trace; where JAX lets us, we end it
in our way instead.

Nothing here says that a process is well: a run that needs no end is never touched.
"""

import atexit
import contextlib
import ctypes
import functools
import json
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

LOST = 69
"""Exit status where another process is gone: EX_UNAVAILABLE."""

_KEY = "dnabert/watch"
_BEAT_S = 1.0
_CONNECTS_WITHIN_S = 20.0
_ENDS_ALIKE_WITHIN_S = 5.0
"""How long a process that ends waits for the others to come to the same end, and they for themselves."""
_NAMED_WITHIN_S = 10.0
_LINGERS_S = 2.0
_SILENT_S = 5.0

_watch: "_Watch | None" = None
_newest: list[Callable[[], int | None]] = []
_is_joining = False


def watch(process: int, processes: int, coordinator: str, client: Any) -> None:
    """Watches the other processes from now on, and lets them watch this one.

    Args:
      process, processes: number of this one, and how many there are.
      coordinator: HOST:PORT at which the first process is reached; only the host counts.
      client: of JAX's coordination service, through which the port is found.
    """
    global _watch
    if process == 0:
        listener, secret = socket.create_server(("", 0)), secrets.token_hex(16)
        client.key_value_set(_KEY, json.dumps([listener.getsockname()[1], secret]))
        _watch = _Watch(0, processes)
        threading.Thread(target=_receive, args=(_watch, listener, secret), daemon=True).start()
    else:
        _watch = _Watch(process, processes)
        # Without a way there, JAX's heartbeats are what is left. Its client raises a RuntimeError.
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            port, secret = json.loads(client.blocking_key_value_get(_KEY, int(1000 * _CONNECTS_WITHIN_S)))
            host = coordinator.rpartition(":")[0].strip("[]")
            connection = socket.create_connection((host, port), timeout=_CONNECTS_WITHIN_S)
            _send(connection, {"process": process, "secret": secret})
            _watch.connect(0, connection)
    threading.Thread(target=_watch.run, daemon=True).start()
    atexit.register(_watch.leave)


@contextlib.contextmanager
def saved_in(newest: Callable[[], int | None]) -> Iterator[None]:
    """Inside, the line that ends this process names the step that `newest` finds; None where nothing is saved."""
    _newest.append(newest)
    try:
        yield
    finally:
        _newest.remove(newest)


def tell(line: str, status: int) -> bool:
    """Says to the other processes that this one ends, and how; a second call says nothing.

    Returns:
      Whether all of them end, too. Otherwise they are about to be ended, and nothing that waits for them may be called.
    """
    return _watch is None or _watch.tell(line, status)


def is_said_by_first(line: str) -> bool:
    """Whether the first process ends with this very line, so that it says it for all."""
    return _watch is not None and _watch.is_said_by_first(line)


def leave(status: int) -> None:
    """Ends this process now where it told that it would and the others do not come along; else does nothing.

    An end in good order would wait for them in JAX.
    """
    if _watch is not None and _watch.ends_alone:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        _watch.end("", status)
    if _is_joining:
        _end_joining("", status)


def quieten() -> None:
    """Keeps what JAX logs about a lost process from standing beside our one line. To be called before JAX is loaded."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "0":  # with 0 somebody looks for these lines; JAX itself sets 1
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


@contextlib.contextmanager
def aborts_caught() -> Iterator[None]:
    """Inside, `jax.distributed.initialize` is told to leave the end of this process to `watch`, where it can be told.

    JAX ends a process by a fatal log entry with a stack trace once its coordination service is gone or reports a lost
    process. Its client takes a function to be called instead, but JAX offers no way to give it one, so it is given
    here where the client is made. In JAX 0.10 to 0.12 that function cannot be called, as its argument has no form in
    Python, and C++ ends the process by `std::terminate`; so what this calls is replaced, too.
    """
    try:
        from jax._src.lib import _jax

        make = _jax.get_distributed_runtime_client
    except (ImportError, AttributeError):
        yield
        return

    @functools.wraps(make)
    def make_ours(*arguments: Any, **others: Any) -> Any:
        try:
            client = make(*arguments, missed_heartbeat_callback=_service_is_gone, **others)
        except TypeError:  # another JAX, that takes no such function
            return make(*arguments, **others)
        _terminate_caught()
        return client

    _jax.get_distributed_runtime_client = make_ours
    try:
        yield
    finally:
        _jax.get_distributed_runtime_client = make


@contextlib.contextmanager
def joining(processes: int) -> Iterator[None]:
    """While JAX joins processes that have met: one that ends inside does so at once, and says so if another is gone.

    A half-joined client of JAX would wait for the others at exit, and then end the process by `std::terminate`.
    """
    global _is_joining
    import jax

    _is_joining = True
    try:
        yield
    except RuntimeError:  # also where the exception is of C++, for lack of a form in Python
        if not jax.distributed.is_initialized():  # never came to joining
            _is_joining = False
            raise
        _end_joining(_line_of_joining(processes), LOST)
    _is_joining = False


def _line_of_joining(processes: int) -> str:
    return (
        f"error: one of {processes} processes is gone (killed, or its host or network is down) before all had joined; "
        "start again with the same command"
    )


def _end_joining(line: str, status: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    if line:
        with contextlib.suppress(OSError):
            os.write(2, f"{line}\n".encode())
    os._exit(status)


def _service_is_gone(*_: Any) -> None:
    """Called in a thread of JAX once its coordination service is gone, or says that a process is."""
    if _watch is not None:
        _watch.wait_for_end()
        _watch.end(_watch.line_of(None), LOST)
    os._exit(LOST)


_terminate_before: Any = None
_terminate_ours: Any = None  # kept, for C++ has its address only


def _terminate_caught() -> None:
    global _terminate_before, _terminate_ours
    kind = ctypes.CFUNCTYPE(None)
    try:
        set_terminate = ctypes.CDLL("libstdc++.so.6")._ZSt13set_terminatePFvvE
    except (OSError, AttributeError):  # another C++ library
        return
    set_terminate.argtypes, set_terminate.restype = [kind], kind

    def terminated() -> None:
        if _watch is not None and _watch.is_anyone_missing():
            _service_is_gone()
        _terminate_before()  # a defect of a library, that is to be seen as one

    _terminate_ours = kind(terminated)
    _terminate_before = set_terminate(_terminate_ours)
    atexit.register(lambda: set_terminate(_terminate_before))


def _receive(watch: "_Watch", listener: socket.socket, secret: str) -> None:
    """Takes the connections of the others until all have come."""
    with listener:
        while not watch.is_complete:
            connection, _ = listener.accept()
            with contextlib.suppress(OSError, ValueError, AttributeError):
                connection.settimeout(_CONNECTS_WITHIN_S)
                with connection.makefile("rb", buffering=0) as lines:  # what follows the line is for the watch
                    said = json.loads(lines.readline(1_000))
                if said.get("secret") == secret:
                    watch.connect(said["process"], connection)
                    continue
            connection.close()


class _Watch:
    """The connections of this process: to all others on the first, to the first on the others.

    A line is empty, as a sign of life, or an object: `gone` is a process that is no more, `ended` a process that ends
    with a line and a status, `left` one that has come to its good end. The first process passes them on.
    """

    def __init__(self, process: int, processes: int) -> None:
        self._process, self._processes = process, processes
        self._connections: dict[int, socket.socket] = {}
        self._received: dict[int, bytes] = {}
        self._heard_s: dict[int, float] = {}
        self._ended: dict[int, tuple[str, int]] = {}
        self._left: set[int] = set()
        self._told_s: float | None = None
        self._others_end_by_s: float | None = None
        self._is_ending = False
        self._changed = threading.Condition()
        self._selector = selectors.DefaultSelector()

    @property
    def is_complete(self) -> bool:
        return len(self._connections) == self._processes - 1

    @property
    def ends_alone(self) -> bool:
        return self._process in self._ended and not self._all_end()

    def connect(self, process: int, connection: socket.socket) -> None:
        connection.settimeout(_BEAT_S)
        with self._changed:
            self._connections[process] = connection
            self._heard_s[process] = time.monotonic()
            self._selector.register(connection, selectors.EVENT_READ, process)

    def run(self) -> None:
        beat_s = 0.0
        while True:
            if self._connections:
                ready = self._selector.select(_BEAT_S / 4)
            else:
                time.sleep(_BEAT_S / 4)
                ready = []
            for key, _ in ready:
                self._read(key.data, key.fileobj)
            now = time.monotonic()
            if now > beat_s:
                self._send_all(None)
                beat_s = now + _BEAT_S
            if self._others_end_by_s is not None and now > self._others_end_by_s and self._process not in self._ended:
                process, (line, status) = next(iter(self._ended.items()))
                self.end(f"error: {self._name(process)} ended: {line}", status)

    def tell(self, line: str, status: int) -> bool:
        with self._changed:
            if self._told_s is None:
                self._told_s = time.monotonic()
                self._ended[self._process] = (line, status)
                self._send_all({"ended": [self._process, line, status]})
            self._changed.wait_for(self._all_end, self._told_s + _ENDS_ALIKE_WITHIN_S - time.monotonic())
            return self._all_end()

    def is_said_by_first(self, line: str) -> bool:
        return self._process != 0 and self._ended.get(0, ("", 0))[0] == line

    def is_anyone_missing(self) -> bool:
        """Whether some process is gone, or silent."""
        end = time.monotonic() + _NAMED_WITHIN_S
        while time.monotonic() < end:
            if self._is_ending or self._silent() or not self.is_connected:
                return True
            time.sleep(_BEAT_S / 4)
        return False

    @property
    def is_connected(self) -> bool:
        return bool(self._connections)

    def wait_for_end(self) -> None:
        """Gives the watch time to end this process with the name of who is gone."""
        for process in self._silent():
            self._gone(process)
        time.sleep(_NAMED_WITHIN_S)

    def line_of(self, process: int | None) -> str:
        """What is said where a process is gone; None is one that has no name."""
        who = f"a process of {self._processes}" if process is None else self._name(process)
        step = _step_saved()
        again = (
            "start again with the same command to go on from step " + str(step)
            if step is not None
            else "nothing was saved yet, so the same command begins anew"
            if _newest
            else "start again with the same command"  # the workdir has not been looked at
        )
        return f"error: {who} is gone (killed, or its host or network is down); {again}"

    def end(self, line: str, status: int) -> None:
        """Ends this process; a second call never returns either."""
        with self._changed:
            waits, self._is_ending = self._is_ending, True
        if waits:
            time.sleep(3600)
        if line:
            if sys.stdout.isatty():
                line = "\x1b[?25h\r" + line  # the cursor, which a live display hides
            with contextlib.suppress(OSError):
                os.write(2, f"{line}\n".encode())
        if self._process == 0:
            time.sleep(_LINGERS_S)  # with it goes JAX's coordination service, so the others go first
        os._exit(status)

    def leave(self) -> None:
        """Says that this process has come to its end in good order."""
        self._send_all({"left": self._process})

    def _read(self, process: int, connection: socket.socket) -> None:
        try:
            received = connection.recv(65_536)
        except TimeoutError:
            return
        except OSError:
            received = b""
        if not received:
            with self._changed:
                self._selector.unregister(connection)
            # Later than that it has ended because this process, or one that both heard of, said that it would.
            ends_s = [self._others_end_by_s] if self._others_end_by_s is not None else []
            ends_s += [self._told_s + _ENDS_ALIKE_WITHIN_S] if self._told_s is not None else []
            in_time = not ends_s or time.monotonic() < min(ends_s) - 0.1 * _ENDS_ALIKE_WITHIN_S
            if in_time and process not in self._left and process not in self._ended:
                self._gone(process)
            return
        self._heard_s[process] = time.monotonic()
        *lines, rest = (self._received.get(process, b"") + received).split(b"\n")
        self._received[process] = rest
        for line in filter(None, lines):
            self._hear(json.loads(line))

    def _hear(self, said: dict[str, Any]) -> None:
        if "gone" in said:
            self._gone(said["gone"])
            return
        with self._changed:
            if "left" in said:
                self._left.add(said["left"])
            else:
                process, line, status = said["ended"]
                self._ended[process] = (line, status)
                self._others_end_by_s = self._others_end_by_s or time.monotonic() + _ENDS_ALIKE_WITHIN_S
            if self._process == 0:
                self._send_all(said)
            self._changed.notify_all()

    def _gone(self, process: int) -> None:
        self._send_all({"gone": process})
        self.end(self.line_of(process), LOST)

    def _send_all(self, said: dict[str, Any] | None) -> None:
        with self._changed:
            for connection in self._connections.values():
                with contextlib.suppress(OSError):  # reading tells of one that is gone
                    _send(connection, said)

    def _all_end(self) -> bool:
        return len(self._ended.keys() | self._left) == self._processes

    def _silent(self) -> list[int]:
        now = time.monotonic()
        silent = {process: now - heard for process, heard in self._heard_s.items() if now - heard > _SILENT_S}
        return sorted(silent, key=silent.get, reverse=True)

    def _name(self, process: int) -> str:
        return f"process {process} of {self._processes}"


def _send(connection: socket.socket, said: dict[str, Any] | None) -> None:
    connection.sendall((json.dumps(said) if said else "").encode() + b"\n")


def _step_saved() -> int | None:
    """The newest step on disk, if that is found within a moment."""
    found: list[int | None] = []
    if _newest:
        looking = threading.Thread(target=lambda: found.append(_newest[0]()), daemon=True)
        looking.start()
        looking.join(_LINGERS_S)
    return found[0] if found else None
