"""What a user sees on stderr while a genome is gone through: a bar with bases per second, or now and then a line."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from dnabert_jax.data.build import Progress

_SECONDS_BETWEEN_LINES = 10.0
_SLOW = 100_000  # bases a second, as when a model reads them


@contextmanager
def shown(console: Console | None = None, doing: str = "building") -> Iterator[Callable[[Progress], None]]:
    """Shows how far a build, or another passage through a genome, is.

    Args:
      console: where to; None is stderr. A terminal gets a bar, anything else a plain line every ten seconds.
      doing: what is shown.

    Yields:
      What `build.build` takes as `progress`.
    """
    console = console or Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        with _bar(console, doing) as update:
            yield update
    else:
        yield _lines(console, doing)


@contextmanager
def _bar(console: Console, doing: str) -> Iterator[Callable[[Progress], None]]:
    columns = (
        SpinnerColumn(),
        TextColumn(doing + " {task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    figures = _Figures()
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, start=False, figures="")

        def update(progress: Progress) -> None:
            bar.start_task(task)  # upon the first chunk; later calls do nothing
            bar.update(
                task,
                description=escape(progress.record),
                completed=progress.bases,
                total=progress.total,
                figures=figures(progress.bases),
            )

        yield update


def _lines(console: Console, doing: str) -> Callable[[Progress], None]:
    figures = _Figures()
    last: float | None = None

    def update(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        shown = figures(progress.bases)
        if last is None:
            last = now
        elif now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            line = f"{doing}: record {progress.record}, {shown}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    return update


class _Figures:
    """How many bases, and how many a second since the first chunk: names and lengths may have been read before it."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def __call__(self, bases: int) -> str:
        now = time.monotonic()
        start, before = self._first = self._first or (now, bases)
        rate = (bases - before) / (now - start) if now > start else 0.0
        digits = 1 if not rate or rate >= _SLOW else 4
        return f"{bases / 1e6:,.1f} million bases, {rate / 1e6:,.{digits}f} million bases/s"
