"""What a person sees while a run trains: a live display on a terminal, plain lines everywhere else.

Both show the same figures. On a terminal they stand in a table, a column per split, above a bar with the time left; a
figure that is missing from an update keeps its last value. In a file or a pipe each report is one line.
"""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral
from typing import Any, Protocol, TextIO

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dnabert_jax import hosts


class Display(Protocol):
    """What `display` yields."""

    def update(self, step: int, figures: Mapping[str, Any] | None = None, split: str = "train") -> None:
        """Shows that `step` steps are done. Figures are numbers by name, any or none of them; None means unknown."""

    def say(self, line: str) -> None:
        """Shows one line, such as that a checkpoint was saved, and leaves it standing."""


@contextlib.contextmanager
def display(
    total_steps: int,
    start_step: int = 0,
    *,
    title: str = "training",
    stream: TextIO | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[Display]:
    """Shows the progress of a run for as long as the context lasts; of its processes only the first one does.

    Args:
      total_steps: step at which the run ends.
      start_step: step from which it resumes.
      title: what the run is, in a word or two.
      stream: where to; standard output by default. Live when it is a terminal that can move its cursor.
      now: a clock in seconds, from which the time left is told.

    Yields:
      A `Display`.
    """
    stream = sys.stdout if stream is None else stream
    left = _TimeLeft(total_steps, start_step, now)
    if not hosts.is_first():
        yield _Nothing()
    elif stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        with _live(total_steps, start_step, title, stream, left) as shown:
            yield shown
    else:
        yield _Lines(total_steps, title, stream, left)


class _Nothing:
    """For processes that stay silent."""

    def update(self, step: int, figures: Mapping[str, Any] | None = None, split: str = "train") -> None:
        pass

    def say(self, line: str) -> None:
        pass


class _TimeLeft:
    """Seconds left, from the pace since the first step, which itself counts for nothing: it compiles."""

    def __init__(self, total_steps: int, start_step: int, now: Callable[[], float]) -> None:
        self._total, self._start, self._now = total_steps, start_step, now
        self._first: tuple[int, float] | None = None
        self._last: tuple[int, float] | None = None

    def note(self, step: int) -> None:
        if step > self._start and (self._last is None or step > self._last[0]):
            self._last = (step, self._now())
            self._first = self._first or self._last

    def seconds(self) -> float | None:
        if self._first is None or self._last is None:
            return None
        (first, began), (last, ended) = self._first, self._last
        if last >= self._total:
            return 0.0
        return None if last == first else (ended - began) / (last - first) * (self._total - last)


class _Lines:
    """One line a report, flushed, so that a log can be followed.

    A reader that goes away (`| head`, a closed terminal) does not end a training run: it goes on unseen.
    """

    def __init__(self, total_steps: int, title: str, stream: TextIO, left: _TimeLeft) -> None:
        self._total, self._title, self._stream, self._left = total_steps, title, stream, left
        self._read = True

    def update(self, step: int, figures: Mapping[str, Any] | None = None, split: str = "train") -> None:
        self._left.note(step)
        known = {name: value for name, value in (figures or {}).items() if _is_figure(value)}
        if not known:
            return
        words = [
            f"step {step}/{self._total}",
            split,
            *(f"{name} {_shown(name, known[name])}" for name in _order(known)),
        ]
        seconds = self._left.seconds()
        if split == "train" and seconds is not None:
            words.append(f"ETA {_duration(seconds)}")
        self.say("  ".join(words))

    def say(self, line: str) -> None:
        if self._read:
            try:
                print(line, file=self._stream, flush=True)
            except OSError:
                self._read = False


@contextlib.contextmanager
def _live(total_steps: int, start_step: int, title: str, stream: TextIO, left: _TimeLeft) -> Iterator[Display]:
    console = Console(file=stream, force_terminal=True, highlight=False)
    board = _Board(total_steps, start_step, title, left, console)
    with Live(board, console=console, refresh_per_second=4, transient=False):
        yield board


class _Board:
    """The live display: rich asks it for its looks a few times a second."""

    def __init__(self, total_steps: int, start_step: int, title: str, left: _TimeLeft, console: Console) -> None:
        self._total, self._step, self._title, self._left = total_steps, start_step, title, left
        self._console = console
        self._figures: dict[str, dict[str, Any]] = {}

    def update(self, step: int, figures: Mapping[str, Any] | None = None, split: str = "train") -> None:
        self._left.note(step)
        self._step = step
        known = {name: value for name, value in (figures or {}).items() if _is_figure(value)}
        if known:
            # A new dict, never a changed one: the drawing thread may be reading the old one.
            merged = {**self._figures.get(split, {}), **known}
            self._figures = {**self._figures, split: merged}

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __rich__(self) -> Group:
        return Group(*([self._table()] if self._figures else []), self._bar())

    def _table(self) -> Table:
        figures = dict(sorted(self._figures.items(), key=lambda item: item[0] != "train"))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
        table.add_column("figure", style="cyan", no_wrap=True)
        for split in figures:
            table.add_column(split, justify="right", min_width=11, no_wrap=True)
        for name in _order({name: None for column in figures.values() for name in column}):
            table.add_row(name, *(_shown(name, column[name]) if name in column else "" for column in figures.values()))
        return table

    def _bar(self) -> Table:
        seconds = self._left.seconds()
        row = Table.grid(padding=(0, 2))
        row.add_row(
            Text(self._title, style="bold"),
            ProgressBar(total=self._total, completed=self._step, width=30),
            f"step {self._step}/{self._total}",
            Text(f"ETA {'--:--:--' if seconds is None else _duration(seconds)}", style="cyan"),
        )
        return row


_FIRST = (
    "loss",
    "masked_accuracy",
    "accuracy",
    "bits_per_base",
    "learning_rate",
    "gradient_norm",
    "tokens_per_second",
    "useful_share",
)
_SHARES = ("accuracy", "share")


def _order(names: Mapping[str, Any]) -> list[str]:
    """The figures that a reader looks for first, then the others as they came."""
    return [name for name in _FIRST if name in names] + [name for name in names if name not in _FIRST]


def _is_figure(value: Any) -> bool:
    return value is not None and not isinstance(value, Mapping | list | tuple)


def _shown(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    number = float(value)
    if not math.isfinite(number):
        return str(number)
    if name.endswith("learning_rate"):
        return f"{number:.2e}"
    if name.endswith(_SHARES):
        return f"{number:.1%}"
    whole = isinstance(value, Integral) or (number.is_integer() and abs(number) >= 10)
    if whole or number == 0 or abs(number) >= 1000:
        return f"{number:,.0f}"
    if abs(number) >= 10:
        return f"{number:.2f}"
    return f"{number:.4f}" if abs(number) >= 1e-3 else f"{number:.2e}"


def _duration(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return (f"{days}d " if days else "") + f"{hour}:{minute:02d}:{second:02d}"
