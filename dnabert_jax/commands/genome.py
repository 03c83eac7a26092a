"""`dnabert build`: from FASTA files to shards."""

import functools
from pathlib import Path
from typing import Literal

from dnabert_jax.commands.notes import say
from dnabert_jax.errors import InputError


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
    beam_runner: Literal["DirectRunner", "FlinkRunner", "SparkRunner", "DataflowRunner"] | None = None,
    beam_options: tuple[str, ...] = (),
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
      beam_runner: build on the workers of this runner of Apache Beam, the same dataset; here in one process without it.
      beam_options: options of its pipeline, as NAME=VALUE or NAME, such as direct_num_workers=8.
    """
    from dnabert_jax.data import beam_build
    from dnabert_jax.data import build as building
    from dnabert_jax.data.progress import shown

    if not fasta:
        raise InputError("--fasta names no file; expected one or more")
    if beam_options and not beam_runner:
        raise InputError("--beam-options without --beam-runner; expected both, or neither")
    make = building.build
    if beam_runner:
        make = functools.partial(beam_build.build, runner=beam_runner, options=beam_options)
    with shown() as progress:
        summary = make(
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
