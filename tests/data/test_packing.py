"""Packing: every segment has its place, no two share one, and little of a row is left."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert_jax.data import packing


def _check(lengths, packed, row_length):
    """Counts, token by token, how often each place of each row is taken."""
    taken = np.zeros((packed.rows, row_length), int)
    for length, row, offset in zip(lengths, packed.row, packed.offset, strict=True):
        assert 0 <= offset <= row_length - length
        taken[row, offset : offset + length] += 1
    assert taken.max(initial=0) <= 1
    assert taken.any(axis=1).all()


def _paper_lengths(generator, count):
    """k-mers in the paper's distribution, with [CLS] and [SEP]: half of them full, half uniform from 5."""
    uniform = generator.integers(5, 510, count, endpoint=True)
    return np.where(generator.random(count) < 0.5, 510, uniform) + 2


@given(st.integers(1, 40).flatmap(lambda row: st.tuples(st.just(row), st.lists(st.integers(1, row), max_size=80))))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_segments_never_overlap_and_rows_are_never_too_long(drawn):
    row_length, lengths = drawn
    packed = packing.pack(np.asarray(lengths, int), row_length)
    assert packed.row.shape == packed.offset.shape == (len(lengths),)
    _check(lengths, packed, row_length)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_rows_are_as_many_as_best_fit_one_by_one_opens(lengths):
    rooms = []
    for length in sorted(lengths, reverse=True):
        fitting = [index for index, room in enumerate(rooms) if room >= length]
        if fitting:
            rooms[min(fitting, key=lambda index: rooms[index])] -= length
        else:
            rooms.append(30 - length)
    assert packing.pack(np.asarray(lengths), 30).rows == len(rooms)


@pytest.mark.parametrize("count", [2_000, 50_000])
def test_rows_are_full_on_the_lengths_of_the_paper(count):
    lengths = _paper_lengths(np.random.default_rng(0), count)
    packed = packing.pack(lengths, 512)
    assert lengths.sum() / (packed.rows * 512) >= 0.97
    assert np.bincount(packed.row, weights=lengths, minlength=packed.rows).max() <= 512


@pytest.mark.parametrize("row_length", [1024, 2048])
def test_long_rows_take_several_full_segments(row_length):
    lengths = _paper_lengths(np.random.default_rng(1), 3_000)
    packed = packing.pack(lengths, row_length)
    _check(lengths, packed, row_length)
    assert lengths.sum() / (packed.rows * row_length) >= 0.97


def test_one_a_row():
    packed = packing.one_a_row(np.array([7, 512, 30]))
    assert packed.rows == 3
    np.testing.assert_array_equal(packed.row, [0, 1, 2])
    np.testing.assert_array_equal(packed.offset, [0, 0, 0])


def test_nothing_makes_no_rows():
    assert packing.pack(np.zeros(0, int), 512).rows == 0
