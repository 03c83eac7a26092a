"""The shards that hold a genome: a TensorFlow Datasets folder of ArrayRecord files, made without TensorFlow.

An example is a chunk of bases with the name of its record and its 0-based start there; k-mers are never stored. The
chunks of a contig (a stretch without a cut) follow one another and all but its last have the same length, so the place
of any base is arithmetic. `SplitWriter` streams all splits at once (`array_records`), where TFDS's own builders would
read the genome once for each split and hold a shard in memory. `plan_shards`, `write_shard` and `read_back` make the
very same files where each shard is written by another process.

The folder's `metadata.json`, TFDS's place for it, holds a `Metadata` value, field by field.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from dnabert_jax import kmers
from dnabert_jax.data import array_records
from dnabert_jax.errors import InputError

NAME = "genome"
FORMAT = "dnabert-jax genome 1"
"""Changes whenever a reader of the older format would go wrong."""

FEATURES = tfds.features.FeaturesDict(
    {
        # Stored as a byte string: the default encoding, a varint a base, reads some 15 times slower.
        "bases": tfds.features.Tensor(shape=(None,), dtype=np.uint8, encoding="bytes"),
        "record": tfds.features.Text(),
        "start": tfds.features.Scalar(dtype=np.int64),
    }
)

_DESCRIPTION = "A genome in chunks of bases (A=0, T=1, C=2, G=3, N=4), made by `dnabert build`."


@dataclass(frozen=True)
class Source:
    """A FASTA file that the genome was read from."""

    file: str
    """Its name, without the folder."""
    bytes: int
    sha256: str
    """Of the file as it is on disk, compressed or not; hexadecimal."""


@dataclass(frozen=True)
class RecordSize:
    """A record that was taken."""

    name: str
    bases: int
    unknown: int
    """Bases that are N."""


@dataclass(frozen=True)
class SplitContents:
    """What is in one split."""

    bases: int
    unknown: int
    intervals: list[tuple[str, int, int]]
    """(record, 0-based start, end) of each contig, in the order in which the chunks are stored."""
    shards: dict[str, int]
    """Bytes of each file, to notice one that was cut short."""
    fingerprint: str
    """A BLAKE2b hash of the intervals and their bases."""


@dataclass(frozen=True)
class Metadata:
    """What is known of the genome as a whole."""

    assembly: str
    chunk: int
    """Bases per chunk."""
    bases: int
    unknown: int
    skipped_records: int
    """Records shorter than the least length that was asked for."""
    skipped_bases: int
    sources: list[Source]
    records: list[RecordSize]
    splits: dict[str, SplitContents]
    format: str = field(default=FORMAT)


class SplitWriter:
    """Writes the chunks of one split into shards.

    Args:
      folder: an existing folder.
      split: name of the split.
      chunk: bases per chunk.
    """

    def __init__(self, folder: Path, split: str, chunk: int) -> None:
        self._shards = array_records.SplitWriter(folder, NAME, split, FEATURES)
        self._chunk = chunk
        self._tally = _Tally()

    def write(self, record: str, start: int, bases: np.ndarray, wrote: Callable[[int], None]) -> None:
        """Appends a contig.

        Args:
          record: name of its record.
          start: 0-based place of the contig in its record.
          bases: uint8[n], n > 0.
          wrote: is told the number of bases of each chunk that was written.
        """
        self._tally.contig(record, start, start + bases.size)
        for example in _examples(record, start, bases, self._chunk):
            chunk = example["bases"]
            self._tally.chunk(chunk)
            self._shards.write(example, chunk.size)
            wrote(chunk.size)

    def abandon(self) -> None:
        """Closes the file that is open, if any; the shards are of no use."""
        self._shards.abandon()

    def finish(self) -> tuple[tfds.core.SplitInfo, SplitContents]:
        """Ends the last shard and gives all of them their names.

        Raises:
          OSError: a file cannot be written, here as in `write`.
        """
        info, sizes = self._shards.finish()
        return info, self._tally.contents(sizes)


Stretch = tuple[str, int, int]
"""(record, 0-based start, end)"""


def plan_shards(contigs: Iterable[Stretch], chunk: int) -> list[list[Stretch]]:
    """What each shard of a split holds, as `SplitWriter` divides the contigs: stretches in order, whole chunks each.

    Args:
      contigs: of the split, in order, none empty.
      chunk: bases per chunk.
    """
    shards: list[list[Stretch]] = []
    bases = 0
    for record, start, end in contigs:
        at = start
        while at < end:
            if not shards or array_records.is_full(bases):
                shards.append([])
                bases = 0
            begun = at
            while at < end and not array_records.is_full(bases):
                size = min(chunk, end - at)
                at, bases = at + size, bases + size
            shards[-1].append((record, begun, at))
    return shards


def write_shard(path: Path, stretches: Iterable[tuple[str, int, np.ndarray]], chunk: int) -> int:
    """Writes one shard and counts its chunks.

    Args:
      path: the file.
      stretches: (record, 0-based start, uint8[n] bases) of those that `plan_shards` gives the shard, in order.
      chunk: bases per chunk.

    Raises:
      OSError: it cannot be written.
    """
    examples = (example for stretch in stretches for example in _examples(*stretch, chunk))
    return array_records.write_shard(path, FEATURES, examples)


def read_back(folder: Path, split: str, contigs: Iterable[Stretch], count: int) -> SplitContents:
    """Reads a split that was written shard by shard, and finds what `SplitWriter` would have said of it.

    Args:
      folder: where the shards are, under their names.
      split: name of the split.
      contigs: in order.
      count: of the shards.

    Raises:
      OSError: a shard cannot be read, or does not hold what it should.
    """
    names = array_records.shard_names(NAME, split, count)
    examples = (example for name in names for example in array_records.read_shard(folder / name, FEATURES))
    tally = _Tally()
    for record, start, end in contigs:
        tally.contig(record, start, end)
        at = start
        while at < end:
            example = next(examples, None)
            if example is None or (example["record"].decode(), int(example["start"])) != (record, at):
                raise OSError(f"the shards of {split} do not hold {record}:{at}")
            tally.chunk(example["bases"])
            at += example["bases"].size
    return tally.contents({name: (folder / name).stat().st_size for name in names})


def split_info(folder: Path, split: str, lengths: list[int]) -> tfds.core.SplitInfo:
    """What TFDS keeps of a split whose shards, of so many chunks each, are in the folder."""
    return array_records.split_info(folder, NAME, split, lengths)[0]


def write_metadata(folder: Path, splits: list[tfds.core.SplitInfo], metadata: Metadata) -> None:
    """Makes a folder of finished shards a TFDS dataset."""
    array_records.write_metadata(folder, FEATURES, splits, _DESCRIPTION, dataclasses.asdict(metadata))


def read_metadata(folder: str | Path) -> dict[str, Any]:
    """The fields of `Metadata` of a folder that `dnabert build` wrote.

    Raises:
      InputError: the folder is missing, or is no such dataset.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a dataset made by `dnabert build`")
    try:
        values = json.loads((folder / "metadata.json").read_text())
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError(f"{folder}: not a dataset of this version's `dnabert build`; expected its output folder")
    return values


class _Tally:
    """Gathers what `SplitContents` says of the bases, from the contigs and their chunks in order."""

    def __init__(self) -> None:
        self._intervals: list[Stretch] = []
        self._unknown = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def contig(self, record: str, start: int, end: int) -> None:
        self._intervals.append((record, start, end))
        self._hash.update(json.dumps(self._intervals[-1]).encode())

    def chunk(self, bases: np.ndarray) -> None:
        self._hash.update(bases)
        self._unknown += int(np.count_nonzero(bases == kmers.N))

    def contents(self, sizes: dict[str, int]) -> SplitContents:
        return SplitContents(
            bases=sum(end - start for _, start, end in self._intervals),
            unknown=self._unknown,
            intervals=self._intervals,
            shards=sizes,
            fingerprint=self._hash.hexdigest(),
        )


def _examples(record: str, start: int, bases: np.ndarray, chunk: int) -> Iterator[dict[str, Any]]:
    for offset in range(0, bases.size, chunk):
        yield {"bases": bases[offset : offset + chunk], "record": record, "start": start + offset}
