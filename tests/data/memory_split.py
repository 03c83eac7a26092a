"""A split of bases in memory that stands in for one on disk, so that the tests of what reads a split are fast."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from dnabert_jax.data.shards import Contig


class MemorySplit:
    """What `shards.Split` offers, over arrays.

    Args:
      contigs: uint8[n_i] of bases each.
      chunk: bases that `scan` yields at once.
    """

    def __init__(self, contigs: Sequence[np.ndarray], chunk: int = 64) -> None:
        self._bases = [np.asarray(bases, np.uint8) for bases in contigs]
        self._chunk = chunk
        self.contigs = tuple(Contig(f"record{index}", 0, bases.size) for index, bases in enumerate(self._bases))
        self.fingerprint = hashlib.sha256(b"|".join(bases.tobytes() for bases in self._bases)).hexdigest()[:32]

    def read(self, contig: int, start: int, length: int) -> np.ndarray:
        if not 0 <= start <= start + length <= self._bases[contig].size:
            raise IndexError(f"bases {start}..{start + length} of contig {contig}")
        return self._bases[contig][start : start + length]

    def scan(self) -> Iterator[tuple[int, int, np.ndarray]]:
        for index, bases in enumerate(self._bases):
            for start in range(0, bases.size, self._chunk):
                yield index, start, bases[start : start + self._chunk]


def random_bases(seed: int, length: int, unknown: Sequence[tuple[int, int]] = ()) -> np.ndarray:
    """uint8[length] of random bases, with N in the given half-open intervals."""
    bases = np.random.default_rng(seed).integers(0, 4, length, dtype=np.uint8)
    for start, end in unknown:
        bases[start:end] = 4
    return bases
