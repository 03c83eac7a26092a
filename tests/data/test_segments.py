"""Segments against base-by-base counts: what is covered, how often, how long, and how much of it is N."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dnabert_jax import kmers
from dnabert_jax.config import DataConfig
from dnabert_jax.data.segments import Sampler, UnknownBases, stretches
from dnabert_jax.errors import InputError
from tests.data.memory_split import MemorySplit, random_bases

METHODS = ("cut", "sample")


def _contigs():
    return [
        random_bases(0, 3_000, [(0, 70), (1_000, 1_001), (2_950, 3_000)]),
        random_bases(1, 40),
        random_bases(2, 500, [(100, 180), (185, 190)]),
        random_bases(3, 7),
    ]


def _covered(split, segments, k):
    """How often each base of each contig is in a segment."""
    times = [np.zeros(contig.length, int) for contig in split.contigs]
    for contig, start, count in zip(segments.contig, segments.start, segments.kmers, strict=True):
        end = start + count + k - 1
        assert 0 <= start < end <= split.contigs[contig].length
        times[contig][start:end] += 1
    return times


def _runs(flags):
    """Maximal runs of set flags, one flag after another."""
    runs, begin = [], None
    for place, flag in enumerate([*flags, False]):
        if flag and begin is None:
            begin = place
        elif not flag and begin is not None:
            runs.append((begin, place))
            begin = None
    return runs


@pytest.mark.parametrize("chunk", [1, 7, 64, 10_000])
def test_unknown_bases_are_found_and_counted(chunk):
    split = MemorySplit([random_bases(4, 30, [(0, 3), (10, 20), (29, 30)]), random_bases(5, 20, [(0, 20)])], chunk)
    unknown = UnknownBases(split)
    starts, ends = unknown.runs()
    assert list(zip(starts, ends, strict=True)) == [(0, 3), (10, 20), (29, 30), (30, 50)]
    for index, contig in enumerate(split.contigs):
        for start in range(contig.length):
            for length in range(contig.length - start + 1):
                counted = unknown.count(np.array([index]), np.array([start]), np.array([length]))
                assert counted == (split.read(index, start, length) == kmers.N).sum()


def test_stretches_are_what_lies_between_long_runs_of_unknown_bases():
    split = MemorySplit(_contigs())
    found = stretches(split, UnknownBases(split), longest_run=5, shortest=10)
    assert list(zip(found.contig, found.start, found.length, strict=True)) == [
        (0, 70, 2_880),
        (1, 0, 40),
        (2, 0, 100),
        (2, 180, 320),
    ]


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_cut_covers_each_known_base_once_and_no_unknown_one(k, epoch):
    split = MemorySplit(_contigs())
    segments = Sampler(split, DataConfig(min_kmers=5), k, 60, seed=3).epoch(epoch)
    assert segments.usable.all()
    assert segments.kmers.min() >= 5
    assert segments.kmers.max() <= 60
    for times, bases in zip(_covered(split, segments, k), _contigs(), strict=True):
        expected = np.zeros(bases.size, int)
        for start, end in _runs(bases != kmers.N):
            if end - start >= 5 + k - 1:
                expected[start:end] = 1
        np.testing.assert_array_equal(times, expected)


@given(
    bases=st.integers(1, 400),
    k=st.integers(1, 6),
    shortest=st.integers(1, 12),
    more=st.integers(0, 60),
    full_share=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 1_000),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_cut_of_any_length_leaves_out_less_than_a_segment(bases, k, shortest, more, full_share, seed):
    assume(bases >= shortest + k - 1)
    split = MemorySplit([random_bases(seed, bases)])
    config = DataConfig(min_kmers=shortest, full_share=full_share)
    for epoch in range(2):
        segments = Sampler(split, config, k, shortest + more, seed).epoch(epoch)
        assert segments.kmers.min() >= shortest
        assert segments.kmers.max() <= shortest + more
        (times,) = _covered(split, segments, k)
        assert times.max() == 1
        left_out = int((times == 0).sum())
        assert left_out < shortest + k - 1
        if shortest + more + k - 1 >= 2 * (shortest + k - 1) - 1:  # full is long enough to take up any rest
            assert left_out == 0


@pytest.mark.parametrize("method", METHODS)
def test_lengths_are_those_of_the_paper(method):
    split = MemorySplit([random_bases(6, 4_000_000)], chunk=65_536)
    lengths = Sampler(split, DataConfig(method=method), 6, 510, seed=0).epoch(0).kmers
    full = lengths == 510
    assert abs(full.mean() - 0.5) < 0.02
    shares = np.bincount((lengths[~full] - 5) // 101, minlength=5) / (~full).sum()  # 505 lengths in five equal parts
    assert np.abs(shares - 0.2).max() < 0.02
    assert lengths.min() == 5
    if method == "sample":
        assert lengths.size == 4_000_000 // 256


@pytest.mark.parametrize("method", METHODS)
def test_no_segment_holds_an_unknown_base_when_none_is_allowed(method):
    split = MemorySplit(_contigs())
    segments = Sampler(split, DataConfig(method=method), 4, 60, seed=1).epoch(0)
    for contig, start, count in zip(segments.contig, segments.start, segments.kmers, strict=True):
        assert not (split.read(contig, start, count + 3) == kmers.N).any()
    assert segments.usable.all()


@pytest.mark.parametrize("method", METHODS)
def test_usable_are_exactly_those_with_few_enough_unknown_bases(method):
    scattered = random_bases(7, 4_000)
    scattered[np.random.default_rng(8).random(4_000) < 0.1] = kmers.N
    split = MemorySplit([scattered, *_contigs()])
    segments = Sampler(split, DataConfig(method=method, max_unknown=0.1), 4, 60, seed=1).epoch(0)
    usable = [
        (split.read(contig, start, count + 3) == kmers.N).mean() <= 0.1
        for contig, start, count in zip(segments.contig, segments.start, segments.kmers, strict=True)
    ]
    np.testing.assert_array_equal(segments.usable, usable)
    assert segments.usable.any()
    if method == "cut":
        assert not segments.usable.all()
        assert max(times.max() for times in _covered(split, segments, 4)) == 1
    else:
        assert segments.usable.all()  # another place was drawn


def test_sample_draws_every_place_alike():
    split = MemorySplit([random_bases(9, 300), random_bases(10, 9), random_bases(11, 700, [(340, 360)])])
    sampler = Sampler(split, DataConfig(method="sample", full_share=1.0), 3, 18, seed=0)
    drawn = np.zeros((3, 700), int)
    for epoch in range(4_000):
        segments = sampler.epoch(epoch)
        assert (segments.kmers == 18).all()
        np.add.at(drawn, (segments.contig, segments.start), 1)
    fits = np.zeros((3, 700), bool)
    fits[0, : 300 - 19] = True
    fits[2, : 340 - 19] = fits[2, 360 : 700 - 19] = True
    assert not drawn[~fits].any()
    expected = drawn.sum() / fits.sum()
    # Counts of one place have the spread of a Poisson distribution.
    assert 0.7 < np.var(drawn[fits]) / expected < 1.3
    assert (drawn[fits] > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_an_epoch_follows_from_seed_and_number_alone(method):
    split = MemorySplit(_contigs())
    config = DataConfig(method=method, reverse_complement=True)
    one, other = (Sampler(split, config, 4, 60, seed=5) for _ in range(2))
    one.epoch(0)
    for name in ("contig", "start", "kmers", "flipped", "usable"):
        np.testing.assert_array_equal(getattr(one.epoch(3), name), getattr(other.epoch(3), name))
    for different in (one.epoch(2), Sampler(split, config, 4, 60, seed=6).epoch(3)):
        assert not np.array_equal(different.start, one.epoch(3).start)


@pytest.mark.parametrize("method", METHODS)
def test_every_epoch_has_the_same_lengths(method):
    sampler = Sampler(MemorySplit(_contigs()), DataConfig(method=method), 4, 60, seed=5)
    for epoch in range(3):
        np.testing.assert_array_equal(np.sort(sampler.epoch(epoch).kmers), np.sort(sampler.kmers))


def test_half_of_the_segments_are_read_from_the_other_strand():
    split = MemorySplit([random_bases(12, 100_000)])
    config = DataConfig(min_kmers=5, reverse_complement=True)
    assert abs(Sampler(split, config, 6, 60, seed=0).epoch(0).flipped.mean() - 0.5) < 0.03
    assert not Sampler(split, DataConfig(), 6, 60, seed=0).epoch(0).flipped.any()


@pytest.mark.parametrize("method", METHODS)
def test_bases_too_short_for_any_segment_are_refused(method):
    split = MemorySplit([random_bases(13, 9), random_bases(14, 40, [(9, 35)])])
    with pytest.raises(InputError, match="somewhere: no stretch of 10 known bases"):
        Sampler(split, DataConfig(path="somewhere", method=method), 6, 510, seed=0)


def test_sample_shortens_full_segments_that_fit_nowhere():
    split = MemorySplit([random_bases(15, 2_000, [(300, 400), (700, 1_700)])])
    segments = Sampler(split, DataConfig(method="sample"), 6, 510, seed=0).epoch(0)
    assert segments.kmers.max() == 295
    assert max(times.max() for times in _covered(split, segments, 6)) >= 1
