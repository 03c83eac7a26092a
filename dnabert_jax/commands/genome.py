"""`dnabert build`: from FASTA files to shards."""

from pathlib import Path

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
