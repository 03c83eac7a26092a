"""Processes that wait for each other before they are joined, here as threads."""

import json
import socket
import threading
import time
from collections.abc import Callable

from dnabert_jax import rendezvous
from dnabert_jax.errors import InputError, RunStopped
from tests.processes import free_port

LONG_S = 60.0


def _outcomes(*calls: Callable[[], None]) -> list[str]:
    """What each of the calls raised, or nothing, where they run side by side."""
    found = [""] * len(calls)

    def run(number: int, call: Callable[[], None]) -> None:
        try:
            call()
        except (InputError, RunStopped) as error:
            found[number] = f"{type(error).__name__}: {error}"

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LONG_S)
        assert not thread.is_alive()
    return found


def _meet(port: int, processes: int, process: int, wait_s: float = LONG_S) -> Callable[[], None]:
    return lambda: rendezvous.meet(f"127.0.0.1:{port}", processes, process, wait_s)


def test_all_come():
    port = free_port()
    assert _outcomes(*(_meet(port, 3, process) for process in (2, 0, 1))) == ["", "", ""]
    assert _outcomes(*(_meet(port, 2, process) for process in (0, 1))) == ["", ""]  # the port is free again at once


def test_some_do_not_come():
    port = free_port()
    line = f"RunStopped: processes 2, 3 of 4 did not come to 127.0.0.1:{port} within 1 s"
    assert _outcomes(_meet(port, 4, 0, 1.0), _meet(port, 4, 1)) == [line, line]


def test_the_first_does_not_come():
    port = free_port()
    (line,) = _outcomes(_meet(port, 2, 1, 1.0))
    assert line.startswith(
        f"RunStopped: process 1 of 2 did not find process 0 at 127.0.0.1:{port} within 1 s; expected"
    )


def test_two_have_one_number():
    port = free_port()
    found = _outcomes(_meet(port, 3, 0), _meet(port, 3, 1), _meet(port, 3, 1))
    line = "InputError: two processes are number 1 of 3; expected each number from 0 once"
    assert found == [line, line, line]


def test_two_were_told_of_different_numbers():
    port = free_port()
    line = "InputError: process 1 was told of 4 processes and process 0 of 2; expected the same number for all"
    assert _outcomes(_meet(port, 2, 0), _meet(port, 4, 1)) == [line, line]


def test_a_taken_port():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        (line,) = _outcomes(_meet(port, 2, 0))
    assert line.startswith(f"RunStopped: 127.0.0.1:{port}: process 0 cannot listen there (")


def test_a_process_that_was_started_again_takes_its_place():
    """And a connection of somebody else is no process."""
    port = free_port()
    again: list[str] = []

    def strangers() -> None:
        for said in (b"GET / HTTP/1.1\n", b'{"process": 1, "processes": 3}\n'):
            end = time.monotonic() + LONG_S
            while time.monotonic() < end:
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=LONG_S) as connection:
                        connection.sendall(said)
                        time.sleep(0.2)
                    break
                except OSError:
                    time.sleep(0.1)
        again.extend(_outcomes(_meet(port, 3, 1), _meet(port, 3, 2)))

    assert _outcomes(_meet(port, 3, 0), strangers) == ["", ""]
    assert again == ["", ""]


def test_what_is_said_is_json_on_a_line():
    here, there = socket.socketpair()
    with here, there:
        there.sendall(json.dumps({"word": "go"}).encode() + b"\n")
        assert rendezvous._heard(here) == {"word": "go"}
        there.sendall(b"[1]\n")
        assert rendezvous._heard(here) == {}
