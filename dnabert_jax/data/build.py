"""`dnabert build`: FASTA files to a folder of shards, in one stream through the genome.

Which records are taken and which regions are held out for validation is settled before anything is written; where
that takes names or lengths, the files are read once beforehand. What a build leaves behind is a whole dataset or
nothing: it gets its name when it is complete.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnabert_jax import kmers, outputs
from dnabert_jax.data import fasta, genome, regions
from dnabert_jax.errors import InputError

TRAIN, VALIDATION = "train", "validation"

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
    _check(fasta, out, chunk, min_length, overwrite)
    paths = [Path(path) for path in fasta]
    selection = _select(paths, include, exclude, validation, min_length, say)
    with outputs.folder(out) as folder:
        return _write(paths, folder, out, assembly, selection, chunk, min_length, progress)


@dataclass(frozen=True)
class _Selection:
    """Which records are taken, and the sorted disjoint intervals of each that are held out."""

    taken: frozenset[str] | None
    """None takes every record that is long enough."""
    held_out: Mapping[str, list[tuple[int, int]]]
    total: int | None
    """Bases of the records that are taken, where they were counted."""


def _check(fasta: Sequence[str | Path], out: Path, chunk: int, min_length: int, overwrite: bool) -> None:
    if isinstance(fasta, (str, Path)):
        raise InputError(f"fasta is the one path {str(fasta)!r}; expected a list of paths")
    if not fasta:
        raise InputError("no FASTA file; expected at least one")
    if chunk < 1:
        raise InputError(f"chunk is {chunk}; expected at least 1 base")
    if min_length < 1:
        raise InputError(f"min_length is {min_length}; expected at least 1 base")
    for path in map(Path, fasta):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"{path}: a pipe or device, which can be read only once; expected a file")
    if not out.name:
        raise InputError(f"{out}: expected the name of a new folder")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise InputError(f"{out}: exists already; expected a new folder, or --overwrite to replace a dataset there")
    genome.read_metadata(out)  # nothing but a dataset is replaced


def _select(
    paths: list[Path],
    include: Sequence[str],
    exclude: Sequence[str],
    validation: Sequence[str],
    min_length: int,
    say: Callable[[str], None],
) -> _Selection:
    if not (include or exclude or validation):
        return _Selection(None, {}, None)
    lengths = {}
    for record in _records(paths):
        lengths[record.name] = record.bases.size
        del record
    taken = _named(include, lengths, "include", say) or set(lengths)
    taken -= _named(exclude, lengths, "exclude", say)
    kept = {name: lengths[name] for name in lengths if name in taken and lengths[name] >= min_length}
    if not kept:
        raise InputError(f"{_listed(paths)}: no record of at least {min_length} bases is left to build from")
    try:
        # A name may look like a region, as HLA's do: the name goes first.
        held_out = [regions.Region(text, 0, kept[text]) for text in validation if text in kept]
        held_out += regions.resolve([text for text in validation if text not in kept], kept, say)
    except InputError as error:
        raise InputError(f"--validation: {error}") from None
    intervals: dict[str, list[tuple[int, int]]] = {}
    for region in sorted(held_out, key=lambda region: region.start):
        merged = intervals.setdefault(region.name, [])
        if merged and region.start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], region.end))
        else:
            merged.append((region.start, region.end))
    total = sum(kept.values())
    if total == sum(end - start for spans in intervals.values() for start, end in spans):
        raise InputError(f"--validation takes all {total:,} bases; expected some to be left to train on")
    return _Selection(frozenset(kept), intervals, total)


def _named(wanted: Sequence[str], known: Mapping[str, int], flag: str, say: Callable[[str], None]) -> set[str]:
    found = set()
    for text in wanted:
        try:
            name = regions.match_name(text, known)
        except InputError as error:
            raise InputError(f"--{flag}: {error}") from None
        if name is None:
            shown = ", ".join(map(repr, list(known)[:5])) + (f" and {len(known) - 5} more" if len(known) > 5 else "")
            raise InputError(f"--{flag}: no record {text!r}; there are {shown}")
        if name != text:
            say(f"{text} is taken to be record {name}")
        found.add(name)
    return found


def _write(
    paths: list[Path],
    folder: Path,
    out: Path,
    assembly: str,
    selection: _Selection,
    chunk: int,
    min_length: int,
    progress: Callable[[Progress], None] | None,
) -> Summary:
    writers: dict[str, genome.SplitWriter] = {}
    sizes: list[genome.RecordSize] = []
    skipped: list[int] = []
    done = 0

    def take(record: fasta.Record) -> None:
        def wrote(bases: int) -> None:
            nonlocal done
            done += bases
            if progress:
                progress(Progress(record.name, done, selection.total))

        for split, start, end in _pieces(record.bases.size, selection.held_out.get(record.name, [])):
            if split not in writers:
                writers[split] = genome.SplitWriter(folder, split, chunk)
            writers[split].write(record.name, start, record.bases[start:end], wrote)
        sizes.append(genome.RecordSize(record.name, record.bases.size, _unknown(record.bases)))

    try:
        for record in _records(paths):
            if record.bases.size < min_length:
                skipped.append(record.bases.size)
            elif selection.taken is None or record.name in selection.taken:
                take(record)
            del record  # or two would be in memory while the next one is read
        if not sizes:
            raise InputError(f"{_listed(paths)}: no record of at least {min_length} bases; nothing to build from")
        finished = {split: writers[split].finish() for split in (TRAIN, VALIDATION) if split in writers}
    finally:
        for writer in writers.values():
            writer.abandon()
    contents = {split: each for split, (_, each) in finished.items()}
    metadata = genome.Metadata(
        assembly=assembly,
        chunk=chunk,
        bases=sum(size.bases for size in sizes),
        unknown=sum(size.unknown for size in sizes),
        skipped_records=len(skipped),
        skipped_bases=sum(skipped),
        sources=[_source(path) for path in paths],
        records=sizes,
        splits=contents,
    )
    genome.write_metadata(folder, [info for info, _ in finished.values()], metadata)
    return Summary(
        out=out,
        records=len(sizes),
        bases=metadata.bases,
        unknown=metadata.unknown,
        train_bases=contents[TRAIN].bases,
        validation_bases=contents[VALIDATION].bases if VALIDATION in contents else 0,
        skipped_records=metadata.skipped_records,
        skipped_bases=metadata.skipped_bases,
        bytes=sum(sum(each.shards.values()) for each in contents.values()),
    )


def _unknown(bases: np.ndarray) -> int:
    blocks = (bases[at : at + _BLOCK] for at in range(0, bases.size, _BLOCK))  # what is compared takes memory too
    return sum(int(np.count_nonzero(block == kmers.N)) for block in blocks)


def _records(paths: list[Path]) -> Iterator[fasta.Record]:
    """Records of all files, each name once."""
    files_of: dict[str, Path] = {}
    for path in paths:
        for record in _reading(path):
            if record.name in files_of:
                raise InputError(
                    f"{path}: record {record.name!r} is in {files_of[record.name]} too; "
                    "expected a name of its own for each record"
                )
            files_of[record.name] = path
            yield record
            del record


def _reading(path: Path) -> Iterator[fasta.Record]:
    with _read_errors(path):
        yield from fasta.records(path)


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read to its end ({error.strerror or error})") from None


def _pieces(length: int, held_out: list[tuple[int, int]]) -> Iterator[tuple[str, int, int]]:
    """(split, start, end) of a record in order, cut where a held-out interval begins and ends."""
    at = 0
    for start, end in held_out:
        if at < start:
            yield TRAIN, at, start
        yield VALIDATION, start, end
        at = end
    if at < length:
        yield TRAIN, at, length


def _source(path: Path) -> genome.Source:
    with _read_errors(path), open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return genome.Source(path.name, path.stat().st_size, digest)


def _listed(paths: list[Path]) -> str:
    return ", ".join(map(str, paths[:3])) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
