import linear
import numpy as np
import pytest

from dnabert_jax import kmers
from tests import tiny


def _sequences() -> list[np.ndarray]:
    found = tiny.dna(30, 12, 21)
    found[1][4] = kmers.N
    return found


@pytest.mark.parametrize("both_strands", [False, True])
def test_counts_are_those_of_a_slow_loop(both_strands):
    table = linear.counts(_sequences(), 3, both_strands).toarray()
    names = [kmers.decode(bases) for bases in kmers.kmer_bases(3)]
    for row, bases in zip(table, _sequences(), strict=True):
        strands = [bases, kmers.reverse_complement(bases)] if both_strands else [bases]
        words = [kmers.decode(strand)[at : at + 3] for strand in strands for at in range(len(strand) - 2)]
        assert row.tolist() == [words.count(name) for name in names]


def test_one_hot_has_a_column_for_each_base_of_each_place():
    table = linear.one_hot(_sequences(), 25).reshape(3, 25, 4)
    for row, bases in zip(table, _sequences(), strict=True):
        for place in range(25):
            known = place < len(bases) and bases[place] != kmers.N
            assert row[place].tolist() == [known and bases[place] == base for base in range(4)]


def test_one_hot_bases_tell_what_a_place_says_and_counts_what_is_anywhere():
    generator = np.random.default_rng(0)
    bases = generator.integers(0, 4, (600, 40), dtype=np.uint8)
    labels = (bases[:, 20] == kmers.G).astype(np.int32)
    found = linear.train("one-hot", *_split(bases, labels))
    assert (found.probabilities(bases[500:]).argmax(axis=1) == labels[500:]).mean() > 0.9
    assert found.size == 4 * 40 + 1

    word = kmers.encode("GATTACA")
    labels = generator.integers(0, 2, 600).astype(np.int32)
    for row in np.flatnonzero(labels):
        at = generator.integers(0, 33)
        bases[row, at : at + 7] = word
    found = linear.train("k-mers", *_split(bases, labels))
    assert (found.probabilities(bases[500:]).argmax(axis=1) == labels[500:]).mean() > 0.8
    assert found.settings["k"] in linear.KS


def _split(bases: np.ndarray, labels: np.ndarray) -> tuple[linear.Data, linear.Data]:
    return linear.Data(list(bases[:400]), labels[:400]), linear.Data(list(bases[400:500]), labels[400:500])
