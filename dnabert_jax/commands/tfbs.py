"""`dnabert task tfbs`."""

from pathlib import Path
from typing import Literal

from dnabert_jax.commands.notes import say
from dnabert_jax.experiment import Training

_NONE = Training()


def tfbs(
    *,
    peaks: Path,
    out: Path,
    fasta: Path | None = None,
    window: int = 101,
    negatives: Literal["shuffle", "gc-matched"] = "shuffle",
    negatives_per_peak: int = 1,
    exclude: tuple[Path, ...] = (),
    validation: tuple[str, ...] = (),
    test: tuple[str, ...] = (),
    random_split: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    train: Training = _NONE,
) -> None:
    """Makes binding-site examples (background, bound) from the peaks of a ChIP-seq experiment.

    Args:
      peaks: narrowPeak, BED or FASTA, plain or compressed. Records of a FASTA that are named like chr1:100-200 have
        places in the genome.
      out: folder to make, with train.tsv, validation.tsv, test.tsv, the same as a TFDS dataset, and a README.
      fasta: the genome, plain or bgzip; needed but for shuffles of a FASTA of peaks.
      window: bases in an example, around the summit or the middle of a peak.
      negatives: shuffles of the bound windows that keep their dinucleotides, or windows outside all peaks that are as
        rich in G and C.
      negatives_per_peak: how many of them.
      exclude: further files of peaks that no GC-matched window may touch.
      validation: records or regions (chr20:1-5000000) for validation.
      test: the same for the test; where neither is given, 80, 10 and 10 % of the windows in genome order.
      random_split: draw the split of each group of overlapping windows; the only split there is without places.
      seed: of the negatives and of a random split.
      overwrite: replace an earlier result.
      train: fine-tune on it afterwards.
    """
    from dnabert_jax import experiment
    from dnabert_jax.tasks import tfbs as task

    options = task.Options(window, negatives, negatives_per_peak, validation, test, random_split, seed)
    experiment.check(train)
    print(task.make(peaks, out, options, fasta=fasta, exclude=exclude, overwrite=overwrite, say=say))
    experiment.follow(out, train, say)
