"""`dnabert predict`, `embed` and `convert`: what is done with a model."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from dnabert_jax.commands.notes import say


def predict(
    *,
    model: str,
    input: Path,
    output: Path,
    fasta: Path | None = None,
    long: Literal["error", "window", "pieces"] = "error",
    stride: int = 0,
    batch_size: int = 64,
) -> None:
    """Scores sequences with a fine-tuned model: one row per record, window or base, in input order.

    Computes in bfloat16 on a GPU or TPU, in float32 on a CPU, and sequences of about one length together.

    Args:
      model: workdir of a fine-tuning run, converted model, Hugging Face folder, or id of a model on its hub.
      input: FASTA, TSV or CSV with a column `sequence`, or BED with --fasta; may be compressed.
      output: tab-separated file to write: id, the likeliest class, and the probability of each class. With several
        labels the column `classes` names those above 0.5; a regression has its numbers only; a classifier of bases has
        a row for each base, with its 0-based position.
      fasta: FASTA that a BED points into.
      long: what to do with a record longer than the model was trained on: an error; windows that slide over it, each
        with a row and its start and end; or pieces, whose outputs are averaged to one row.
      stride: bases from one window to the next, at most a window; 0 takes half of one.
      batch_size: sequences of the greatest length that the model reads, or parts of longer ones, scored at once, as far
        as memory allows. Of shorter ones more are; on a CPU fewer, for its caches' sake.
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


def embed(
    *,
    model: str,
    input: Path,
    output: Path,
    fasta: Path | None = None,
    pool: Literal["mean", "cls", "none"] = "mean",
    join: Literal["mean", "concatenate"] = "mean",
    pieces: int = 0,
    long: Literal["pieces", "error"] = "pieces",
    batch_size: int = 64,
) -> None:
    """Writes embeddings of sequences: one vector per record, or one per k-mer, with the ids.

    Computes in bfloat16 on a GPU or TPU, in float32 on a CPU, and sequences of about one length together.

    Args:
      model: workdir of a run, converted model, Hugging Face folder, or id of a model on its hub.
      input: FASTA, TSV or CSV with a column `sequence`, or BED with --fasta; may be compressed.
      output: file to write. NAME.npz has `ids` and `embeddings`, and with --pool none `offsets`, where each record's
        k-mers begin; NAME.parquet has the columns `id` and `embedding`.
      fasta: FASTA that a BED points into.
      pool: mean over the k-mers of a record; cls, the state of its [CLS]; or none, a vector for each k-mer.
      join: what becomes of the pieces of a record that is longer than the model reads: their mean, or all of their
        vectors side by side.
      pieces: how many places there are side by side; records with fewer get zeros.
      long: what to do with a record longer than the model reads: cut it into pieces, or an error.
      batch_size: sequences of the greatest length that the model reads, or pieces of longer ones, computed at once, as
        far as memory allows. Of shorter ones more are; on a CPU fewer, for its caches' sake.
    """
    from dnabert_jax import embedding

    rows = embedding.embed(
        model,
        input,
        output,
        fasta=fasta or "",
        pool=pool,
        join=join,
        pieces=pieces,
        long=long,
        batch_size=batch_size,
        say=say,
    )
    say(f"{output}: {rows:,} records")


def convert(
    src: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")],
    dst: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DST")],
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
