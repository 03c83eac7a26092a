"""Predictions for sequences of any length against the model on rows in pieces."""

import functools

import jax
import numpy as np
import pytest

from dnabert_jax import kmers
from dnabert_jax.data import pieces
from dnabert_jax.errors import InputError
from dnabert_jax.inference import predictions
from dnabert_jax.model import heads
from tests import tiny

K, MOST, LENGTH = tiny.ENCODER.k, tiny.ENCODER.max_kmers, tiny.ENCODER.max_length
SEQUENCES = tiny.dna(40, 3, 64, 65, 186, 130, 17)
PIECES = 3
HEADS = ["single_label", "multi_label", "regression", "per_base"]


def _in_pieces() -> dict[str, np.ndarray]:
    """int32[sequences, pieces, length], made of rows of single pieces."""
    batch = {
        name: np.zeros((len(SEQUENCES), PIECES, LENGTH), np.int32) for name in ("tokens", "segment_ids", "positions")
    }
    for number, bases in enumerate(SEQUENCES):
        for place, piece in enumerate(pieces.split(bases, K, MOST)):
            for name, row in _row(piece).items():
                batch[name][number, place] = row
    return batch


def _row(bases) -> dict[str, np.ndarray]:
    tokens = [kmers.CLS, *kmers.tokenize(bases, K), kmers.SEP]
    fill = (0, LENGTH - len(tokens))
    return {
        "tokens": np.pad(tokens, fill),
        "segment_ids": np.pad(np.ones(len(tokens), int), fill),
        "positions": np.pad(np.arange(len(tokens)), fill),
    }


@pytest.mark.parametrize(
    ("head", "join", "pool"),
    [
        *((head, "mean", "cls") for head in HEADS),
        ("single_label", "concatenate", "cls"),
        ("regression", "concatenate", "cls"),
        ("single_label", "mean", "mean"),
    ],
)
def test_as_the_model_on_rows_in_pieces(head, join, pool):
    config, params = tiny.model(head, ("a", "b", "c"), join=join, pieces=PIECES, pool=pool)
    expected = heads.predictor(config)(params, _in_pieces())
    found = list(predictions.predict(config, params, enumerate(SEQUENCES), batch_size=4))
    assert [number for number, _ in found] == list(range(len(SEQUENCES)))
    for (_, values), row, bases in zip(found, np.asarray(expected), SEQUENCES, strict=True):
        assert values.dtype == np.float32
        assert values.shape == ((len(bases), 3) if head == "per_base" else (3,))
        np.testing.assert_allclose(values, row[: len(bases)] if head == "per_base" else row, atol=2e-5)
    assert np.ptp([values[0] for _, values in found], axis=0).max() > 0.01


@pytest.mark.parametrize("head", ["single_label", "per_base"])
def test_any_number_of_pieces_where_they_are_averaged(head):
    config, params = tiny.model(head, ("a", "b"))
    (bases,) = tiny.dna(20 * MOST)
    ((_, values),) = predictions.predict(config, params, [("long", bases)], batch_size=8)
    assert values.shape == ((len(bases), 2) if head == "per_base" else (2,))
    np.testing.assert_allclose(values.sum(axis=-1), 1, atol=1e-5)


def test_a_base_is_the_mean_over_the_kmers_on_it():
    """Slowly: the logits of every k-mer of every piece, added to each base that it covers."""
    config, params = tiny.model("per_base", ("a", "b", "c"))
    network = heads.fine_tuned(config)
    of_kmers = jax.jit(functools.partial(network.apply, deterministic=True, method="kmer_logits"))
    for bases in SEQUENCES[3:5]:
        total, number, at = np.zeros((len(bases), 3)), np.zeros(len(bases)), 0
        for piece in pieces.split(bases, K, MOST):
            row = {name: values[None] for name, values in _row(piece).items()}
            logits = of_kmers({"params": params}, row["tokens"], row["segment_ids"], row["positions"])[0]
            for kmer in range(len(piece) - K + 1):
                for base in range(at, at + K):
                    total[base] += logits[1 + kmer]
                    number[base] += 1
                at += 1
        exponents = np.exp(total / number[:, None])
        ((_, found),) = predictions.predict(config, params, [("a", bases)], batch_size=2)
        np.testing.assert_allclose(found, exponents / exponents.sum(axis=1, keepdims=True), atol=2e-5)


def test_more_pieces_than_there_are_places_for():
    config, params = tiny.model("single_label", ("a", "b"), join="concatenate", pieces=2)
    with pytest.raises(InputError, match=r"^4: 186 bases are 3 pieces of 62 k-mers; expected at most 126 bases"):
        list(predictions.predict(config, params, enumerate(SEQUENCES), batch_size=4))
