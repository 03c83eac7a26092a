"""`dnabert factors`."""

from pathlib import Path
from typing import Literal

from dnabert_jax.commands.notes import say
from dnabert_jax.errors import RunStopped


def factors(
    *,
    peaks: Path,
    out: Path,
    fasta: Path | None = None,
    recipe: str = "tfbs",
    init: str = "",
    window: int = 101,
    negatives: Literal["shuffle", "gc-matched"] = "shuffle",
    negatives_per_peak: int = 1,
    exclude: tuple[Path, ...] = (),
    validation: tuple[str, ...] = (),
    test: tuple[str, ...] = (),
    random_split: bool = False,
    seed: int = 0,
) -> None:
    """Trains a model for each transcription factor of a folder of peak files, and shows how good they are together.

    Started again with the same flags it goes on where it stopped.

    Args:
      peaks: folder of narrowPeak, BED or FASTA files, plain or compressed; one factor a file, of its name.
      out: folder for <factor>/data, <factor>/model, factors.tsv, factors.png and factors.html.
      fasta: the genome, plain or bgzip.
      recipe: of the fine-tuning: a name in configs/ or a .py file.
      init: model that every factor starts from: a workdir, a converted model, a Hugging Face folder or hub id.
      window: as in `dnabert task tfbs`, and so are the flags that follow.
      negatives: shuffles of the bound windows, or windows outside all peaks that are as rich in G and C.
      negatives_per_peak: how many of them.
      exclude: further files of peaks that no GC-matched window may touch.
      validation: records or regions (chr20:1-5000000) for validation.
      test: the same for the test; where neither is given, 80, 10 and 10 % of the windows in genome order.
      random_split: draw the split of each group of overlapping windows.
      seed: of the negatives, of a random split, and of training.
    """
    from dnabert_jax import factors as program
    from dnabert_jax.tasks import tfbs

    examples = tfbs.Options(window, negatives, negatives_per_peak, validation, test, random_split, seed)
    outcome = program.run(
        peaks, out, fasta=fasta, recipe=recipe, init=init, examples=examples, exclude=exclude, say=say
    )
    print(outcome)
    if outcome.failed:
        raise RunStopped(
            f"{len(outcome.failed)} of {len(outcome.failed) + len(outcome.results)} factors gave no model: "
            f"{', '.join(outcome.failed)}"
        )
