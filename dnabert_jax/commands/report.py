"""`dnabert report`."""

from pathlib import Path
from typing import Annotated

import tyro

from dnabert_jax.commands.notes import say


def report(
    workdir: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="WORKDIR")],
    *,
    against: tuple[str, ...] = (),
    output: Path | None = None,
) -> None:
    """Draws a fine-tuning run: one HTML file with figures and their intervals, curves, and what went wrong.

    Args:
      workdir: of a fine-tuning run that has ended.
      against: workdirs of others that were judged on the same data, to be set beside it, such as one from random
        params.
      output: HTML file to write; when not given, report.html in the workdir.
    """
    from dnabert_jax.report import write

    print(write(workdir, against=against, output=output, say=say))
