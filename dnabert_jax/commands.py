"""What each `dnabert` subcommand takes and does. Every function's signature and docstring are its flags and its help.

Imports of the heavy parts are inside, so that `dnabert --help` and bad flags answer at once.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dnabert_jax.errors import InputError


def say(line: str) -> None:
    """A note to the user, on standard error, where it mixes with no output."""
    print(line, file=sys.stderr, flush=True)


def build(
    *,
    fasta: tuple[Path, ...],
    out: Path,
    assembly: str = "",
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    validation: tuple[str, ...] = (),
    min_length: int = 12,
    overwrite: bool = False,
) -> None:
    """Builds a dataset of ArrayRecord shards from FASTA files: bases only, so that it serves every k.

    Args:
      fasta: FASTA files; plain, gzip or bgzip.
      out: folder to write.
      assembly: name of the assembly, such as GRCh38; goes into the metadata.
      include: records to take; all when empty.
      exclude: records to leave out.
      validation: records, or regions such as chr20:1-5000000 (1-based, inclusive), that are held out.
      min_length: records with fewer bases are skipped and counted.
      overwrite: replace an earlier dataset in the folder.
    """
    from dnabert_jax.data import build as building
    from dnabert_jax.data.progress import shown

    if not fasta:
        raise InputError("--fasta names no file; expected one or more")
    with shown() as progress:
        summary = building.build(
            fasta,
            out,
            assembly=assembly,
            include=include,
            exclude=exclude,
            validation=validation,
            min_length=min_length,
            overwrite=overwrite,
            progress=progress,
            say=say,
        )
    print(summary)


def predict(
    *,
    model: Path,
    input: Path,
    output: Path,
    fasta: Path | None = None,
    long: Literal["error", "window"] = "error",
    stride: int = 0,
    batch_size: int = 64,
) -> None:
    """Scores sequences with a fine-tuned model: one row per record, in input order.

    Args:
      model: workdir of a fine-tuning run.
      input: FASTA, TSV or CSV with a column `sequence`, or BED with --fasta; may be compressed.
      output: tab-separated file to write: id, class, and the probability of each class.
      fasta: FASTA that a BED points into.
      long: what to do with a record longer than the model reads: an error, or windows that slide over it.
      stride: bases from one window to the next, at most a window; 0 takes half of one.
      batch_size: sequences scored at once.
    """
    from dnabert_jax import prediction

    rows = prediction.predict(
        model,
        input,
        output,
        fasta=fasta or "",
        long=long,
        stride=stride,
        batch_size=batch_size,
        say=say,
    )
    say(f"{output}: {rows:,} rows")


def convert(
    src: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")],
    dst: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DST")],
    *,
    to: Literal["huggingface", "flax"],
    permute_vocabulary: bool = False,
    lenient: bool = False,
    overwrite: bool = False,
) -> None:
    """Writes a model in another form: Hugging Face's, or the project's own without its run.

    Args:
      src: workdir of a run, converted model, Hugging Face folder, or id of a model on Hugging Face's hub.
      dst: folder to write.
      to: the form.
      permute_vocabulary: put a vocabulary that has DNABERT's tokens in another order into DNABERT's.
      lenient: pass over tensors that the model does not have, and read one without its whole head as bare encoder.
      overwrite: replace an earlier conversion in the folder.
    """
    from dnabert_jax import convert as converting

    options = {"strict": not lenient, "permute": permute_vocabulary, "overwrite": overwrite}
    print(converting.convert(src, dst, to, **options, say=say))


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
