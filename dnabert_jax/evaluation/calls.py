"""How well regions that were called in a genome meet its transcription start sites.

A called region is a success where more than half of it lies within 500 bases of a TSS on its strand; that is how the
paper counts (Ji et al. 2021), and what the script behind it does (`promoter/scan_promid.py` of the DNABERT repository):
an overlap of half a region, on the same strand. From the same script is what is counted:

- true positives are the called regions that succeed, false positives the other ones;
- false negatives are the TSSs that no region succeeds at.

The script has no true negatives. Here they are the stretches of a window's length (1,001 bases, the size of what one
TSS or one call stands for) that were scanned, lie within 500 bases of no TSS, and were not called. They enter the
correlation coefficient alone, and there are so many that it is near the geometric mean of precision and recall.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

REACH = 500
"""Bases on either side of a TSS that count as its promoter; with the TSS itself they are 1,001."""


class Stretch(NamedTuple):
    """An interval of one strand of a record, 0-based and half-open: a called region, or what was scanned."""

    record: str
    start: int
    end: int
    strand: str


class Site(NamedTuple):
    """A TSS: the 0-based position of the first transcribed base."""

    record: str
    position: int
    strand: str


@dataclass(frozen=True)
class Counts:
    """What was counted, as the module says."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    tss: int
    """TSSs in what was scanned."""
    tss_elsewhere: int
    """TSSs that were not scanned, and count nowhere."""

    def figures(self) -> dict[str, Any]:
        """The counts, and the figures made of them, ready for JSON.

        Returns:
          Beside the counts `regions`, `precision` TP / (TP + FP), `recall` TP / (TP + FN), `f1`, their harmonic mean,
          `correlation_coefficient`, which is that of Matthews, and `tss_found`, the share of TSSs at which a region
          succeeds. (One region may succeed at several TSSs, and several at one, so it is not quite the recall.) A
          figure whose denominator is 0 is None.
        """
        tp, fp, fn, tn = self.true_positives, self.false_positives, self.false_negatives, self.true_negatives
        # As Python's whole numbers, for the product of four counts of a genome does not fit 64 bits.
        product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
        return {
            "regions": tp + fp,
            "tss": self.tss,
            "tss_elsewhere": self.tss_elsewhere,
            "true_positives": tp,
            "false_positives": fp,
            "false_negatives": fn,
            "true_negatives": tn,
            "precision": _ratio(tp, tp + fp),
            "recall": _ratio(tp, tp + fn),
            "f1": _ratio(2 * tp, 2 * tp + fp + fn),
            "correlation_coefficient": _ratio(tp * tn - fp * fn, product**0.5),
            "tss_found": _ratio(self.tss - fn, self.tss),
        }


def count(
    called: Iterable[Stretch], sites: Iterable[Site], scanned: Iterable[Stretch], *, window: int, reach: int = REACH
) -> Counts:
    """Counts what was called right and wrong.

    Args:
      called: regions, in any order.
      sites: TSSs, in any order; one that is named twice counts once.
      scanned: disjoint stretches of which every base could have been called. TSSs elsewhere are left out.
      window: bases in a true negative.
      reach: bases on either side of a TSS in which a region succeeds.
    """
    called, scanned = list(called), list(scanned)
    sites = list(dict.fromkeys(sites))
    inside = _covered(sites, scanned)
    there = [site for site, is_inside in zip(sites, inside) if is_inside]
    successes, found = 0, np.zeros(len(there), bool)
    sites_on = _by_strand(enumerate(there), key=lambda each: each[1])
    for place, here in _by_strand(called).items():
        numbers = [number for number, _ in sites_on[place]]
        region, at = _meetings(here, np.array([there[i].position for i in numbers], np.int64), reach)
        successes += len(np.unique(region))
        found[np.array(numbers, np.int64)[at]] = True
    return Counts(
        true_positives=successes,
        false_positives=len(called) - successes,
        false_negatives=len(there) - int(found.sum()),
        true_negatives=_rightly_quiet(called, there, scanned, reach) // window,
        tss=len(there),
        tss_elsewhere=len(sites) - len(there),
    )


def _by_strand(items: Iterable[Any], key: Callable[[Any], Any] = lambda each: each) -> dict[tuple[str, str], list[Any]]:
    """Stretches or sites by (record, strand), without any where there is none."""
    found = defaultdict(list)
    for each in items:
        found[key(each).record, key(each).strand].append(each)
    return found


def _meetings(regions: list[Stretch], positions: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a region and a TSS of its strand at which it succeeds, as numbers of both: int64[pairs] each."""
    order = np.argsort(positions, kind="stable")
    positions = positions[order]
    starts = np.array([each.start for each in regions], np.int64)
    ends = np.array([each.end for each in regions], np.int64)
    first = np.searchsorted(positions, starts - reach)
    counts = np.searchsorted(positions, ends + reach) - first
    region = np.repeat(np.arange(len(regions)), counts)
    at = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    starts, ends, middles = starts[region], ends[region], positions[at]
    shared = np.minimum(ends, middles + reach + 1) - np.maximum(starts, middles - reach)
    succeeds = 2 * shared > ends - starts
    return region[succeeds], order[at[succeeds]]


def _covered(sites: list[Site], scanned: list[Stretch]) -> np.ndarray:
    """Whether each TSS lies in what was scanned of its strand: bool[sites]."""
    inside = np.zeros(len(sites), bool)
    sites_on = _by_strand(enumerate(sites), key=lambda each: each[1])
    for place, here in _by_strand(scanned).items():
        starts, ends = np.array(sorted((each.start, each.end) for each in here), np.int64).T
        numbers = [number for number, _ in sites_on[place]]
        positions = np.array([sites[i].position for i in numbers], np.int64)
        before = np.searchsorted(starts, positions, side="right") - 1
        inside[numbers] |= (before >= 0) & (positions < ends[before])
    return inside


def _rightly_quiet(called: list[Stretch], sites: list[Site], scanned: list[Stretch], reach: int) -> int:
    """Scanned bases, of both strands together, that were not called and lie within reach of no TSS."""
    near = [
        Stretch(site.record, max(site.position - reach, 0), site.position + reach + 1, site.strand) for site in sites
    ]
    taken = [*called, *near]
    return _union([*scanned, *taken]) - _union(taken)


def _union(stretches: list[Stretch]) -> int:
    """Bases in any of them."""
    bases = 0
    for here in _by_strand(stretches).values():
        starts, ends = np.array(sorted((each.start, each.end) for each in here), np.int64).T
        reached = np.maximum.accumulate(ends)
        bases += int(reached[0] - starts[0] + np.maximum(reached[1:] - np.maximum(starts[1:], reached[:-1]), 0).sum())
    return bases


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
