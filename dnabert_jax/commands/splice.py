"""`dnabert task splice`."""

from pathlib import Path

from dnabert_jax.commands.notes import say


def splice(
    *,
    fasta: Path,
    gtf: Path,
    out: Path,
    window: int = 400,
    validation: tuple[str, ...] = (),
    test: tuple[str, ...] = (),
    negatives_per_site: int = 1,
    keep_non_canonical: bool = False,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Makes splice-site examples (donor, acceptor, neither) from a genome and its annotation.

    Args:
      fasta: the genome; plain or bgzip.
      gtf: its exons, as GTF or GFF3.
      out: folder for train.tsv, validation.tsv, test.tsv and a README.
      window: bases in an example; even.
      validation: records or regions (chr20:1-5000000) for validation.
      test: the same for the test; where neither is given, 80, 10 and 10 % of the sites are cut between genes.
      negatives_per_site: windows with GT or AG labelled neither, for each site.
      keep_non_canonical: keep sites that do not read GT or AG.
      seed: of the choice of negatives.
      overwrite: replace an earlier result.
    """
    from dnabert_jax.tasks import splice as task

    summary = task.make(
        fasta,
        gtf,
        out,
        window=window,
        validation=validation,
        test=test,
        negatives_per_site=negatives_per_site,
        keep_non_canonical=keep_non_canonical,
        seed=seed,
        overwrite=overwrite,
        say=say,
    )
    print(summary)
