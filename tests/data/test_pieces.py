"""Pieces against the k-mers of the whole sequence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert_jax import embedded, kmers
from dnabert_jax.data import fasta, pieces
from dnabert_jax.errors import InputError


@settings(max_examples=100, deadline=None)
@given(
    letters=st.text("ACGTN", max_size=60),
    k=st.integers(1, 7),
    max_kmers=st.integers(1, 20),
)
def test_the_kmers_of_the_pieces_are_those_of_the_sequence(letters, k, max_kmers):
    bases = kmers.encode(letters)
    found = pieces.split(bases, k, max_kmers)
    assert len(found) == pieces.count(len(bases), k, max_kmers)
    tokens = [kmers.tokenize(piece, k) for piece in found]
    assert [token for piece in tokens for token in piece] == kmers.tokenize(bases, k).tolist()
    assert all(len(piece) == max_kmers for piece in tokens[:-1])
    assert all(1 <= len(piece) <= max_kmers for piece in tokens[-1:])


@pytest.mark.parametrize(
    ("length", "expected"),
    [(2, []), (3, ["AAC"]), (6, ["AACAGA"]), (7, ["AACAGA", "GAT"]), (10, ["AACAGA", "GATCCC"])],
)
def test_pieces_overlap_by_k_less_one(length, expected):
    found = pieces.split(kmers.encode("AACAGATCCC"[:length]), 3, 4)
    assert [kmers.decode(piece) for piece in found] == expected


def test_real_dna_at_the_models_length():
    bases = next(fasta.records(embedded.FASTA)).bases[100_000:105_000]
    found = pieces.split(bases, 6, 510)
    assert [len(piece) for piece in found] == [515] * 9 + [410]
    assert [kmers.decode(piece) for piece in found] == [
        kmers.decode(bases[at : at + 515]) for at in range(0, 4_995, 510)
    ]
    assert np.shares_memory(found[3], bases)


def test_k_out_of_range_is_refused():
    with pytest.raises(InputError, match="k is 0"):
        pieces.count(10, 0, 4)
