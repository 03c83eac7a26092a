"""Each case runs in a process of its own: signals reach a main thread, and no test runner guarantees that it is one."""

import subprocess
import sys

import pytest

START = """
import signal, threading
from dnabert_jax.training.signals import StopSignals
"""


def output(script: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", START + script], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_the_first_signal_is_noted_and_the_work_goes_on(name):
    script = f"""
with StopSignals() as stop:
    print(stop.received)
    signal.raise_signal(signal.{name})
    print(stop.received)
"""
    assert output(script) == ["None", name]


def test_the_second_signal_interrupts_at_once():
    script = """
try:
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGTERM)
        print(stop.received)
        signal.raise_signal(signal.SIGINT)
        print("unreachable")
except KeyboardInterrupt:
    print("interrupted", stop.received)
"""
    assert output(script) == ["SIGTERM", "interrupted", "SIGTERM"]


def test_the_handlers_of_before_come_back():
    script = """
def own(number, frame):
    print("own")
signal.signal(signal.SIGTERM, own)
signal.signal(signal.SIGINT, signal.SIG_IGN)
with StopSignals():
    pass
signal.raise_signal(signal.SIGTERM)
print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
"""
    assert output(script) == ["own", "True"]


def test_another_thread_catches_nothing_and_does_not_fail():
    script = """
before = signal.getsignal(signal.SIGTERM)
def work():
    with StopSignals() as stop:
        print(stop.received, signal.getsignal(signal.SIGTERM) is before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    assert output(script) == ["None", "True"]


def test_a_hang_up_is_noted_unless_nohup_had_it_ignored():
    script = """
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
with StopSignals() as stop:
    signal.raise_signal(signal.SIGHUP)
    print(stop.received)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with StopSignals() as stop:
    signal.raise_signal(signal.SIGHUP)
    print(stop.received)
print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)
"""
    assert output(script) == ["SIGHUP", "None", "True"]


def test_a_signal_to_one_of_many_runs_is_one_to_the_program_around_them():
    script = """
with StopSignals() as outer:
    with StopSignals():
        pass
    print(outer.received)
    with StopSignals():
        signal.raise_signal(signal.SIGTERM)
    print(outer.received)
"""
    assert output(script) == ["None", "SIGTERM"]
