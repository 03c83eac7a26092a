"""The borders of a region that a splice-site model is asked about: each that could be a site, and each that is one.

A border could be a site where GT follows it or AG precedes it, on either strand; that is each place of a canonical site
and, in human DNA, one in eight on each strand. Annotated sites that read otherwise are asked about too, and are
counted by themselves.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dnabert_jax.data.regions import Region
from dnabert_jax.tasks import splice_sites, splits
from dnabert_jax.tasks.splice_sites import Annotated
from dnabert_jax.tasks.windows import Locus, Reading, Windows

_BLOCK = 1 << 20
"""Bases of a region that are in memory at once."""


class Border(NamedTuple):
    """A place between two bases of one strand: the coordinate of the base to its right on the forward strand."""

    record: str
    position: int
    strand: str


@dataclass(frozen=True)
class Asked:
    """A border that the model is asked about."""

    border: Border
    labels: frozenset[str]
    """Of the annotated sites there: donor, acceptor, both, or none."""
    canonical: bool
    """Whether it could be a site by its letters, and, where sites are annotated, one of them reads as its kind does."""


def of(windows: Windows, annotated: Annotated, territory: Iterable[Region]) -> Iterator[tuple[Asked, np.ndarray]]:
    """The borders of regions whose windows are known, lie inside their record, and in training territory wholly.

    Args:
      windows: of the model's length.
      annotated: the sites.
      territory: regions with a definite end; disjoint.

    Yields:
      A border and the window around it, uint8[window] read on its strand: block by block, `+` before `-`.
    """
    for region in territory:
        for start in range(region.start, region.end, _BLOCK):
            # A border at the joint of two blocks belongs to the second one.
            end = min(start + _BLOCK, region.end)
            last = end if end == region.end else end - 1
            sites = annotated.within(Region(region.name, start, last))
            for strand in "+-":
                reading = windows.around(Locus(region.name, strand, start, last))
                here = sites[sites.strand == strand]
                yield from _asked(reading, dict(list(here.groupby("label").border)))


def _asked(reading: Reading, sites: dict[str, np.ndarray]) -> Iterator[tuple[Asked, np.ndarray]]:
    labels: dict[int, set[str]] = {}
    canonical: set[int] = set()
    for label, borders in sites.items():
        borders = _readable(reading, np.asarray(borders))
        for border in borders.tolist():
            labels.setdefault(border, set()).add(label)
        canonical.update(borders[splice_sites.canonical(reading, borders, label)].tolist())
    could_be = np.unique(np.concatenate([reading.borders_at(*signal) for signal in splice_sites.SIGNALS.values()]))
    for position in sorted({*_readable(reading, could_be).tolist(), *labels}):
        border = Border(reading.locus.record, position, reading.locus.strand)
        there = frozenset(labels.get(position, ()))
        yield Asked(border, there, not there or position in canonical), reading.bases(position)


def _readable(reading: Reading, borders: np.ndarray) -> np.ndarray:
    borders = borders[reading.inside(borders)]
    borders = borders[reading.known(borders)]
    return borders[reading.split(borders) == splits.TRAIN]
