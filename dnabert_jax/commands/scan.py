"""`dnabert scan`."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from dnabert_jax.commands.notes import say


def scan(
    *,
    model: str,
    fasta: Path,
    out: Path,
    regions: tuple[str, ...] = (),
    cls: Annotated[str, tyro.conf.arg(name="class")] = "",
    length: int = 0,
    window: int = 1001,
    stride: int = 100,
    step: int = 50,
    score: Literal["max", "mean"] = "max",
    threshold: float = 0.5,
    strand: Literal["both", "+", "-"] = "both",
    tss: Path | None = None,
    allow_mismatch: bool = False,
    batch_size: int = 64,
) -> None:
    """Slides a promoter model over a genome, calls regions, and compares them with transcription start sites.

    Computes in bfloat16 on a GPU or TPU, in float32 on a CPU.

    Args:
      model: workdir of a fine-tuning run, converted model, Hugging Face folder, or id of a model on its hub.
      fasta: the genome; plain or bgzip.
      out: prefix of the files to write: OUT.bed, what was called; OUT.plus.bedgraph and OUT.minus.bedgraph, the scores
        on each strand; OUT.json, how they were made and how well they meet the TSSs.
      regions: records or regions (chr20:1-5000000) to scan; all records where none is given.
      cls: class to look for; the last one where none is given.
      length: bases that the model reads at once, as many as its training examples have; 0 looks that up where the model
        is a workdir.
      window: bases of a window; its score stands for its centre.
      stride: bases from one window to the next.
      step: bases from one read of the model to the next; divides the stride.
      score: of the reads in a window, the largest score or the mean.
      threshold: a window is called from this score on.
      strand: strands to scan, each by itself.
      tss: GTF, GFF3 or BED of transcription start sites to compare with.
      allow_mismatch: go on where fewer than half of the annotation's introns read GT..AG.
      batch_size: reads of the greatest length scored at once; of shorter ones more, on a CPU fewer.
    """
    from dnabert_jax import scanning
    from dnabert_jax.data.progress import shown

    with shown(doing="scanning") as progress:
        summary = scanning.scan(
            model,
            fasta,
            out,
            named=regions,
            cls=cls,
            length=length,
            window=window,
            stride=stride,
            step=step,
            score=score,
            threshold=threshold,
            strand=strand,
            tss=tss or "",
            allow_mismatch=allow_mismatch,
            batch_size=batch_size,
            progress=progress,
            say=say,
        )
    print(summary)
