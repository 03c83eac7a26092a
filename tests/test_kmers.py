"""Tokenising against a slow loop over DNABERT's vocabulary order, and round trips."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert_jax import kmers
from dnabert_jax.errors import InputError

letters = st.text("ACGTNacgtnRYU", max_size=60)


def slow_tokenize(sequence: str, k: int) -> list[int]:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary += ["".join(letters) for letters in itertools.product("ATCG", repeat=k)]
    ids = {token: i for i, token in enumerate(vocabulary)}
    sequence = sequence.upper().replace("U", "T")
    return [ids.get(sequence[i : i + k], ids["[UNK]"]) for i in range(len(sequence) - k + 1)]


@given(letters, st.integers(1, 6))
def test_tokenize_is_the_slow_loop(sequence, k):
    assert kmers.tokenize(kmers.encode(sequence), k).tolist() == slow_tokenize(sequence, k)


@pytest.mark.parametrize("k", [7, 8, 9, 11, 12])
def test_tokenize_long_k(k):
    bases = np.random.default_rng(k).integers(0, 5, 80).astype(np.uint8)
    bases[:40] %= 4
    expected = []
    for start in range(80 - k + 1):
        window = [int(b) for b in bases[start : start + k]]
        expected.append(1 if 4 in window else 5 + sum(b * 4 ** (k - 1 - i) for i, b in enumerate(window)))
    assert kmers.tokenize(bases, k).tolist() == expected


def test_the_ids_that_the_paper_fixes():
    assert kmers.vocabulary(6)[:10] == [*kmers.SPECIAL_TOKENS, "AAAAAA", "AAAAAT", "AAAAAC", "AAAAAG", "AAAATA"]
    assert [kmers.vocabulary_size(k) for k in (3, 4, 5, 6)] == [69, 261, 1029, 4101]
    assert len(kmers.vocabulary(3)) == 69


def test_tokenize_keeps_leading_axes():
    bases = np.random.default_rng(0).integers(0, 5, (2, 3, 20)).astype(np.uint8)
    tokens = kmers.tokenize(bases, 6)
    assert tokens.shape == (2, 3, 15)
    assert tokens.dtype == np.int32
    assert (tokens[1, 2] == kmers.tokenize(bases[1, 2], 6)).all()
    assert kmers.tokenize(bases, 12).shape == (2, 3, 9)


@given(st.text("ACGT", min_size=6, max_size=60), st.integers(1, 6))
def test_detokenize_inverts_tokenize(sequence, k):
    assert kmers.decode(kmers.detokenize(kmers.tokenize(kmers.encode(sequence), k), k)) == sequence


def test_detokenize_unknown_and_wrong_tokens():
    bases = kmers.encode("ACGTNACGT")
    assert kmers.decode(kmers.detokenize(kmers.tokenize(bases, 3), 3)) == "ACGTNACGT"
    with pytest.raises(InputError, match="disagrees"):
        kmers.detokenize(np.array([5, 6 + 16]), 3)
    with pytest.raises(InputError, match="token 69 at position 1 is no 3-mer"):
        kmers.detokenize(np.array([69]), 3)


@given(letters)
def test_reverse_complement_against_biology(sequence):
    pairs = str.maketrans("ACGTN", "TGCAN")
    plain = kmers.decode(kmers.encode(sequence))
    assert kmers.decode(kmers.reverse_complement(kmers.encode(sequence))) == plain.translate(pairs)[::-1]


@pytest.mark.parametrize(
    ("sequence", "said"), [("ACGE", "'E' at position 4"), ("é", "'é' at position 1"), ("A-C", "'-'")]
)
def test_encode_refuses_other_letters(sequence, said):
    with pytest.raises(InputError, match=said):
        kmers.encode(sequence)


@pytest.mark.parametrize("k", [0, -1, 13])
def test_k_out_of_range(k):
    with pytest.raises(InputError, match="expected a whole number from 1 to 12"):
        kmers.tokenize(np.zeros(20, np.uint8), k)
