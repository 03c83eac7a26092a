"""Dinucleotide shuffles: exactly the dinucleotides of the source, and every order of them as likely as any other."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats

from dnabert_jax import embedded, kmers
from dnabert_jax.data import fasta
from dnabert_jax.tasks import shuffles


def _pairs(sequence: np.ndarray) -> Counter:
    return Counter(pairwise(kmers.decode(sequence)))


def _orders(sequence: str) -> set[str]:
    """Every sequence with these dinucleotides and this first base, by trying them all."""
    found = set()

    def walk(path: str, left: Counter) -> None:
        if not left.total():
            found.add(path)
        for pair in [pair for pair, count in left.items() if count and pair[0] == path[-1]]:
            walk(path + pair[1], left - Counter([pair]))

    walk(sequence[0], Counter(pairwise(sequence)))
    return found


@pytest.fixture(scope="module")
def windows() -> list[np.ndarray]:
    """Real DNA of many lengths."""
    rng = np.random.default_rng(0)
    with fasta.IndexedFasta(embedded.FASTA) as genome:
        lengths = [1, 2, 3, 4, *rng.integers(5, 400, 60), *[300] * 40]
        starts = rng.integers(0, 100_000, len(lengths))
        return [genome.fetch("20", start, start + length) for start, length in zip(starts, lengths)]


def test_every_dinucleotide_occurs_as_often_as_before(windows):
    found = shuffles.dinucleotide(windows, np.random.default_rng(1))
    assert len(found) == len(windows)
    for before, after in zip(windows, found):
        assert after.dtype == np.uint8
        assert _pairs(after) == _pairs(before)
        assert Counter(after.tolist()) == Counter(before.tolist())
        assert (after[0], after[-1]) == (before[0], before[-1])


def test_long_sequences_come_out_in_another_order_and_the_source_stays(windows):
    copies = [window.copy() for window in windows]
    found = shuffles.dinucleotide(windows, np.random.default_rng(1))
    for window, copy, after in zip(windows, copies, found):
        np.testing.assert_array_equal(window, copy)
        if len(window) == 300:
            assert (after != window).sum() > 100


def test_n_stays_where_it_is_and_no_base_crosses_it(windows):
    sequence = windows[-1].copy()
    sequence[[0, 1, 50, 120, 121, 299]] = kmers.N
    (found,) = shuffles.dinucleotide([sequence], np.random.default_rng(1))
    np.testing.assert_array_equal(found == kmers.N, sequence == kmers.N)
    assert _pairs(found) == _pairs(sequence)
    for start, end in ((2, 50), (51, 120), (122, 299)):
        assert _pairs(found[start:end]) == _pairs(sequence[start:end])
        assert not np.array_equal(found[start:end], sequence[start:end])


def test_every_order_is_as_likely_as_any_other():
    sequence = "ATCATTCGAC"
    expected = _orders(sequence)
    found = shuffles.dinucleotide([kmers.encode(sequence)] * 6000, np.random.default_rng(2))
    counts = Counter(map(kmers.decode, found))
    assert set(counts) == expected
    assert len(expected) > 5
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_the_same_state_gives_the_same_shuffles_and_another_others(windows):
    once, again, other = (shuffles.dinucleotide(windows, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all(map(np.array_equal, once, again))
    assert not all(map(np.array_equal, once, other))


@pytest.mark.parametrize("letters", ["", "A", "N", "NNNN", "AC", "ACG", "AAAAAAAA", "ANC"])
def test_what_has_one_order_only_stays(letters):
    (found,) = shuffles.dinucleotide([kmers.encode(letters)], np.random.default_rng(0))
    assert kmers.decode(found) == letters


def test_no_sequences():
    assert shuffles.dinucleotide([], np.random.default_rng(0)) == []


def test_a_shuffle_that_lost_a_dinucleotide_is_noticed(monkeypatch, windows):
    monkeypatch.setattr(shuffles.dinuc_shuf, "shuffle", lambda one_hot, rng, verify: np.sort(one_hot, axis=1))
    with pytest.raises(ArithmeticError, match="dinucleotides"):
        shuffles.dinucleotide(windows, np.random.default_rng(0))
