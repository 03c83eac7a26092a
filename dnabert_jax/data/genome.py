"""The shards that hold a genome: a TensorFlow Datasets folder of ArrayRecord files, made without TensorFlow.

An example is a chunk of bases with the name of its record and its 0-based start there; k-mers are never stored. The
chunks of a contig (a stretch without a cut) follow one another and all but its last have the same length, so the place
of any base is arithmetic. The writer streams all splits at once (`array_records`), where TFDS's own builders would read
the genome once for each split and hold a shard in memory.

The folder's `metadata.json`, TFDS's place for it, holds a `Metadata` value, field by field.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
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
        self._intervals: list[tuple[str, int, int]] = []
        self._unknown = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def write(self, record: str, start: int, bases: np.ndarray, wrote: Callable[[int], None]) -> None:
        """Appends a contig.

        Args:
          record: name of its record.
          start: 0-based place of the contig in its record.
          bases: uint8[n], n > 0.
          wrote: is told the number of bases of each chunk that was written.
        """
        self._intervals.append((record, start, start + bases.size))
        self._hash.update(json.dumps(self._intervals[-1]).encode())
        for offset in range(0, bases.size, self._chunk):
            chunk = bases[offset : offset + self._chunk]
            self._hash.update(chunk)
            self._unknown += int(np.count_nonzero(chunk == kmers.N))
            self._shards.write({"bases": chunk, "record": record, "start": start + offset}, chunk.size)
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
        contents = SplitContents(
            bases=sum(end - start for _, start, end in self._intervals),
            unknown=self._unknown,
            intervals=self._intervals,
            shards=sizes,
            fingerprint=self._hash.hexdigest(),
        )
        return info, contents


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
