"""`dnabert task promoter`."""

from pathlib import Path
from typing import Literal

from dnabert_jax.commands.notes import say
from dnabert_jax.experiment import Training

_NONE = Training()


def promoter(
    *,
    out: Path,
    fasta: Path | None = None,
    gtf: Path | None = None,
    tss: Path | None = None,
    sequences: Path | None = None,
    core: bool = False,
    kind: Literal["tata", "non-tata", "all"] = "all",
    tata_score: float = 3.37,
    negatives: Literal["paper", "genome", "shuffle", "deepromoter"] = "paper",
    distance: int = 1000,
    allow_mismatch: bool = False,
    validation: tuple[str, ...] = (),
    test: tuple[str, ...] = (),
    random_split: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    train: Training = _NONE,
) -> None:
    """Makes examples of promoters and of what looks like one, from start sites or a list of sequences.

    The promoters are those of --sequences, or else of --tss, or else of --gtf; what else is given says where no
    window of the genome is drawn from as a negative.

    Args:
      out: folder to make, with train.tsv, validation.tsv, test.tsv, the same as a TFDS dataset, and a README.
      fasta: the genome; plain or bgzip.
      gtf: exons, as GTF or GFF3; a promoter begins where the first exon of a transcript does, or of a gene where the
        transcripts are not told.
      tss: BED of transcription start sites, one base each, with the strand in column 6.
      sequences: promoters of 300 bases, the 250th the start site: one a line, FASTA, or a table with a column
        `sequence`.
      core: the 70 bases of -34..+35, and not the 300 of -249..+50.
      kind: promoters with a TATA box at -35..-20, those without one, or all.
      tata_score: bits that TBP's weight matrix (JASPAR MA0108.2) has to score for a box; one place in 200 of random DNA
        has 3.37.
      negatives: genome, windows outside promoters that have a TATA box at the same place where the promoter has one,
        and none where it has none; shuffle, the promoter with its dinucleotides shuffled; deepromoter, the promoter
        with 12 of its 20 pieces replaced; or paper, genome for promoters with a TATA box and shuffle for those without.
      distance: bases; windows of the genome lie further than this from every known site.
      allow_mismatch: go on where fewer than half of the introns of --gtf read GT..AG.
      validation: records or regions (chr20:1-5000000) for validation.
      test: the same for the test; where neither is given, 80, 10 and 10 % of the promoters in genome order.
      random_split: draw the split of each promoter, or of each group of promoters that overlap; needed with
        --sequences.
      seed: of the negatives and of a random split.
      overwrite: replace an earlier result.
      train: fine-tune on it afterwards.
    """
    from dnabert_jax import experiment
    from dnabert_jax.tasks import promoter as task

    options = task.Options(
        core, kind, tata_score, negatives, distance, allow_mismatch, validation, test, random_split, seed
    )
    files = {"fasta": fasta, "gtf": gtf, "tss": tss, "sequences": sequences}
    experiment.check(train)
    print(task.make(out, options, **files, overwrite=overwrite, say=say))
    experiment.follow(out, train, say)
