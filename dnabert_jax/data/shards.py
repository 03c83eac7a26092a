"""A split of a built genome as contigs of bases, any stretch of which can be read.

The chunks are read through TFDS's data source (random access, no TensorFlow) and kept decoded in a bounded cache. What
becomes of the bases is no matter here: `segments` decides which are read.
"""

import bisect
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow_datasets as tfds

from dnabert_jax.data import genome
from dnabert_jax.errors import InputError

SplitName = Literal["train", "validation"]

_SCAN_CHUNKS = 64


@dataclass(frozen=True)
class Contig:
    """A stretch of a record that is whole in the split; the next one begins behind a cut or in another record."""

    name: str
    """Of the record."""
    start: int
    """0-based place in the record."""
    length: int


class Split:
    """The contigs of one split, in file order; `open_split` makes one.

    Bases are addressed by the index of a contig and the 0-based offset in it. Several threads may read at once. A
    pickled Split opens the folder again where it is unpickled, with an empty cache.
    """

    contigs: tuple[Contig, ...]
    fingerprint: str
    """Changes when the bases do or the intervals that they come from."""

    def __init__(self, path: str | Path, split: SplitName, cache_bytes: int) -> None:
        self._arguments = (os.fspath(path), split, cache_bytes)
        metadata = genome.read_metadata(path)
        if split not in metadata["splits"]:
            raise InputError(
                f"{path}: has no split {split!r}; it has {', '.join(metadata['splits'])}"
                + (" (`dnabert build --validation` makes one)" if split == "validation" else "")
            )
        contents = metadata["splits"][split]
        _check_shards(Path(path), contents["shards"])
        self._chunk = int(metadata["chunk"])
        self.contigs = tuple(Contig(name, start, end - start) for name, start, end in contents["intervals"])
        self.fingerprint = contents["fingerprint"]
        self._first_chunk = [0]  # of each contig, and behind the last
        for contig in self.contigs:
            self._first_chunk.append(self._first_chunk[-1] + -(-contig.length // self._chunk))
        self._source = _source(path, split)
        if len(self._source) != self._first_chunk[-1]:
            raise _damaged(path)
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._cached_bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Split, self._arguments

    def read(self, contig: int, start: int, length: int) -> np.ndarray:
        """Bases of one stretch of a contig.

        Args:
          contig: index in `contigs`.
          start: 0-based offset in the contig.
          length: number of bases.

        Returns:
          uint8[length]; not to be written to.

        Raises:
          IndexError: the stretch is not inside the contig.
          InputError: a shard is damaged.
        """
        if not 0 <= contig < len(self.contigs):
            raise IndexError(f"contig {contig} of {len(self.contigs)}")
        end = start + length
        if not 0 <= start <= end <= self.contigs[contig].length:
            raise IndexError(f"bases {start}..{end} of contig {contig}, which has {self.contigs[contig].length}")
        if not length:
            return np.zeros(0, np.uint8)
        base = self._first_chunk[contig]
        first, last = start // self._chunk, (end - 1) // self._chunk
        offset = start - first * self._chunk
        if first == last:
            return self._chunk_at(base + first)[offset : offset + length]
        pieces = [self._chunk_at(base + index) for index in range(first, last + 1)]
        return np.concatenate(pieces)[offset : offset + length]

    def scan(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Every chunk in order, past the cache: (contig index, offset in the contig, uint8 bases).

        Raises:
          InputError: a shard is damaged.
        """
        for begin in range(0, self._first_chunk[-1], _SCAN_CHUNKS):
            indices = list(range(begin, min(begin + _SCAN_CHUNKS, self._first_chunk[-1])))
            for index, bases in zip(indices, self._decoded(indices), strict=True):
                contig, offset, _ = self._place(index)
                yield contig, offset, bases

    def _chunk_at(self, index: int) -> np.ndarray:
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
        (bases,) = self._decoded([index])
        limit = self._arguments[2]
        with self._lock:
            if index not in self._cache:
                self._cache[index] = bases
                self._cached_bytes += bases.nbytes
            while self._cached_bytes > limit:
                _, dropped = self._cache.popitem(last=False)
                self._cached_bytes -= dropped.nbytes
        return bases

    def _decoded(self, indices: list[int]) -> list[np.ndarray]:
        try:
            chunks = [example["bases"] for example in self._source.__getitems__(indices)]
        except Exception:  # whatever the libraries below raise for data that do not read back
            raise _damaged(self._arguments[0]) from None
        for index, bases in zip(indices, chunks, strict=True):
            bases.flags.writeable = False
            if bases.size != self._place(index)[2]:
                raise _damaged(self._arguments[0])
        return chunks

    def _place(self, index: int) -> tuple[int, int, int]:
        """Contig, offset in it and length of a chunk."""
        contig = bisect.bisect_right(self._first_chunk, index) - 1
        offset = (index - self._first_chunk[contig]) * self._chunk
        return contig, offset, min(self._chunk, self.contigs[contig].length - offset)


def open_split(path: str | Path, split: SplitName, cache_bytes: int = 4 << 30) -> Split:
    """Opens a split of a folder that `dnabert build` wrote.

    Args:
      path: the folder.
      split: `train` or `validation`.
      cache_bytes: most memory that decoded chunks are kept in.

    Raises:
      InputError: the folder is no such dataset, lacks the split, or has a shard that is missing or cut short.
    """
    return Split(path, split, cache_bytes)


def has_split(path: str | Path, split: SplitName) -> bool:
    """Whether the dataset has this split.

    Raises:
      InputError: the folder is no dataset of `dnabert build`.
    """
    return split in genome.read_metadata(path)["splits"]


def metadata(path: str | Path) -> dict[str, Any]:
    """Assembly, sizes, N counts, sources and intervals of a dataset: the fields of `genome.Metadata`.

    Raises:
      InputError: the folder is no dataset of `dnabert build`.
    """
    return genome.read_metadata(path)


def _source(path: str | Path, split: SplitName) -> Any:
    try:
        builder = tfds.builder_from_directory(os.fspath(path))
        return builder.as_data_source(split)
    except Exception:  # TFDS raises its own kinds for each file that is missing or does not parse
        raise _damaged(path) from None


def _check_shards(folder: Path, sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        shard = folder / name
        found = shard.stat().st_size if shard.is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes"
            raise InputError(f"{shard}: {state}; expected {size} bytes; copy the folder or run `dnabert build` again")


def _damaged(path: str | Path) -> InputError:
    return InputError(f"{path}: the dataset is damaged; copy the folder or run `dnabert build` again")
