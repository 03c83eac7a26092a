"""Sequences through batches: every result in its place, whatever the lengths and the size of the batch."""

import itertools
import math

import numpy as np
import pytest

from dnabert_jax import kmers
from dnabert_jax.config import EncoderConfig
from dnabert_jax.errors import InputError
from dnabert_jax.inference import batches, shapes
from dnabert_jax.inference.batches import Piece
from tests import tiny

ENCODER, K = tiny.ENCODER, tiny.ENCODER.k


def _tokens(batch):
    """Results that show what each row held."""
    return {"tokens": batch["tokens"], "length": batch["segment_ids"].sum(axis=1)}


def _stream(counts, seed: int = 0):
    """Sequences named by their number, of so many pieces each."""
    generator = np.random.default_rng(seed)
    for number, count in enumerate(counts):
        lengths = generator.integers(K, 65, count)
        yield number, [Piece(generator.integers(0, 4, length, dtype=np.uint8)) for length in lengths]


def _check(found, expected) -> None:
    for (tag, results), (number, pieces) in zip(found, expected, strict=True):
        assert tag == number
        for result, piece in zip(results, pieces, strict=True):
            tokens = [kmers.CLS, *kmers.tokenize(piece.bases, K), kmers.SEP]
            assert result["length"] == len(tokens)
            np.testing.assert_array_equal(result["tokens"][: len(tokens)], tokens)
            assert not result["tokens"][len(tokens) :].any()


@pytest.fixture(params=[2, 64])
def window(request, monkeypatch):
    """Short streams are of many windows, or of one."""
    monkeypatch.setattr(batches, "_WINDOW", request.param)


@pytest.fixture(params=[1, 1e9], ids=["fine shapes", "coarse shapes"])
def plan(request, monkeypatch):
    """Shapes as of a large model, and of a tiny one."""
    made = shapes.Shapes(max_length=64, tokens=200, step=16, cost=request.param)
    monkeypatch.setattr(shapes, "shapes", lambda *_: made)


@pytest.mark.usefixtures("window")
@pytest.mark.parametrize("batch_size", [1, 3, 4, 64])
def test_every_piece_has_its_result_in_order(batch_size):
    counts = [1, 2, 1, 7, 1, 1, 3, 10]
    _check(batches.evaluate(_tokens, _stream(counts), ENCODER, batch_size=batch_size), _stream(counts))


@pytest.mark.usefixtures("window", "plan")
def test_every_piece_has_its_result_in_batches_of_few_tokens():
    counts = [1, 2, 1, 40, 1, 1, 3, 10] * 4
    _check(batches.evaluate(_tokens, _stream(counts), ENCODER, batch_size=4), _stream(counts))


def test_results_of_tokens_are_cut_to_those_that_the_piece_has():
    def of_tokens(batch):
        return batch["tokens"]

    found = batches.evaluate(of_tokens, _stream([3] * 5), ENCODER, batch_size=4, token_bytes=4)
    for (_, results), (_, pieces) in zip(found, _stream([3] * 5), strict=True):
        assert [len(result) for result in results] == [len(piece.bases) - K + 3 for piece in pieces]


def test_hidden_kmers_are_masked():
    (bases,) = tiny.dna(12)
    hidden = np.zeros(10, bool)
    hidden[[0, 4, 9]] = True
    pieces = [Piece(bases, hidden), Piece(bases)]
    ((_, (masked, plain)),) = batches.evaluate(_tokens, [("a", pieces)], ENCODER, batch_size=2)
    expected = np.where(hidden, kmers.MASK, kmers.tokenize(bases, K))
    np.testing.assert_array_equal(masked["tokens"][:12], [kmers.CLS, *expected, kmers.SEP])
    np.testing.assert_array_equal(plain["tokens"][1:11], kmers.tokenize(bases, K))


@pytest.mark.parametrize(("max_length", "most"), [(64, 1), (100, 2), (512, 8), (4096, 15)])
def test_few_shapes_are_compiled(max_length, most):
    """However long a stream of a small model goes on."""
    seen = set()

    def record(batch):
        seen.add(batch["tokens"].shape)
        return batch["tokens"][:, 0]

    lengths = range(K, max_length - 2 + K, max(max_length // 200, 1))
    stream = ((length, [Piece(np.zeros(length, np.uint8))]) for length in lengths)
    encoder = EncoderConfig(k=K, max_length=max_length, layers=1, hidden=8, heads=1, intermediate=8)
    list(batches.evaluate(record, stream, encoder, batch_size=2))
    assert len({length for _, length in seen}) <= most
    assert all(rows == 1 or rows * length <= 2 * max_length for rows, length in seen)


def test_pieces_of_one_length_are_computed_together(monkeypatch):
    monkeypatch.setattr(shapes, "shapes", lambda *_: shapes.Shapes(max_length=512, tokens=2048, step=16, cost=2000))
    computed = useful = 0

    def record(batch):
        nonlocal computed, useful
        computed += batch["tokens"].size
        useful += np.count_nonzero(batch["tokens"])
        return batch["tokens"][:, 0]

    lengths = np.random.default_rng(0).integers(20, 511, 2000)
    stream = ((number, [Piece(np.zeros(length, np.uint8))]) for number, length in enumerate(lengths))
    list(batches.evaluate(record, stream, EncoderConfig(k=K), batch_size=4))
    assert useful / computed > 0.85


def _endless(taken: list[int], length: int | None = None):
    for number, pieces in _stream(itertools.repeat(1)):
        taken.append(number)
        yield number, [Piece(np.zeros(length, np.uint8))] if length else pieces


@pytest.mark.parametrize(("window", "token_bytes"), [(2, 0), (64, 2**20)], ids=["as it is", "as results allow"])
def test_a_stream_is_read_as_it_is_needed(window, token_bytes, monkeypatch):
    monkeypatch.setattr(batches, "_WINDOW", window)
    taken: list[int] = []
    found = batches.evaluate(
        _tokens if not token_bytes else lambda x: x["tokens"],
        _endless(taken),
        ENCODER,
        batch_size=4,
        token_bytes=token_bytes,
    )
    for number, (tag, _) in enumerate(itertools.islice(found, 1000)):
        assert tag == number
        # The shortest piece has three tokens. Two windows of two batches of 256 tokens are in memory, or of 256.
        assert len(taken) - number <= (2 * 2 * 256 if not token_bytes else 2 * 256) / 3


def test_a_stream_of_one_length_flows(monkeypatch):
    """Its results do not wait for the end of the window."""
    calls = 0

    def count(batch):
        nonlocal calls
        calls += 1
        return batch["tokens"][:, 0]

    found = batches.evaluate(count, _endless([], 60), ENCODER, batch_size=1)
    next(found)
    assert calls == 2  # the device is at work on the second batch


def test_an_error_of_the_stream_comes_in_its_turn():
    def broken():
        yield from _stream([1] * 9)
        raise InputError("record 10 is wrong")

    found = batches.evaluate(_tokens, broken(), ENCODER, batch_size=2)
    _check(itertools.islice(found, 9), _stream([1] * 9))
    with pytest.raises(InputError, match=r"^record 10 is wrong$"):
        next(found)


def test_an_interrupt_does_not_wait():
    def interrupted():
        yield from _stream([1] * 9)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(batches.evaluate(_tokens, interrupted(), ENCODER, batch_size=2))


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
