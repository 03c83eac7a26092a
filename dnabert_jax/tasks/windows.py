"""Windows of a genome, read on the strand of their gene, and those of equal size around borders in genes.

A *border* is where two parts of a gene meet, such as exon and intron, given as the 0-based coordinate of the first base
to its right on the forward strand. A window holds as many bases on either side of it, so what stands at the border is
in the middle of every window, on either strand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dnabert_jax import kmers
from dnabert_jax.data.fasta import IndexedFasta
from dnabert_jax.tasks import splits
from dnabert_jax.tasks.dataset import Place


class Locus(NamedTuple):
    """Genes on one strand that overlap one another: 0-based half-open."""

    record: str
    strand: str
    start: int
    end: int


def at(record: str, border: int, strand: str, half: int) -> Place:
    """The place of the window around a border, with `half` bases on either side of it."""
    return Place(record, int(border) - half, int(border) + half, strand)


def read(genome: IndexedFasta, place: Place) -> np.ndarray:
    """The bases of any window, on its strand: uint8[n].

    Raises:
      InputError: as `IndexedFasta.fetch`.
    """
    bases = genome.fetch(place.record, place.start, place.end)
    return kmers.reverse_complement(bases) if place.strand == "-" else bases


@dataclass(frozen=True)
class Windows:
    """Windows of a genome, with where each belongs."""

    genome: IndexedFasta
    lengths: Mapping[str, int]
    territories: splits.Territories
    half: int
    """Bases on either side of a border."""

    def around(self, locus: Locus) -> "Reading":
        """The bases of a locus and of half a window on either side, as far as the record goes."""
        start = max(locus.start - self.half, 0)
        end = min(locus.end + self.half, self.lengths[locus.record])
        bases = read(self.genome, Place(locus.record, start, end, locus.strand))
        return Reading(self, locus, start, end, bases)


class Reading:
    """A locus and half a window on either side, read on its own strand."""

    def __init__(self, windows: Windows, locus: Locus, start: int, end: int, bases: np.ndarray) -> None:
        self.locus, self.half = locus, windows.half
        self._windows, self._start, self._end, self._bases = windows, start, end, bases
        self._unknown = np.concatenate([[0], np.cumsum(bases == kmers.N)])

    def _places(self, borders: np.ndarray) -> np.ndarray:
        """Where borders on the record are in the reading."""
        return borders - self._start if self.locus.strand == "+" else self._end - borders

    def inside(self, borders: np.ndarray) -> np.ndarray:
        """Whether each window lies inside the record: bool[n]."""
        return (borders >= self.half) & (borders + self.half <= self._windows.lengths[self.locus.record])

    def known(self, borders: np.ndarray) -> np.ndarray:
        """Whether each window, all of them inside, is free of N: bool[n]."""
        places = self._places(borders)
        return self._unknown[places + self.half] == self._unknown[places - self.half]

    def split(self, borders: np.ndarray) -> np.ndarray:
        """The split of each window, or NOWHERE: int8[n]."""
        return self._windows.territories.of(self.locus.record, borders - self.half, borders + self.half)

    def reads(self, borders: np.ndarray, letters: tuple[int, int], shift: int) -> np.ndarray:
        """Whether each border has two given bases beside it, as `borders_at` takes them: bool[n]."""
        places = self._places(borders) - shift
        return (self._bases[places] == letters[0]) & (self._bases[places + 1] == letters[1])

    def borders_at(self, letters: tuple[int, int], shift: int) -> np.ndarray:
        """Every border in the locus with two given bases beside it: int64[n], 0-based on the record.

        Args:
          letters: base codes, in reading order.
          shift: places from the first of them to the border: 0 where they follow it, 2 where they precede it.
        """
        first, second = letters
        places = np.flatnonzero((self._bases[:-1] == first) & (self._bases[1:] == second)) + shift
        borders = places + self._start if self.locus.strand == "+" else self._end - places
        return borders[(borders >= self.locus.start) & (borders <= self.locus.end)]

    def bases(self, border: int) -> np.ndarray:
        """The window around a border: uint8[2 * half]."""
        place = int(self._places(np.int64(border)))
        return self._bases[place - self.half : place + self.half]
