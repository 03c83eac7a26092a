"""A stream of sequences, in pieces, through a jitted function: batches in, each sequence's results out, in input order.

Sequences come in every length, and padding costs what sequences cost. So a window of the stream is in memory, as many
pieces as fill 64 batches, and pieces of about one length are computed together (`shapes` says in which shape).
The results of pieces that had their turn before earlier ones wait for these; where each token has results of its own,
the window is as short as keeps them within 256 MiB, or one batch.

The host works while the device does: JAX gives back arrays that are still being computed, on a CPU too. By the time
that the results of one batch are waited for, the next one is on the device, and while that is computed the results are
handed on, the batch after it is tokenised, and a part of the next window is read. It takes no thread of Python's, which
could not tokenise at the same time as another writes anyway; so an interrupt is one, and nothing runs on behind a
generator that is closed.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from dnabert_jax import kmers
from dnabert_jax.config import EncoderConfig
from dnabert_jax.data import loader, pieces
from dnabert_jax.data.rows import Batch
from dnabert_jax.errors import InputError
from dnabert_jax.inference import shapes
from dnabert_jax.inference.shapes import Shape

Tag = TypeVar("Tag")

_WINDOW = 64
"""Batches."""

_HELD_BYTES = 2**28
"""Of results that wait."""


class Piece(NamedTuple):
    """What one row holds.

    Attributes:
      bases: uint8[n], between k bases and as many as the model reads.
      hidden: bool[n - k + 1], the k-mers to put [MASK] in the place of; None hides none.
    """

    bases: np.ndarray
    hidden: np.ndarray | None = None


def longest(encoder: EncoderConfig, count: int = 1) -> int:
    """Bases in the longest sequence of so many pieces."""
    return count * encoder.max_kmers + encoder.k - 1


def cut(name: object, bases: np.ndarray, encoder: EncoderConfig, most: int = 0) -> list[np.ndarray]:
    """The pieces of a sequence, uint8[n_i] each.

    Args:
      name: of the sequence, for the error.
      bases: uint8[n], at least k.
      encoder: what reads them.
      most: pieces that there may be; 0 is any number.

    Raises:
      InputError: more pieces than that.
    """
    found = pieces.split(bases, encoder.k, encoder.max_kmers)
    if most and len(found) > most:
        raise InputError(
            f"{name}: {len(bases)} bases are {len(found)} pieces of {encoder.max_kmers} k-mers; expected at most "
            f"{longest(encoder, most)} bases, for {most} are joined side by side"
        )
    return found


def evaluate(
    function: Callable[[Batch], Any],
    sequences: Iterable[tuple[Tag, Sequence[Piece]]],
    encoder: EncoderConfig,
    *,
    batch_size: int,
    token_bytes: int = 0,
) -> Iterator[tuple[Tag, list[Any]]]:
    """Runs a function of batches on every piece of every sequence.

    Args:
      function: jitted; takes `tokens`, `segment_ids` and `positions`, int32[rows, length], and returns a pytree of
        arrays with a leading axis of rows.
      sequences: pairs of anything, to know the sequence by, and its pieces, at least one.
      encoder: what computes them.
      batch_size: rows of the longest that may be computed at once.
      token_bytes: what the results of a token take, where every token or base has some: then the second axis of the
        results is cut to those of the row. 0 where the results are of the whole row.

    Yields:
      What the sequence is known by, and for each of its pieces the function's results on its row, as NumPy arrays.

    Raises:
      Whatever `sequences` raises, behind the results of what it gave before.
    """
    plan = shapes.shapes(encoder, batch_size, jax.local_devices()[0].platform)
    stream = _Stream(sequences, encoder.k)
    for batch, outputs in _one_ahead(_computed(function, stream, plan, encoder.k, token_bytes)):
        outputs = jax.tree.map(np.asarray, outputs)
        for row, place in enumerate(batch):
            index = (row, slice(max(place.tokens, len(place.piece.bases)))) if token_bytes else row
            # A copy, so that a result that is kept does not keep its whole batch.
            place.sequence.results[place.number] = jax.tree.map(lambda x, index=index: x[index].copy(), outputs)
            place.sequence.missing -= 1
        while stream.unfinished and not stream.unfinished[0].missing:
            sequence = stream.unfinished.popleft()
            yield sequence.tag, sequence.results
    if stream.error:
        raise stream.error


@dataclass(eq=False)
class _Sequence:
    """One whose results are not all there."""

    tag: Any
    results: list[Any]
    missing: int


class _Place(NamedTuple):
    """Where the results of a piece belong."""

    sequence: _Sequence
    number: int
    piece: Piece
    tokens: int


class _Stream:
    """Pieces as they are asked for.

    Attributes:
      unfinished: the sequences that were begun, in input order; whoever has a sequence's results takes it out.
      error: what ended the stream before its time.
    """

    def __init__(self, sequences: Iterable[tuple[Any, Sequence[Piece]]], k: int) -> None:
        self.unfinished: deque[_Sequence] = deque()
        self.error: Exception | None = None
        self._places = self._read(sequences, k)

    def _read(self, sequences: Iterable[tuple[Any, Sequence[Piece]]], k: int) -> Iterator[_Place]:
        try:
            for tag, held in sequences:
                sequence = _Sequence(tag, [None] * len(held), len(held))
                self.unfinished.append(sequence)
                for number, piece in enumerate(held):
                    yield _Place(sequence, number, piece, len(piece.bases) - k + 3)
        except Exception as error:  # It is the caller's, in its turn.
            self.error = error

    def take(self, tokens: int) -> list[_Place]:
        """The next pieces, until they have so many tokens together."""
        taken = []
        while tokens > 0 and (place := next(self._places, None)):
            taken.append(place)
            tokens -= place.tokens
        return taken


def _computed(
    function: Callable[[Batch], Any], stream: _Stream, plan: shapes.Shapes, k: int, token_bytes: int
) -> Iterator[tuple[list[_Place], Any]]:
    """Batches with what the device makes of them; it does so while the caller goes on."""
    most = _WINDOW * plan.tokens
    if token_bytes:
        most = max(min(most, _HELD_BYTES // token_bytes), plan.tokens)
    window = stream.take(most)
    while window:
        # From long to short; pieces of one bucket keep their order, so that a stream of one length flows.
        window.sort(key=lambda place: -plan.bucket(place.tokens))
        coming: list[_Place] = []
        begin, room = 0, most
        while begin < len(window):
            shape = plan.choose(window[begin].tokens, len(window) - begin)
            batch = window[begin : begin + shape.rows]
            begin += len(batch)
            yield batch, function(_batch([place.piece for place in batch], k, shape))
            read = stream.take(min(plan.tokens, room))
            room -= sum(place.tokens for place in read)
            coming += read
        window = coming + stream.take(room)


def _batch(held: list[Piece], k: int, shape: Shape) -> Batch:
    """Rows of one segment each; those that are missing are copies of the last."""
    batch = loader.sequence_batch([piece.bases for piece in held], k=k, length=shape.length)
    for row, piece in enumerate(held):
        if piece.hidden is not None:
            batch["tokens"][row, 1 : 1 + len(piece.hidden)][piece.hidden] = kmers.MASK
    fill = ((0, shape.rows - len(held)), (0, 0))
    return {name: np.pad(value, fill, mode="edge") for name, value in batch.items()}


def _one_ahead(items: Iterator[Any]) -> Iterator[Any]:
    """The items, each while the next is already begun."""
    before = next(items, None)
    while before is not None:
        after = next(items, None)
        yield before
        before = after
