"""What a user sees on stderr while a genome is built: a bar with bases per second, or now and then a plain line."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from dnabert_jax.data.build import Progress

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def shown(console: Console | None = None) -> Iterator[Callable[[Progress], None]]:
    """Shows how far a build is.

    Args:
      console: where to; None is stderr. A terminal gets a bar, anything else a plain line every ten seconds.

    Yields:
      What `build.build` takes as `progress`.
    """
    console = console or Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        with _bar(console) as update:
            yield update
    else:
        yield _lines(console)


@contextmanager
def _bar(console: Console) -> Iterator[Callable[[Progress], None]]:
    columns = (
        SpinnerColumn(),
        TextColumn("building {task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    start = time.monotonic()
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, figures="")

        def update(progress: Progress) -> None:
            bar.update(
                task,
                description=escape(progress.record),
                completed=progress.bases,
                total=progress.total,
                figures=_figures(progress.bases, time.monotonic() - start),
            )

        yield update


def _lines(console: Console) -> Callable[[Progress], None]:
    start = last = time.monotonic()

    def update(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            line = f"building: record {progress.record}, {_figures(progress.bases, now - start)}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    return update


def _figures(bases: int, seconds: float) -> str:
    rate = bases / seconds if seconds > 0 else 0.0
    return f"{bases / 1e6:,.1f} million bases, {rate / 1e6:,.1f} million bases/s"
