"""Called regions against TSSs, compared with a loop over every base."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert_jax.evaluation import calls
from dnabert_jax.evaluation.calls import Site, Stretch

LENGTH, WINDOW, REACH = 60, 7, 4


def _disjoint(cuts, record, strand):
    """Stretches between every second pair of cuts."""
    cuts = sorted(set(cuts))
    return [Stretch(record, *pair, strand) for pair in zip(cuts[::2], cuts[1::2])]


_places = st.tuples(st.sampled_from("ab"), st.sampled_from("+-"))
_many = st.dictionaries(_places, st.lists(st.integers(0, LENGTH), max_size=8), max_size=4).map(
    lambda cuts: [each for place, values in cuts.items() for each in _disjoint(values, *place)]
)
_sites = st.lists(st.builds(Site, st.sampled_from("ab"), st.integers(0, LENGTH - 1), st.sampled_from("+-")), max_size=8)


def _slowly(called, sites, scanned):
    """Base by base."""

    def bases(stretch):
        return {(stretch.record, stretch.strand, at) for at in range(stretch.start, stretch.end)}

    def of_site(site, reach):
        around = range(site.position - reach, site.position + reach + 1)
        return {(site.record, site.strand, at) for at in around}

    everything = set().union(*map(bases, scanned))
    there = [site for site in set(sites) if of_site(site, 0) & everything]
    successes, found = set(), set()
    for region in called:
        for site in there:
            if len(bases(region) & of_site(site, REACH)) > len(bases(region)) / 2:
                successes.add(region)
                found.add(site)
    quiet = everything.difference(*map(bases, called), *(of_site(site, REACH) for site in there))
    return len(successes), len(called) - len(successes), len(there) - len(found), len(quiet) // WINDOW, len(there)


@settings(max_examples=60, deadline=None)
@given(called=_many, sites=_sites, scanned=_many)
def test_counts_are_those_of_a_slow_loop(called, sites, scanned):
    found = calls.count(called, sites, scanned, window=WINDOW, reach=REACH)
    counted = (found.true_positives, found.false_positives, found.false_negatives, found.true_negatives, found.tss)
    assert counted == _slowly(called, sites, scanned)
    assert found.tss + found.tss_elsewhere == len(set(sites))


@pytest.mark.parametrize(
    ("start", "end", "succeeds"),
    [
        (500, 1501, True),  # all of the 1,001 bases around a TSS at 1,000
        (1000, 2001, True),  # 501 of 1,001
        (1001, 2002, False),  # 500 of 1,001
        (1000, 2002, False),  # 501 of 1,002 is half and no more
        (0, 1001, True),
        (100, 2100, True),  # wide, and more than half of it within reach
        (100, 2102, False),
        (1400, 1401, True),
    ],
)
def test_more_than_half_of_a_region_is_within_500_bases(start, end, succeeds):
    scanned = [Stretch("1", 0, 5000, strand) for strand in "+-"]
    found = calls.count([Stretch("1", start, end, "-")], [Site("1", 1000, "-")], scanned, window=1001)
    assert (found.true_positives, found.false_positives) == (int(succeeds), int(not succeeds))
    assert found.false_negatives == int(not succeeds)
    other_strand = calls.count([Stretch("1", start, end, "-")], [Site("1", 1000, "+")], scanned, window=1001)
    assert (other_strand.true_positives, other_strand.false_negatives) == (0, 1)


def test_figures_by_hand():
    figures = calls.Counts(30, 10, 20, 900, 45, 3).figures()
    assert figures["regions"] == 40
    assert figures["precision"] == 0.75
    assert figures["recall"] == 0.6
    assert figures["f1"] == pytest.approx(2 * 0.75 * 0.6 / 1.35)
    assert figures["correlation_coefficient"] == pytest.approx(
        (30 * 900 - 10 * 20) / math.sqrt(40 * 50 * 910 * 920), rel=1e-12
    )
    assert figures["tss_found"] == pytest.approx(25 / 45)


def test_what_is_undefined_is_none():
    figures = calls.Counts(0, 0, 0, 0, 0, 0).figures()
    for name in ("precision", "recall", "f1", "correlation_coefficient", "tss_found"):
        assert figures[name] is None
    assert calls.count([], [], [], window=1001).figures()["regions"] == 0
