"""Sequences through batches: every result in its place, whatever the lengths and the size of the batch."""

import math

import numpy as np
import pytest

from dnabert_jax import kmers
from dnabert_jax.config import EncoderConfig
from dnabert_jax.errors import InputError
from dnabert_jax.inference import batches
from dnabert_jax.inference.batches import Piece
from tests import tiny

K = tiny.ENCODER.k


def _tokens(batch):
    """Results that show what each row held."""
    return {"tokens": batch["tokens"], "length": batch["segment_ids"].sum(axis=1)}


def _stream(counts: list[int], seed: int = 0):
    """Sequences named by their number, of so many pieces each."""
    generator = np.random.default_rng(seed)
    for number, count in enumerate(counts):
        lengths = generator.integers(K, 65, count)
        yield number, [Piece(generator.integers(0, 4, length, dtype=np.uint8)) for length in lengths]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 64])
def test_every_piece_has_its_result_in_order(batch_size):
    counts = [1, 2, 1, 7, 1, 1, 3, 10]
    found = list(batches.evaluate(_tokens, _stream(counts), k=K, max_length=64, batch_size=batch_size))
    assert [tag for tag, _ in found] == list(range(len(counts)))
    for (_, results), (_, pieces) in zip(found, _stream(counts), strict=True):
        assert len(results) == len(pieces)
        for result, piece in zip(results, pieces, strict=True):
            expected = [kmers.CLS, *kmers.tokenize(piece.bases, K), kmers.SEP]
            assert result["length"] == len(expected)
            np.testing.assert_array_equal(result["tokens"][: len(expected)], expected)
            assert not result["tokens"][len(expected) :].any()


def test_hidden_kmers_are_masked():
    (bases,) = tiny.dna(12)
    hidden = np.zeros(10, bool)
    hidden[[0, 4, 9]] = True
    pieces = [Piece(bases, hidden), Piece(bases)]
    ((_, (masked, plain)),) = batches.evaluate(_tokens, [("a", pieces)], k=K, max_length=64, batch_size=2)
    expected = np.where(hidden, kmers.MASK, kmers.tokenize(bases, K))
    np.testing.assert_array_equal(masked["tokens"][:12], [kmers.CLS, *expected, kmers.SEP])
    np.testing.assert_array_equal(plain["tokens"][1:11], kmers.tokenize(bases, K))


@pytest.mark.parametrize(("max_length", "most"), [(64, 1), (100, 2), (512, 8), (4096, 15)])
def test_few_shapes_are_compiled(max_length, most):
    seen = set()

    def record(batch):
        seen.add(batch["tokens"].shape)
        return batch["tokens"][:, 0]

    lengths = range(K, max_length - 2 + K, max(max_length // 200, 1))
    stream = ((length, [Piece(np.zeros(length, np.uint8))]) for length in lengths)
    list(batches.evaluate(record, stream, k=K, max_length=max_length, batch_size=2))
    assert len(seen) <= most
    assert all(rows == 2 and length <= max_length for rows, length in seen)


def test_a_stream_is_read_as_it_is_needed():
    taken = []

    def stream():
        for number, pieces in _stream([1] * 100):
            taken.append(number)
            yield number, pieces

    found = batches.evaluate(_tokens, stream(), k=K, max_length=64, batch_size=4)
    next(found)
    assert len(taken) <= 2 * 4 + 1


def test_pieces_of_a_sequence():
    encoder = EncoderConfig(k=K, max_length=12)  # ten k-mers
    (bases,) = tiny.dna(25)
    parts = batches.cut("a", bases, encoder)
    assert [len(part) for part in parts] == [12, 12, 5]
    np.testing.assert_array_equal(np.concatenate([kmers.tokenize(part, K) for part in parts]), kmers.tokenize(bases, K))
    assert len(batches.cut("a", bases, encoder, 3)) == math.ceil((25 - K + 1) / 10)
    assert batches.longest(encoder, 2) == 22
    with pytest.raises(InputError, match=r"^a: 25 bases are 3 pieces of 10 k-mers; expected at most 22 bases"):
        batches.cut("a", bases, encoder, 2)
