"""Which split an interval belongs to, base by base, and cuts that leave islands whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert_jax.data.regions import Region
from dnabert_jax.errors import InputError
from dnabert_jax.tasks import splits
from dnabert_jax.tasks.splits import NOWHERE, TEST, TRAIN, VALIDATION

LENGTHS = {"1": 40, "2": 30, "MT": 5}


def by_base(territories, lengths):
    """The split of every single base, by record."""
    return {
        name: territories.of(name, np.arange(length), np.arange(length) + 1).tolist()
        for name, length in lengths.items()
    }


def test_regions_as_named_and_the_rest_for_training():
    said = []
    territories = splits.by_region(["chr1:11-20", "MT"], ["1:31-40"], LENGTHS, said.append)
    assert by_base(territories, LENGTHS) == {
        "1": [TRAIN] * 10 + [VALIDATION] * 10 + [TRAIN] * 10 + [TEST] * 10,
        "2": [TRAIN] * 30,
        "MT": [VALIDATION] * 5,
    }
    assert territories.regions(TRAIN) == [Region("1", 0, 10), Region("1", 20, 30), Region("2", 0, 30)]
    assert territories.regions(VALIDATION) == [Region("1", 10, 20), Region("MT", 0, 5)]
    assert said == ["chr1 is taken to be record 1"]


def test_regions_of_one_split_that_touch_or_overlap_are_one():
    territories = splits.by_region(["1:11-20", "1:21-25", "1:15-30"], [], LENGTHS, print)
    assert territories.regions(VALIDATION) == [Region("1", 10, 30)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_interval_is_somewhere_only_if_all_its_bases_are(data):
    cuts = sorted(data.draw(st.sets(st.integers(1, 39), min_size=3, max_size=6)))
    validation = [f"1:{a + 1}-{b}" for a, b in zip(cuts[::3], cuts[1::3])]
    test = [f"1:{a + 1}-{b}" for a, b in zip(cuts[1::3], cuts[2::3])]
    territories = splits.by_region(validation, test, LENGTHS, print)
    bases = by_base(territories, LENGTHS)["1"]
    starts, ends = np.triu_indices(41, 1)
    expected = []
    for start, end in zip(starts, ends):
        inside = set(bases[start:end])
        expected.append(inside.pop() if len(inside) == 1 else NOWHERE)
    assert territories.of("1", starts, ends).tolist() == expected


@pytest.mark.parametrize(
    ("validation", "test", "message"),
    [
        (["1:1-20"], ["chr1:20-30"], "region 1:1-20 for validation shares bases with 1:20-30 for test"),
        (["2"], ["2:5-6"], "shares bases"),
        (["3"], [], "no record '3'"),
        ([], ["1:1-41"], "ends past the 40 bases"),
        (["1:5"], [], "no range"),
    ],
)
def test_bad_regions(validation, test, message):
    with pytest.raises(InputError, match=message):
        splits.by_region(validation, test, LENGTHS, lambda line: None)


def test_islands_stay_whole_and_borders_lie_half_way():
    islands = [("1", 0, 10, 40), ("1", 14, 20, 40), ("1", 30, 38, 10), ("2", 3, 9, 10)]
    territories = splits.by_islands(islands, LENGTHS)
    assert territories.regions(TRAIN) == [Region("1", 0, 25), Region("MT", 0, 5)]
    assert territories.regions(VALIDATION) == [Region("1", 25, 40)]
    assert territories.regions(TEST) == [Region("2", 0, 30)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(1, 50)), min_size=1, max_size=30))
def test_islands_by_share_of_weight(sizes):
    islands, at = [], 0
    for size, gap, weight in sizes:
        islands.append(("r", at + gap, at + gap + size, weight))
        at += gap + size
    lengths = {"r": at + 3}
    territories = splits.by_islands(islands, lengths)
    found = [int(territories.of("r", np.array([start]), np.array([end]))[0]) for _, start, end, _ in islands]
    assert NOWHERE not in found
    assert found == sorted(found)
    total, before = sum(weight for *_, weight in islands), 0
    for (*_, weight), owner in zip(islands, found):
        middle = (before + weight / 2) / total
        if min(abs(middle - 0.8), abs(middle - 0.9)) > 1e-9:
            assert owner == (TRAIN if middle < 0.8 else VALIDATION if middle < 0.9 else TEST)
        before += weight
    assert NOWHERE not in by_base(territories, lengths)["r"]


def test_what_the_user_may_choose():
    assert splits.Choice().asked == splits.Choice(random=True).asked == ("train", "validation", "test")
    assert splits.Choice(test=("2",)).asked == ("train", "test")
    with pytest.raises(InputError, match="a random split, and regions"):
        splits.Choice(validation=("2",), random=True)
    with pytest.raises(InputError, match="seed is -1"):
        splits.Choice(seed=-1)


def test_regions_named_come_before_islands():
    islands = [("2", 3, 9, 10), ("1", 30, 38, 10), ("1", 14, 20, 40), ("1", 0, 10, 40)]
    choice = splits.Choice(test=("MT",))
    named = splits.territories(choice, islands, LENGTHS, print)
    assert named.where(choice) == {"train": ("1:1-40", "2:1-30"), "test": ("MT:1-5",)}
    in_order = splits.territories(splits.Choice(), islands, LENGTHS, print)
    assert by_base(in_order, LENGTHS) == by_base(splits.by_islands(islands[::-1], LENGTHS), LENGTHS)


def test_islands_at_random():
    islands = [("r", 10 * i, 10 * i + 7, 1 + i % 3) for i in range(300)]
    lengths = {"r": 3000}
    found = []
    for seed in (0, 0, 1):
        territories = splits.territories(splits.Choice(random=True, seed=seed), islands, lengths, print)
        starts = np.array([start for _, start, *_ in islands])
        found.append(territories.of("r", starts, starts + 7))
    assert found[0].tolist() == found[1].tolist() != found[2].tolist()
    weights = np.array([weight for *_, weight in islands])
    for owners in found:
        assert NOWHERE not in owners
        assert np.count_nonzero(np.diff(owners)) > 30
        shares = np.bincount(owners, weights) / weights.sum()
        np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.01)


def test_no_islands():
    assert by_base(splits.territories(splits.Choice(), [], LENGTHS, print), LENGTHS) == {
        name: [TRAIN] * length for name, length in LENGTHS.items()
    }


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 60), st.integers(1, 9), st.sampled_from("+-")), max_size=20
    )
)
def test_islands_are_runs_of_windows_that_overlap(found):
    places = [(record, start, start + length, strand) for record, start, length, strand in found]
    expected = []
    for record in "ab":
        here = [(start, end) for name, start, end, _ in places if name == record]
        joined = {(base, base + 1) for start, end in here for base in range(start, end - 1)}  # bases one window holds
        for start in sorted({start for start, _ in here}):
            if expected and expected[-1][0] == record and start < expected[-1][2]:
                continue
            end = start + 1
            while (end - 1, end) in joined:
                end += 1
            expected.append((record, start, end, sum(start <= a < end for a, _ in here)))
    assert splits.islands_of(places) == expected


def test_groups_at_random_stay_together():
    groups = [f"g{i // 4}" for i in range(800)]
    found = splits.at_random(groups, 3)
    assert found.dtype == np.int8
    assert all(len(set(found[i : i + 4])) == 1 for i in range(0, 800, 4))
    assert np.bincount(found).tolist() == [640, 80, 80]
    assert found.tolist() == splits.at_random(groups, 3).tolist() != splits.at_random(groups, 4).tolist()
    assert splits.at_random([], 0).size == 0
