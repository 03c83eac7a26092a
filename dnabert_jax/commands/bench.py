"""`dnabert bench` and `dnabert bench compare`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dnabert_jax import huge_pages
from dnabert_jax.config import AttentionKernel
from dnabert_jax.errors import InputError, RunStopped


def bench(
    *,
    workloads: tuple[str, ...] = (),
    batch_size: int = 0,
    steps: int = 30,
    synthetic: bool = False,
    peer: Literal["none", "torch"] = "none",
    quick: bool = False,
    compute_dtype: Literal["auto", "bfloat16", "float32"] = "auto",
    attention: AttentionKernel = "auto",
    scan_layers: bool = True,
    remat: Literal["none", "full", "dots_saveable"] = "none",
    breakdown: bool = True,
    output: Path | None = None,
    report: Path | None = None,
) -> None:
    """Measures how fast this machine trains and predicts; `dnabert bench compare A.json B.json` compares two results.

    Args:
      workloads: pretrain-base-512, pretrain-base-512-padded, finetune-base-128, predict-base-512, input-pipeline,
        compile; all of them where none is given.
      batch_size: rows of a step; 0 finds the largest power of two that fits an accelerator, and is 8 on a CPU.
      steps: timed steps of each workload.
      synthetic: train on tokens that the device draws, so that no input is waited for.
      peer: time Hugging Face's BERT in PyTorch in turn with pretraining.
      quick: the same workloads at a tiny size: two minutes on a laptop's CPU.
      compute_dtype: type of activations and matrix products; auto is the suite's, bfloat16, but float32 on a CPU.
      attention: attention kernel; auto takes the accelerator's fused one where it can run.
      scan_layers: run the layers as one scanned loop, or unrolled.
      remat: what the backward pass computes again instead of keeping.
      breakdown: time the parts of pretrain-base-512 by themselves, too.
      output: JSON file to write, after each workload anew.
      report: HTML file to write.
    """
    huge_pages.ask()
    from dnabert_jax.bench import progress, result, suite, table
    from dnabert_jax.bench.choices import Choices

    choices = Choices(
        batch_size=batch_size,
        compute_dtype=compute_dtype,
        attention=attention,
        scan_layers=scan_layers,
        remat=remat,
        synthetic=synthetic,
        steps=steps,
        quick=quick,
    )
    for path in filter(None, (output, report)):
        result.check_writable(path)
    if report and report.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{report}: expected a name that ends in .html")
    if output and report and output.resolve() == report.resolve():
        raise InputError(f"{output}: is to be both the JSON and the report; expected two files")
    with progress.shown() as heard:
        found = suite.run(
            choices,
            workloads,
            peer=peer,
            breakdown=breakdown,
            command=shlex.join(["dnabert", *sys.argv[1:]]),
            heard=heard,
            so_far=lambda found: result.write(found, output) if output else None,
        )
    try:
        if report:
            from dnabert_jax.report import speed

            speed.write(found, report)
    finally:  # the table is last, for whoever reads it may go away, and comes though the report cannot be written
        table.show(found, table.console())
    if found["failures"]:
        raise RunStopped(f"not measured: {', '.join(each['name'] for each in found['failures'])}")


def compare(
    first: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="A.json")],
    second: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="B.json")],
) -> None:
    """Prints the ratios of two results of `dnabert bench --output`, the second over the first, with their spread.

    Args:
      first: JSON file of a result.
      second: JSON file of another.
    """
    from dnabert_jax.bench import compare as comparing
    from dnabert_jax.bench import result, table

    compared, notes = comparing.compare(result.read(first), result.read(second))
    if not compared:
        raise InputError(f"{second}: has no workload that {first} has; expected results of the same workloads")
    console = table.console()
    console.print(comparing.shown(compared))
    for note in notes:
        console.print(note)
