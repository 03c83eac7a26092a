"""Windows of a genome that are no promoters, with a TATA box where a promoter would have it, or without one.

A model that takes every TATA box for a promoter fails on the windows with one, as does one that takes a place rich in
A and T for it. Each window is drawn as if a base outside all promoters were a transcription start site.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from dnabert_jax import kmers
from dnabert_jax.data.fasta import IndexedFasta
from dnabert_jax.data.regions import Region
from dnabert_jax.tasks import tata
from dnabert_jax.tasks.dataset import Place, either_strand
from dnabert_jax.tasks.excluded import Excluded
from dnabert_jax.tasks.tss import Frame

_AT_ONCE = 1 << 22
"""Bases that are scored at once."""
_TRIES = 4
_SPARE = 1000


class Window(NamedTuple):
    """A window around what is no transcription start site."""

    place: Place
    bases: np.ndarray
    """uint8[window], read on the strand of the place."""


_CANDIDATE = np.dtype([("key", "f8"), ("region", "i4"), ("reverse", "?"), ("position", "i8")])


def draw(
    genome: IndexedFasta,
    regions: Sequence[Region],
    frame: Frame,
    excluded: Excluded,
    wanted: int,
    *,
    box: bool,
    score: float,
    seen: set[bytes],
    rng: np.random.Generator,
) -> list[Window]:
    """Draws windows of which no two overlap, none has an N, and no sequence occurs twice on either strand.

    The genome is read in stretches and only the candidates that may be drawn are kept, so that a large one needs no
    more memory than a small one.

    Args:
      genome: where the windows come from.
      regions: where they may lie, with definite ends.
      frame: what a window holds.
      excluded: what none may touch.
      wanted: how many.
      box: whether they have a TATA box at -35..-20 or have none. Every place with one is as likely to be drawn as any
        other; without one, every base.
      score: the least score of a box.
      seen: sequences that none may have, as `dataset.either_strand` gives them; those of the windows
        are added.
      rng: decides everything.

    Returns:
      Windows in the order in which they were drawn, fewer than `wanted` where there are no more.
    """
    # What decides on a box may begin before the window does.
    reach = Frame(max(frame.upstream, -tata.FIRST), frame.downstream)
    blocks = _with_box(genome, regions, score, rng) if box else _anywhere(regions, _pool_size(wanted), rng)
    pool = _lowest((block[_fit(block, regions, reach, excluded)] for block in blocks), _pool_size(wanted))
    found: list[Window] = []
    taken: dict[str, list[int]] = defaultdict(list)
    while len(found) < wanted and len(pool):
        batch, pool = np.split(pool, [wanted - len(found)])
        for each in np.sort(batch, order=["region", "position", "reverse"]):  # as the file is read fastest
            window = _window(genome, regions[each["region"]].name, each, frame, reach, score, box)
            if window and _apart(window.place, taken[window.place.record]) and _new(window.bases, seen):
                insort(taken[window.place.record], window.place.start)
                found.append(window)
    return found


def _pool_size(wanted: int) -> int:
    return _TRIES * wanted + _SPARE


def _with_box(
    genome: IndexedFasta, regions: Sequence[Region], score: float, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """For each place that reads like a TATA box, a site that would have it at one of the places that a box may have."""
    for number, region in enumerate(regions):
        for start, end in pairwise([*range(region.start, region.end, _AT_ONCE), region.end]):
            bases = genome.fetch(region.name, start, min(end + tata.LENGTH - 1, region.end))
            for strand in "+-":
                places = start + np.flatnonzero(tata.scores(bases, strand) >= score)
                offsets = rng.integers(tata.FIRST, tata.LAST, len(places), endpoint=True)
                yield _candidates(number, strand == "-", tata.sites_of(places, offsets, strand), rng)


def _anywhere(regions: Sequence[Region], count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    lengths = np.array([region.end - region.start for region in regions], np.float64)
    if not lengths.sum():
        return
    counts = rng.multinomial(_TRIES * count, lengths / lengths.sum())
    for number in np.flatnonzero(counts):
        positions = rng.integers(regions[number].start, regions[number].end, counts[number])
        yield _candidates(number, rng.integers(0, 2, len(positions)).astype(bool), positions, rng)


def _candidates(region: int, reverse: bool | np.ndarray, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    block = np.zeros(len(positions), _CANDIDATE)
    block["key"] = rng.random(len(positions))
    block["region"], block["reverse"], block["position"] = region, reverse, positions
    return block


def _fit(block: np.ndarray, regions: Sequence[Region], reach: Frame, excluded: Excluded) -> np.ndarray:
    """Whether each candidate of one region lies inside it and touches nothing that is excluded: bool[n]."""
    if not len(block):
        return np.zeros(0, bool)
    region = regions[block["region"][0]]
    starts, ends = reach.around(block["position"], _strands(block["reverse"]))
    inside = (starts >= region.start) & (ends <= region.end)
    return inside & excluded.free(region.name, starts, ends)


def _lowest(blocks: Iterable[np.ndarray], count: int) -> np.ndarray:
    """The candidates with the lowest keys, in their order: a sample in which each is as likely as any other."""
    pool, waiting = [np.zeros(0, _CANDIDATE)], 0
    for block in blocks:
        pool.append(block)
        waiting += len(block)
        if waiting > count:
            pool, waiting = [np.sort(np.concatenate(pool), order="key")[:count]], 0
    return np.sort(np.concatenate(pool), order="key")[:count]


def _strands(reverse: np.ndarray) -> np.ndarray:
    return np.where(reverse, "-", "+")


def _window(
    genome: IndexedFasta, record: str, candidate: np.void, frame: Frame, reach: Frame, score: float, box: bool
) -> Window | None:
    """The window of a candidate, if its bases are known and it has a box, or none, as it should."""
    strand = "-" if candidate["reverse"] else "+"
    start, end = (int(each) for each in reach.around(candidate["position"], strand))
    bases = genome.fetch(record, start, end)
    if (bases == kmers.N).any():
        return None
    if strand == "-":
        bases = kmers.reverse_complement(bases)
    first = reach.upstream + tata.FIRST
    if (tata.best(bases[None, first : first + tata.STRETCH])[0] >= score) != box:
        return None
    more = reach.upstream - frame.upstream
    start, end = (start + more, end) if strand == "+" else (start, end - more)
    return Window(Place(record, start, end, strand), bases[more:])


def _apart(place: Place, taken: list[int]) -> bool:
    """Whether a window overlaps none of those that start at the places taken, all of its size and in order."""
    after = bisect_left(taken, place.start)
    size = place.end - place.start
    return (after == len(taken) or taken[after] >= place.end) and (after == 0 or taken[after - 1] + size <= place.start)


def _new(bases: np.ndarray, seen: set[bytes]) -> bool:
    sequence = either_strand(bases.tobytes())
    known = sequence in seen
    seen.add(sequence)
    return not known
