"""Which stretch of a genome is for training, for validation and for testing.

Stretches are whole records or regions, never random windows, so that a base seen in training is not seen again in a
test. A window that lies across a border between two splits belongs to neither.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dnabert_jax.data import regions
from dnabert_jax.errors import InputError

NAMES = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
NOWHERE = -1

_SHARES = (0.8, 0.1, 0.1)


@dataclass(frozen=True)
class Territories:
    """A genome cut in stretches of one split each."""

    borders: Mapping[str, np.ndarray]
    """int64[m + 1] by record: 0, where the split changes, and the record's length."""
    owners: Mapping[str, np.ndarray]
    """int8[m] by record: the split, as an index of NAMES, of each stretch."""

    def of(self, record: str, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The split of each interval.

        Args:
          record: name of the record.
          starts: int[n], 0-based, inside the record.
          ends: int[n], exclusive, above `starts`.

        Returns:
          int8[n], indices of NAMES; NOWHERE for an interval that is not inside one stretch.
        """
        borders = self.borders[record]
        first = np.searchsorted(borders, starts, side="right") - 1
        last = np.searchsorted(borders, ends, side="left") - 1
        return np.where(first == last, self.owners[record][np.minimum(first, last)], np.int8(NOWHERE))

    def regions(self, split: int) -> list[regions.Region]:
        """The stretches of one split, in order."""
        return [
            regions.Region(record, int(start), int(end))
            for record, borders in self.borders.items()
            for (start, end), owner in zip(pairwise(borders), self.owners[record])
            if owner == split
        ]


def by_region(
    validation: Sequence[str],
    test: Sequence[str],
    lengths: Mapping[str, int],
    say: Callable[[str], None] = regions.note,
) -> Territories:
    """Validation and test as the user names them, everything else for training.

    Args:
      validation: records or regions as `regions.parse` reads them.
      test: likewise.
      lengths: bases of each record, by name, in order.
      say: is told of record names that were matched in another spelling.

    Raises:
      InputError: as `regions.resolve`, or a stretch that is named for both.
    """
    owners = [VALIDATION] * len(validation) + [TEST] * len(test)
    named = list(zip(regions.resolve([*validation, *test], lengths, say), owners))
    for region, owner in named:
        for other, other_owner in named:
            if (
                owner == VALIDATION
                and other_owner == TEST
                and regions.overlaps(region, other.name, other.start, other.end)
            ):
                raise InputError(f"region {region} for validation shares bases with {other} for test; expected none")
    pieces = {}
    for record, length in lengths.items():
        here = [(region, owner) for region, owner in named if region.name == record]
        cuts = sorted({0, length, *(cut for region, _ in here for cut in (region.start, region.end))})
        pieces[record] = [
            (start, end, next((owner for region, owner in here if region.start <= start < region.end), TRAIN))
            for start, end in pairwise(cuts)
        ]
    return _joined(pieces)


def by_islands(islands: Iterable[tuple[str, int, int, int]], lengths: Mapping[str, int]) -> Territories:
    """The first 80 % for training, the next 10 % for validation and the last 10 % for testing, cut between islands.

    Args:
      islands: (record, start, end, weight) of stretches that must stay whole, such as genes and the examples in them:
        disjoint, and sorted as the records are in `lengths`. The shares are of the weight.
      lengths: bases of each record, by name, in order.

    Returns:
      Territories whose borders lie half-way between two islands.
    """
    islands = list(islands)
    weights = np.array([weight for *_, weight in islands], np.float64)
    middles = (np.cumsum(weights) - weights / 2) / weights.sum()
    owners = np.searchsorted(np.cumsum(_SHARES)[:-1], middles, side="right")
    pieces: dict[str, list[tuple[int, int, int]]] = {record: [] for record in lengths}
    reached: dict[str, int] = {}
    for (record, start, end, _), owner in zip(islands, owners):
        here = pieces[record]
        if here:
            border = (reached[record] + start) // 2
            here[-1] = (here[-1][0], border, here[-1][2])
            here.append((border, lengths[record], int(owner)))
        else:
            here.append((0, lengths[record], int(owner)))
        reached[record] = end
    for record, length in lengths.items():
        pieces[record] = pieces[record] or [(0, length, TRAIN)]
    return _joined(pieces)


def _joined(pieces: Mapping[str, list[tuple[int, int, int]]]) -> Territories:
    """Territories from (start, end, owner) that cover each record in order; neighbours of one owner become one."""
    borders, owners = {}, {}
    for record, here in pieces.items():
        changes = [0, *(i for i in range(1, len(here)) if here[i][2] != here[i - 1][2])]
        borders[record] = np.array([*(here[i][0] for i in changes), here[-1][1] if here else 0], np.int64)
        owners[record] = np.array([here[i][2] for i in changes] if here else [TRAIN], np.int8)
    return Territories(borders, owners)
