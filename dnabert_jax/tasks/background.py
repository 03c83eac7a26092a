"""Windows of a genome that are like the positives but for what makes them positive: as rich in G and C.

Bound sites lie in open chromatin, which is rich in G and C, so a model can tell them from windows drawn anywhere by
their composition alone. Windows drawn here have, in each split, exactly as many G and C as the positives have.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from dnabert_jax import kmers
from dnabert_jax.data.fasta import IndexedFasta
from dnabert_jax.tasks import splits
from dnabert_jax.tasks.excluded import Excluded

_STRETCH = 1 << 15
"""Bases that are read at once."""
_FEWEST = 4
_SPREAD = 4


class Window(NamedTuple):
    """A window of the genome, read on its forward strand."""

    record: str
    start: int
    """0-based."""
    split: int
    """Index of splits.NAMES."""
    bases: np.ndarray
    """uint8[window]."""


def gc_count(sequences: np.ndarray) -> np.ndarray:
    """Number of G and C: uint8[..., n] of base codes to int64[...]."""
    return ((sequences == kmers.G) | (sequences == kmers.C)).sum(axis=-1)


def gc_matched(
    genome: IndexedFasta,
    records: Collection[str],
    territories: splits.Territories,
    excluded: Excluded,
    wanted: np.ndarray,
    rng: np.random.Generator,
) -> tuple[list[Window], int]:
    """Draws disjoint windows without N by split and by number of G and C.

    The records are cut into windows from a random base on, and stretches of them are looked at in random order. A
    first pass takes few from each stretch, so that the windows come from all over the genome; a second one takes what
    it can get.

    Args:
      genome: where the windows come from.
      records: names of its records that may be drawn from.
      territories: the split of every window.
      excluded: what no window may touch.
      wanted: int[splits, window + 1], how many windows of each split have how many G and C.
      rng: decides everything.

    Returns:
      The windows in the order in which they were found, and how many there were not.
    """
    wanted, window = wanted.copy(), wanted.shape[1] - 1
    stretches = _stretches(genome, records, window, rng)
    found: list[Window] = []
    taken: set[tuple[str, int]] = set()
    few = max(_FEWEST, _SPREAD * int(wanted.sum()) // max(len(stretches), 1))
    left = rng.permutation(len(stretches))
    for most in (few, None):
        full = []  # the stretches that may have more
        for number in left:
            if not wanted.any():
                break
            windows = _of_stretch(genome, stretches[number], territories, excluded, wanted, taken, most, rng)
            taken.update((each.record, each.start) for each in windows)
            found += windows
            if len(windows) == most:
                full.append(number)
        left = full
    return found, int(wanted.sum())


class _Stretch(NamedTuple):
    """Windows that follow one another."""

    record: str
    starts: range


def _stretches(genome: IndexedFasta, records: Collection[str], window: int, rng: np.random.Generator) -> list[_Stretch]:
    together = max(_STRETCH // window, 1)
    found = []
    for record in records:
        last = genome.length(record) - window
        # A range and not its numbers, which would take more memory the larger the genome is.
        starts = range(int(rng.integers(max(min(window, last + 1), 1))), last + 1, window)
        found += [_Stretch(record, starts[first : first + together]) for first in range(0, len(starts), together)]
    return found


def _of_stretch(
    genome: IndexedFasta,
    stretch: _Stretch,
    territories: splits.Territories,
    excluded: Excluded,
    wanted: np.ndarray,
    taken: set[tuple[str, int]],
    most: int | None,
    rng: np.random.Generator,
) -> list[Window]:
    """Windows of a stretch that are wanted and not taken, `most` at most; `wanted` goes down by them."""
    record, starts, window = stretch.record, np.array(stretch.starts), wanted.shape[1] - 1
    ends = starts + window
    split = territories.of(record, starts, ends)
    fit = excluded.free(record, starts, ends) & (split != splits.NOWHERE)
    if not fit.any():
        return []
    rows = genome.fetch(record, int(starts[0]), int(ends[-1])).reshape(-1, window)
    gc = gc_count(rows)
    fit &= (rows != kmers.N).all(axis=1) & (wanted[split, gc] > 0)
    found: list[Window] = []
    for at in rng.permutation(np.flatnonzero(fit)):
        if len(found) == most:
            break
        if wanted[split[at], gc[at]] and (record, int(starts[at])) not in taken:
            wanted[split[at], gc[at]] -= 1
            found.append(Window(record, int(starts[at]), int(split[at]), rows[at].copy()))
    return found
