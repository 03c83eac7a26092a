"""What is shown while a genome is built, on a terminal and in a log."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from dnabert_jax.data import progress
from dnabert_jax.data.build import Progress


def _console(terminal):
    # Whatever TERM says where the tests run.
    environment = {"TERM": "xterm"}
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, legacy_windows=False, _environ=environment)


class _Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = _Clock()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=clock))
    return clock


def test_a_log_gets_a_line_every_ten_seconds(clock):
    """The time before the first chunk, in which names and lengths may be read, does not count."""
    console = _console(terminal=False)
    with progress.shown(console) as update:
        for second in range(26):
            clock.now = 300.0 + second
            update(Progress("chr[1]", second * 40_000_000, None))
    assert console.file.getvalue().splitlines() == [
        "building: record chr[1], 400.0 million bases, 40.0 million bases/s",
        "building: record chr[1], 800.0 million bases, 40.0 million bases/s",
    ]


def test_a_short_build_leaves_a_log_alone(clock):
    console = _console(terminal=False)
    with progress.shown(console) as update:
        update(Progress("20", 100, 100))
    assert console.file.getvalue() == ""


@pytest.mark.parametrize("total", [None, 1000])
def test_a_terminal_gets_a_bar_with_bases_a_second(total):
    console = _console(terminal=True)
    with progress.shown(console) as update:
        for bases in range(0, 1001, 100):
            update(Progress("chr[1]", bases, total))
    shown = console.file.getvalue()
    assert "chr[1]" in shown
    assert "million bases/s" in shown


def test_figures_count_from_the_first_chunk(clock):
    clock.now, figures = 300.0, progress._Figures()
    assert figures(65_536) == "0.1 million bases, 0.0 million bases/s"
    clock.now += 2
    assert figures(80_065_536) == "80.1 million bases, 40.0 million bases/s"
