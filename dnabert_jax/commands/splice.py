"""`dnabert task splice`."""

from pathlib import Path
from typing import Literal

from dnabert_jax.commands.notes import say
from dnabert_jax.experiment import Training

_NONE = Training()


def splice(
    *,
    fasta: Path,
    gtf: Path,
    out: Path,
    window: int = 400,
    negatives: tuple[Literal["decoy", "exon", "intron"], ...] = ("decoy", "decoy", "exon", "intron"),
    negatives_per_site: int = 1,
    keep_non_canonical: bool = False,
    allow_mismatch: bool = False,
    validation: tuple[str, ...] = (),
    test: tuple[str, ...] = (),
    random_split: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    train: Training = _NONE,
) -> None:
    """Makes splice-site examples (donor, acceptor, neither) from a genome and its annotation.

    Args:
      fasta: the genome; plain or bgzip.
      gtf: its exons, as GTF or GFF3.
      out: folder to make, with train.tsv, validation.tsv, test.tsv, the same as a TFDS dataset, and a README.
      window: bases in an example; even.
      negatives: what is labelled neither: windows with GT or AG where there is no site, and interiors of exons and of
        introns, in turn; a kind that is named twice gets twice the share.
      negatives_per_site: how many of them.
      keep_non_canonical: keep sites that do not read GT or AG.
      allow_mismatch: go on where fewer than half of the introns read GT..AG.
      validation: records or regions (chr20:1-5000000) for validation.
      test: the same for the test; where neither is given, 80, 10 and 10 % of the sites are cut between genes.
      random_split: draw the split of each group of genes that overlap, where no regions are given.
      seed: of the choice of negatives and of a random split.
      overwrite: replace an earlier result.
      train: fine-tune on it afterwards.
    """
    from dnabert_jax import experiment
    from dnabert_jax.tasks import splice as task
    from dnabert_jax.tasks.splits import Choice

    options = task.Options(
        window,
        negatives,
        negatives_per_site,
        keep_non_canonical,
        allow_mismatch,
        Choice(validation, test, random_split, seed),
    )
    experiment.check(train)
    print(task.make(fasta, gtf, out, options, overwrite=overwrite, say=say))
    experiment.follow(out, train, say)
