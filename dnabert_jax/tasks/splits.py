"""Which stretch of a genome is for training, for validation and for testing.

Stretches are whole records or regions, never random windows, so that a base seen in training is not seen again in a
test. A window that lies across a border between two splits belongs to neither. Only where the user asks for it are
stretches dealt out at random, and then whole islands of genes or windows. Sequences that have no place in a genome are
dealt out one by one.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import bioframe
import numpy as np
import pandas as pd

from dnabert_jax.data import regions
from dnabert_jax.errors import InputError

NAMES = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
NOWHERE = -1

_SHARES = (0.8, 0.1, 0.1)

Island = tuple[str, int, int, int]
"""(record, start, end, weight) of a stretch that must stay whole, such as a gene and the examples in it; 0-based
half-open."""


@dataclass(frozen=True)
class Choice:
    """How the user wants the splits made."""

    validation: tuple[str, ...] = ()
    """Records or regions, as `regions.parse` reads them."""
    test: tuple[str, ...] = ()
    random: bool = False
    """Islands are dealt out at random, where neither is named, and not in genome order."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.random and self.named:
            raise InputError("a random split, and regions for validation or test; expected one or the other")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; expected 0 or more")

    @property
    def named(self) -> bool:
        """Whether the user names regions."""
        return bool(self.validation or self.test)

    @property
    def asked(self) -> tuple[str, ...]:
        """Names of the splits that there are to be: all three, unless the user names regions for one only."""
        given = (True, self.validation, self.test)
        return tuple(name for name, wanted in zip(NAMES, given) if wanted or not self.named)


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

    def where(self, choice: Choice) -> dict[str, tuple[str, ...]]:
        """The stretches of each split that was asked for, as users write them: 1-based and inclusive."""
        return {name: tuple(map(str, self.regions(NAMES.index(name)))) for name in choice.asked}


def territories(
    choice: Choice,
    islands: Iterable[Island],
    lengths: Mapping[str, int],
    say: Callable[[str], None] = regions.note,
) -> Territories:
    """The splits that the user chose: the regions named, or else the islands in genome order or at random.

    Args:
      choice: what the user wants.
      islands: stretches that must stay whole: disjoint, in any order. Not looked at where regions are named.
      lengths: bases of each record, by name, in order.
      say: is told of record names that were matched in another spelling.

    Raises:
      InputError: as `by_region`.
    """
    if choice.named:
        return by_region(choice.validation, choice.test, lengths, say)
    order = {name: number for number, name in enumerate(lengths)}
    islands = sorted(islands, key=lambda island: (order[island[0]], island[1]))
    return by_islands(islands, lengths, np.random.default_rng(choice.seed) if choice.random else None)


def islands_of(places: Iterable[tuple[str, int, int, str]]) -> list[Island]:
    """Stretches of windows that overlap, on either strand, each with the number of its windows as weight.

    Args:
      places: (record, start, end, strand) of each window, 0-based half-open.

    Returns:
      Disjoint stretches, by record and start.
    """
    table = pd.DataFrame(places, columns=["chrom", "start", "end", "strand"])
    if table.empty:
        return []
    found = bioframe.merge(table.astype({"start": np.int64, "end": np.int64}), min_dist=None)
    rows = zip(found.chrom, found.start, found.end, found.n_intervals)
    return sorted((record, int(start), int(end), int(count)) for record, start, end, count in rows)


def at_random(groups: Sequence[Hashable], seed: int) -> np.ndarray:
    """Splits for sequences that have no place in a genome: 80, 10 and 10 % of them, drawn group by group.

    Args:
      groups: of each sequence; those of one group come in one split.
      seed: of the draw.

    Returns:
      int8[n], indices of NAMES.
    """
    numbers, _ = pd.factorize(np.fromiter(groups, object, len(groups)), use_na_sentinel=False)
    weights = np.bincount(numbers)
    return _drawn(weights, np.random.default_rng(seed))[numbers]


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


def by_islands(
    islands: Iterable[Island], lengths: Mapping[str, int], rng: np.random.Generator | None = None
) -> Territories:
    """The first 80 % for training, the next 10 % for validation and the last 10 % for testing, cut between islands.

    Args:
      islands: stretches that must stay whole: disjoint, and sorted as the records are in `lengths`. The shares are of
        the weight.
      lengths: bases of each record, by name, in order.
      rng: deals the islands out in a random order instead.

    Returns:
      Territories whose borders lie half-way between two islands.
    """
    islands = list(islands)
    weights = np.array([weight for *_, weight in islands], np.float64)
    owners = _shared(weights) if rng is None else _drawn(weights, rng)
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


def _shared(weights: np.ndarray) -> np.ndarray:
    """The split of each of a row of islands, as the middle of its weight lies in the first 80 %, and so on: int8[n]."""
    middles = (np.cumsum(weights) - weights / 2) / max(weights.sum(), 1)
    return np.searchsorted(np.cumsum(_SHARES)[:-1], middles, side="right").astype(np.int8)


def _drawn(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same for islands in a random order, so that the shares hold but chance says who is in which: int8[n]."""
    order = rng.permutation(len(weights))
    owners = np.empty(len(weights), np.int8)
    owners[order] = _shared(weights[order])
    return owners


def _joined(pieces: Mapping[str, list[tuple[int, int, int]]]) -> Territories:
    """Territories from (start, end, owner) that cover each record in order; neighbours of one owner become one."""
    borders, owners = {}, {}
    for record, here in pieces.items():
        changes = [0, *(i for i in range(1, len(here)) if here[i][2] != here[i - 1][2])]
        borders[record] = np.array([*(here[i][0] for i in changes), here[-1][1] if here else 0], np.int64)
        owners[record] = np.array([here[i][2] for i in changes] if here else [TRAIN], np.int8)
    return Territories(borders, owners)
