"""`dnabert build`: FASTA files to a folder of shards, in one stream through the genome.

Which records are taken and which regions are held out for validation is settled before anything is written; where
that takes names or lengths, the files are read once beforehand. What a build leaves behind is a whole dataset or
nothing: it gets its name when it is complete. `beam_build` makes the same dataset on many workers.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from dnabert_jax import kmers, outputs
from dnabert_jax.data import fasta, genome, regions, selection
from dnabert_jax.errors import InputError

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Progress:
    """How far a build is."""

    record: str
    """The one that is being written."""
    bases: int
    """Written so far."""
    total: int | None
    """To be written; None where that is not known beforehand."""


@dataclass(frozen=True)
class Summary:
    """What a build wrote."""

    out: Path
    records: int
    bases: int
    unknown: int
    """Bases that are N."""
    train_bases: int
    validation_bases: int
    skipped_records: int
    """Shorter than the least length."""
    skipped_bases: int
    bytes: int
    """Of all shards."""

    def __str__(self) -> str:
        skipped = f"; {self.skipped_records:,} records too short, skipped" if self.skipped_records else ""
        return (
            f"{self.out}: {self.records:,} record{'s' * (self.records != 1)}, {self.bases:,} bases "
            f"({self.unknown / self.bases:.1%} N), {self.train_bases:,} to train and {self.validation_bases:,} to "
            f"validate, {self.bytes / 1e6:,.1f} MB{skipped}"
        )


def build(
    fasta: Sequence[str | Path],
    out: str | Path,
    *,
    assembly: str = "",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    validation: Sequence[str] = (),
    chunk: int = 65_536,
    min_length: int = kmers.MAX_K,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = regions.note,
) -> Summary:
    """Writes FASTA files as a TFDS dataset of chunks of bases (`genome` has the format, `shards` reads it).

    Memory follows the chunk and the longest record, 1.2 bytes a base of it.

    Args:
      fasta: files, plain, gzip or bgzip; their records are kept in this order.
      out: folder to make.
      assembly: name of the assembly for the metadata, such as `GRCh38`.
      include: names of the records to take; none takes all.
      exclude: names of records to leave out.
      validation: records (`chr20`) or regions (`chr20:1-5000000`, 1-based, end included) that become the split
        `validation`; everything else is `train`.
      chunk: bases per chunk, the unit that is read from disk.
      min_length: records with fewer bases are skipped and counted; the default is the longest k.
      overwrite: replace a dataset that is at `out`.
      progress: is told after each chunk.
      say: is told of record names that were matched in another spelling.

    Raises:
      InputError: a FASTA file that cannot be read (see `fasta.records`), records with one name, a name or region that
        is in none of the files, nothing left to train on, or something at `out`.
      RunStopped: the shards could not be written, as when the disk is full.
    """
    out = Path(out)
    wanted = selection.Wanted(include, exclude, validation, min_length)
    check(fasta, out, chunk, wanted, overwrite)
    paths = [Path(path) for path in fasta]
    selected = selection.EVERYTHING
    if wanted.needs_lengths:
        selected = selection.select(_lengths(paths), wanted, listed(paths), say)
    with outputs.folder(out) as folder:
        written = _write(paths, folder, selected, chunk, min_length, progress)
        return finish(folder, out, assembly, chunk, written)


@dataclass(frozen=True)
class Written:
    """The shards that are in a folder, without what makes a dataset of them."""

    records: list[genome.RecordSize]
    """Those that were taken, in order."""
    skipped: list[int]
    """Bases of each record that is shorter than the least length."""
    sources: list[genome.Source]
    splits: dict[str, tuple[tfds.core.SplitInfo, genome.SplitContents]]


def check(fasta: Sequence[str | Path], out: Path, chunk: int, wanted: selection.Wanted, overwrite: bool) -> None:
    """Looks at what can be wrong before a file is read.

    Raises:
      InputError: no files, figures that cannot be, or something at `out`.
    """
    if isinstance(fasta, (str, Path)):
        raise InputError(f"fasta is the one path {str(fasta)!r}; expected a list of paths")
    if not fasta:
        raise InputError("no FASTA file; expected at least one")
    if chunk < 1:
        raise InputError(f"chunk is {chunk}; expected at least 1 base")
    if wanted.min_length < 1:
        raise InputError(f"min_length is {wanted.min_length}; expected at least 1 base")
    for path in map(Path, fasta):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"{path}: a pipe or device, which can be read only once; expected a file")
    if out.parts[:1] in (("gs:",), ("s3:",)):
        raise InputError(f"{out}: shards are written to files; expected a folder, to be copied when it is complete")
    if not out.name:
        raise InputError(f"{out}: expected the name of a new folder")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise InputError(f"{out}: exists already; expected a new folder, or --overwrite to replace a dataset there")
    genome.read_metadata(out)  # nothing but a dataset is replaced


def finish(folder: Path, out: Path, assembly: str, chunk: int, written: Written) -> Summary:
    """Makes the shards in a folder a dataset, which will be at `out`."""
    contents = {split: each for split, (_, each) in written.splits.items()}
    metadata = genome.Metadata(
        assembly=assembly,
        chunk=chunk,
        bases=sum(size.bases for size in written.records),
        unknown=sum(size.unknown for size in written.records),
        skipped_records=len(written.skipped),
        skipped_bases=sum(written.skipped),
        sources=written.sources,
        records=written.records,
        splits=contents,
    )
    genome.write_metadata(folder, [info for info, _ in written.splits.values()], metadata)
    return Summary(
        out=out,
        records=len(written.records),
        bases=metadata.bases,
        unknown=metadata.unknown,
        train_bases=contents[selection.TRAIN].bases,
        validation_bases=contents[selection.VALIDATION].bases if selection.VALIDATION in contents else 0,
        skipped_records=metadata.skipped_records,
        skipped_bases=metadata.skipped_bases,
        bytes=sum(sum(each.shards.values()) for each in contents.values()),
    )


def nothing_left(paths: list[Path], min_length: int) -> InputError:
    """What is wrong where all records are too short."""
    return InputError(f"{listed(paths)}: no record of at least {min_length} bases; nothing to build from")


def twice(path: Path, name: str, first: Path) -> InputError:
    """What is wrong where a record is in two files."""
    return InputError(f"{path}: record {name!r} is in {first} too; expected a name of its own for each record")


def records(path: Path) -> Iterator[fasta.Record]:
    """The records of one file, as `fasta.records`.

    Raises:
      InputError: as there; also a file that breaks off.
    """
    with _read_errors(path):
        yield from fasta.records(path)


def record_size(record: fasta.Record) -> genome.RecordSize:
    """What the metadata say of a record."""
    # Block by block, for what is compared takes memory too.
    blocks = (record.bases[at : at + _BLOCK] for at in range(0, record.bases.size, _BLOCK))
    unknown = sum(int(np.count_nonzero(block == kmers.N)) for block in blocks)
    return genome.RecordSize(record.name, record.bases.size, unknown)


def source(path: Path) -> genome.Source:
    """What the metadata say of a file.

    Raises:
      InputError: it cannot be read.
    """
    with _read_errors(path), open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return genome.Source(path.name, path.stat().st_size, digest)


def listed(paths: list[Path]) -> str:
    """The files' names, or some of them, for a message."""
    return ", ".join(map(str, paths[:3])) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _write(
    paths: list[Path],
    folder: Path,
    selected: selection.Selection,
    chunk: int,
    min_length: int,
    progress: Callable[[Progress], None] | None,
) -> Written:
    writers: dict[str, genome.SplitWriter] = {}
    sizes: list[genome.RecordSize] = []
    skipped: list[int] = []
    done = 0

    def take(record: fasta.Record) -> None:
        def wrote(bases: int) -> None:
            nonlocal done
            done += bases
            if progress:
                progress(Progress(record.name, done, selected.total))

        for split, start, end in selection.pieces(record.bases.size, selected.held_out.get(record.name, [])):
            if split not in writers:
                writers[split] = genome.SplitWriter(folder, split, chunk)
            writers[split].write(record.name, start, record.bases[start:end], wrote)
        sizes.append(record_size(record))

    try:
        for record in _all_records(paths):
            if record.bases.size < min_length:
                skipped.append(record.bases.size)
            elif selected.taken is None or record.name in selected.taken:
                take(record)
            del record  # or two would be in memory while the next one is read
        if not sizes:
            raise nothing_left(paths, min_length)
        finished = {
            split: writers[split].finish() for split in (selection.TRAIN, selection.VALIDATION) if split in writers
        }
    finally:
        for writer in writers.values():
            writer.abandon()
    return Written(sizes, skipped, [source(path) for path in paths], finished)


def _lengths(paths: list[Path]) -> dict[str, int]:
    lengths = {}
    for record in _all_records(paths):
        lengths[record.name] = record.bases.size
        del record
    return lengths


def _all_records(paths: list[Path]) -> Iterator[fasta.Record]:
    """Records of all files, each name once."""
    files_of: dict[str, Path] = {}
    for path in paths:
        for record in records(path):
            if record.name in files_of:
                raise twice(path, record.name, files_of[record.name])
            files_of[record.name] = path
            yield record
            del record


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read to its end ({error.strerror or error})") from None
