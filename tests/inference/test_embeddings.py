"""Embeddings against the states of one sequence's pieces by themselves, without padding."""

import functools

import jax
import numpy as np
import pytest

from dnabert_jax import kmers
from dnabert_jax.errors import InputError
from dnabert_jax.inference import embeddings
from dnabert_jax.model.apply import apply
from tests import tiny

K, MOST = tiny.ENCODER.k, tiny.ENCODER.max_kmers
SEQUENCES = tiny.dna(40, 3, 64, 65, 200, 130, 17, 126)
ATOL = 2e-5


@pytest.fixture(scope="module")
def model():
    return tiny.model("none")


@pytest.fixture(scope="module")
def states(model):
    """Of each piece of each sequence the hidden states, [CLS] and [SEP] included."""
    config, params = model
    function = jax.jit(functools.partial(apply, config, params))
    found = []
    for bases in SEQUENCES:
        tokens = kmers.tokenize(bases, K)
        pieces = [tokens[start : start + MOST] for start in range(0, len(tokens), MOST)]
        found.append([np.asarray(function(_row(piece)).hidden[0]) for piece in pieces])
    return found


def _row(tokens):
    row = np.array([[kmers.CLS, *tokens, kmers.SEP]], np.int32)
    return {"tokens": row, "segment_ids": np.ones_like(row), "positions": np.arange(row.shape[1], dtype=np.int32)[None]}


def _embed(model, **options) -> list[np.ndarray]:
    found = list(embeddings.embed(*model, enumerate(SEQUENCES), batch_size=4, **options))
    assert [number for number, _ in found] == list(range(len(SEQUENCES)))
    assert all(vectors.dtype == np.float32 for _, vectors in found)
    return [vectors for _, vectors in found]


def test_mean_over_all_kmers(model, states):
    for found, pieces in zip(_embed(model), states, strict=True):
        np.testing.assert_allclose(found, np.concatenate([piece[1:-1] for piece in pieces]).mean(axis=0), atol=ATOL)


def test_cls_is_the_mean_over_pieces(model, states):
    for found, pieces in zip(_embed(model, pool="cls"), states, strict=True):
        np.testing.assert_allclose(found, np.mean([piece[0] for piece in pieces], axis=0), atol=ATOL)


def test_a_vector_for_each_kmer(model, states):
    for found, pieces in zip(_embed(model, pool=None), states, strict=True):
        np.testing.assert_allclose(found, np.concatenate([piece[1:-1] for piece in pieces]), atol=ATOL)


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_side_by_side(model, states, pool):
    for found, pieces in zip(_embed(model, pool=pool, join="concatenate", pieces=5), states, strict=True):
        vectors = [piece[1:-1].mean(axis=0) if pool == "mean" else piece[0] for piece in pieces]
        vectors += [np.zeros(32)] * (5 - len(vectors))
        np.testing.assert_allclose(found, np.concatenate(vectors), atol=ATOL)
        assert len(found) == embeddings.width(model[0], 5)


def test_embeddings_tell_sequences_apart(model):
    vectors = np.array(_embed(model))
    assert np.ptp(vectors, axis=0).max() > 0.1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"join": "concatenate"}, "pieces is 0 with join 'concatenate'; expected 1 or more"),
        ({"pieces": 2}, "pieces is 2 with join 'mean'"),
        ({"pieces": -1}, "pieces is -1; expected"),
        ({"pool": None, "join": "concatenate", "pieces": 2}, "without pooling"),
        ({"join": "concatenate", "pieces": 3}, "4: 200 bases are 4 pieces of 62 k-mers; expected at most 188 bases"),
    ],
)
def test_what_does_not_go_together(model, options, said):
    with pytest.raises(InputError, match=said):
        _embed(model, **options)
