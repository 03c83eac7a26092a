"""DNABERT's k-mer text back to bases: a round trip, and texts that are not what they look like."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert_jax import kmers
from dnabert_jax.data import kmer_text
from dnabert_jax.errors import InputError


@given(st.text("ACGTNacgt", min_size=2, max_size=80), st.integers(1, 12))
def test_round_trip(sequence, k):
    k = min(k, len(sequence) - 1)
    words = " ".join(sequence[i : i + k] for i in range(len(sequence) - k + 1))
    assert kmers.decode(kmer_text.parse(words)) == sequence.upper()


@pytest.mark.parametrize("text", ["", "ACGT", " ACGT ", "A", "ACGTNNNN"])
def test_a_single_word_is_no_text_of_kmers(text):
    assert kmer_text.parse(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ACG CGT GTA AAA", r"k-mer 4 \(AAA\) does not continue GTA; expected k-mers that overlap by 2"),
        ("ACGTACGTAC GTACGTACGT", "overlap by 9"),
        ("ACG CGT GT", r"k-mer 3 \(GT\) has 2 letters; expected 3"),
        ("ACG CGE", "'E' at position 6 is no nucleotide"),
    ],
)
def test_what_does_not_fit(text, message):
    with pytest.raises(InputError, match=message):
        kmer_text.parse(text)


def test_dnaberts_own_file(shared_data):
    path = shared_data / "dnabert_sample" / "prom_core_6mer_dev.tsv"
    rows = [line.split("\t")[0] for line in path.read_text().splitlines()[1:]]
    assert len(rows) == 1000
    for row in rows:
        bases = kmer_text.parse(row)
        expected = [kmers.tokenize(kmers.encode(word), 6)[0] for word in row.split()]
        assert np.array_equal(kmers.tokenize(bases, 6), expected)
