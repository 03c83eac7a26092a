"""What a user sees on stderr while the benchmark runs: what it is at on a terminal, and a line for each job done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from dnabert_jax.bench.result import Measured
from dnabert_jax.bench.suite import Said


@contextmanager
def shown(console: Console | None = None) -> Iterator[Callable[[Said], None]]:
    """Shows how far a run is.

    Args:
      console: where to; None is stderr. A terminal gets a line that changes, too.

    Yields:
      What `suite.run` takes as `heard`.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda said: _line(console, said)
        return
    with console.status("starting") as status:

        def heard(said: Said) -> None:
            if said.kind in ("begun", "progress"):
                status.update(escape(f"{said.name}: {said.value or 'starting'}"))
            _line(console, said)

        yield heard


def _line(console: Console, said: Said) -> None:
    line = None
    if said.kind == "done":
        line = "done"
        if isinstance(said.value, Measured):
            timing = said.value.timing
            line = f"{len(timing.seconds)} steps of {timing.median_ms:,.2f} ms, batch size {said.value.batch_size}"
    elif said.kind in ("failed", "refused"):
        line = f"failed: {said.value}"
    elif said.kind == "too_large":
        line = f"{said.value} rows do not fit; trying {said.value // 2}"
    if line:
        console.print(f"{said.name}: {line}", markup=False, highlight=False, soft_wrap=True)
