"""Processes that watch each other, without JAX: a killed one, one that ends alone, all that end alike, a good end."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnabert_jax import lost

TIMEOUT_S = 120
_PROGRAM = """
import pathlib, sys, time
from dnabert_jax import lost

number, count, folder, then = int(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3]), sys.argv[4]
lost._LINGERS_S, lost._ENDS_ALIKE_WITHIN_S = 0.5, float(sys.argv[5])


class Store:
    '''What JAX's client does, by files.'''

    def key_value_set(self, key, value):
        temporary = folder / "key.tmp"
        temporary.write_text(value)
        temporary.rename(folder / "key")

    def blocking_key_value_get(self, key, timeout_ms):
        while not (folder / "key").exists():
            time.sleep(0.01)
        return (folder / "key").read_text()


lost.watch(number, count, "127.0.0.1:1", Store())
while not lost._watch.is_connected or (number == 0 and not lost._watch.is_complete):
    time.sleep(0.01)
print("here", flush=True)
sys.stdin.readline()
with lost.saved_in(lambda: 12):
    if then == "wait":
        time.sleep(600)
    elif then.startswith("fail"):
        alike = lost.tell(then, 3)
        print("alike" if alike else "alone", lost.is_said_by_first(then), flush=True)
        lost.leave(3)
        sys.exit(4)
"""


@contextlib.contextmanager
def _started(folder: Path, *then: str) -> Iterator[list[subprocess.Popen]]:
    """A process for each word of what it does once all are connected."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", _PROGRAM]
    waits_s = "1" if "wait" in then else str(TIMEOUT_S)  # for those that never come, or until all have come
    started = [
        subprocess.Popen([*command, str(number), str(len(then)), str(folder), word, waits_s], **pipes)
        for number, word in enumerate(then)
    ]
    try:
        for each in started:
            assert each.stdout.readline() == "here\n", each.communicate(timeout=TIMEOUT_S)
        for each in started:
            each.stdin.write("\n")
            each.stdin.flush()
        yield started
    finally:
        for each in started:
            each.kill()
            each.communicate(timeout=TIMEOUT_S)


def _ends(process: subprocess.Popen) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("victim", [0, 2])
def test_all_hear_of_one_that_is_killed(tmp_path, victim):
    with _started(tmp_path, "wait", "wait", "wait") as started:
        time.sleep(0.2)
        started[victim].send_signal(signal.SIGKILL)
        left = [_ends(each) for number, each in enumerate(started) if number != victim]
    line = f"error: process {victim} of 3 is gone (killed, or its host or network is down); "
    again = "start again with the same command to go on from step 12\n"
    assert left == [(lost.LOST, "", line + again)] * 2


@pytest.mark.parametrize("failing", [0, 1])
def test_one_that_ends_alone_ends_the_others(tmp_path, failing):
    then = ["wait"] * 3
    then[failing] = "fails so"
    with _started(tmp_path, *then) as started:
        ends = [_ends(each) for each in started]
    assert ends.pop(failing) == (3, "alone False\n", "")
    assert ends == [(3, "", f"error: process {failing} of 3 ended: fails so\n")] * 2


def test_all_that_end_alike_go_their_own_way(tmp_path):
    with _started(tmp_path, "fails so", "fails so", "fails otherwise") as started:
        ends = [_ends(each) for each in started]
    assert ends == [(4, "alike False\n", ""), (4, "alike True\n", ""), (4, "alike False\n", "")]


def test_a_good_end_disturbs_nobody(tmp_path):
    with _started(tmp_path, "wait", "end", "wait") as started:
        assert _ends(started[1]) == (0, "", "")
        time.sleep(1)
        assert started[0].poll() is None
        assert started[2].poll() is None


def test_what_comes_right_behind_the_greeting_is_heard():
    watch = lost._Watch(0, 2)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        with socket.create_connection(listener.getsockname(), timeout=TIMEOUT_S) as other:
            lines = [{"process": 1, "secret": "s"}, {"ended": [1, "fails so", 3]}]
            other.sendall("".join(json.dumps(each) + "\n" for each in lines).encode())
            lost._receive(watch, listener, "s")
            watch._read(1, watch._connections[1])
        with watch._connections[1]:
            assert watch._ended == {1: ("fails so", 3)}


def test_one_that_ends_because_another_said_so_is_not_gone(monkeypatch):
    watch, said = lost._Watch(0, 3), []
    monkeypatch.setattr(watch, "_gone", said.append)
    here, there = socket.socketpair()
    with here:
        watch.connect(2, here)
        watch._hear({"ended": [1, "fails so", 3]})
        watch._others_end_by_s = time.monotonic()
        there.close()
        watch._read(2, here)
    assert said == []


def test_one_process_has_nobody_to_tell():
    assert lost.tell("anything", 1)
    assert not lost.is_said_by_first("anything")
    lost.leave(1)  # which returns
