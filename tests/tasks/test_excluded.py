"""Windows that are free of excluded intervals, against every base written down."""

import numpy as np
import pytest

from dnabert_jax.tasks.excluded import Excluded


def covered(intervals, record, length, padding=0):
    """bool[length] by a loop over the intervals."""
    bases = np.zeros(length, bool)
    for name, start, end in intervals:
        if name == record:
            bases[max(start - padding, 0) : end + padding] = True
    return bases


@pytest.mark.parametrize("padding", [0, 1, 17])
def test_free_is_as_counting_bases_says(padding):
    rng = np.random.default_rng(padding)
    starts = rng.integers(0, 900, 40)
    intervals = [(f"r{n % 3}", int(start), int(start + rng.integers(1, 30))) for n, start in enumerate(starts)]
    excluded = Excluded.of(intervals).padded(padding) if padding else Excluded.of(intervals)
    for record in ("r0", "r1", "r2"):
        windows = rng.integers(0, 950, 500)
        ends = windows + rng.integers(1, 50, 500)
        bases = covered(intervals, record, 1000, padding)
        expected = [not bases[start:end].any() for start, end in zip(windows, ends)]
        assert excluded.free(record, windows, ends).tolist() == expected
        assert 0 < sum(expected) < 500


def test_neighbours_share_no_base():
    excluded = Excluded.of([("x", 10, 20)])
    assert excluded.free("x", np.array([5, 20, 5, 19, 12]), np.array([10, 25, 11, 22, 15])).tolist() == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_what_has_no_interval_is_free():
    for excluded in (Excluded.of([]), Excluded.of([]).padded(5), Excluded.of([("x", 0, 5)])):
        assert excluded.free("y", np.array([0, 3]), np.array([5, 9])).all()
    assert Excluded.of([("x", 0, 5)]).free("x", np.zeros(0, int), np.zeros(0, int)).shape == (0,)


def test_padding_stops_at_the_beginning_and_joins():
    excluded = Excluded.of([("x", 3, 5), ("x", 20, 30), ("x", 33, 40)]).padded(4)
    assert excluded.starts["x"].tolist() == [0, 16]
    assert excluded.ends["x"].tolist() == [9, 44]
