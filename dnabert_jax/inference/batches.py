"""A stream of sequences, in pieces, through a jitted function: batches in, each sequence's results out, in input order.

Sequences come in every length, and a program is compiled for every shape of a batch. So batches have a fixed number of
rows, a power of two where all sequences fit in one batch, and are as long as one of few buckets. In memory are two
batches and the results of one sequence.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from dnabert_jax import kmers
from dnabert_jax.config import EncoderConfig
from dnabert_jax.data import loader, pieces
from dnabert_jax.data.rows import Batch
from dnabert_jax.errors import InputError

Tag = TypeVar("Tag")

_BUCKET, _LONG_BUCKET = 64, 512
"""Rows of up to 512 tokens are padded to a multiple of the first, longer ones to a multiple of the second."""


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
    *,
    k: int,
    max_length: int,
    batch_size: int,
) -> Iterator[tuple[Tag, list[Any]]]:
    """Runs a function of batches on every piece of every sequence.

    Args:
      function: jitted; takes `tokens`, `segment_ids` and `positions`, int32[batch_size, length], and returns a pytree
        of arrays with a leading axis of rows.
      sequences: pairs of anything, to know the sequence by, and its pieces, at least one.
      k: k-mer length.
      max_length: tokens of the longest row.
      batch_size: rows of each batch.

    Yields:
      What the sequence is known by, and for each of its pieces the function's results on its row, as NumPy arrays.
    """
    rows = ((tag, len(held), piece) for tag, held in sequences for piece in held)
    results: list[Any] = []
    for batch, outputs in _one_ahead(_computed(function, rows, k, max_length, batch_size)):
        outputs = jax.tree.map(np.asarray, outputs)
        for row, (tag, count, _) in enumerate(batch):
            # A copy, so that a result that is kept does not keep its whole batch.
            results.append(jax.tree.map(lambda x, row=row: x[row].copy(), outputs))
            if len(results) == count:
                yield tag, results
                results = []


def _computed(function, rows, k, max_length, batch_size) -> Iterator[tuple[list[Any], Any]]:
    """Batches with what the device makes of them; it does so while the caller goes on."""
    first = True
    while batch := list(itertools.islice(rows, batch_size)):
        held = [piece for *_, piece in batch]
        tokens = max(len(piece.bases) for piece in held) - k + 3
        # The last batch of a long stream keeps the shape, so that nothing is compiled anew; a short one is small.
        count = min(batch_size, 2 ** math.ceil(math.log2(len(held)))) if first else batch_size
        first = False
        filler = [held[-1]] * (count - len(held))
        yield batch, function(_batch([*held, *filler], k, min(_bucket(tokens), max_length)))


def _batch(held: list[Piece], k: int, length: int) -> Batch:
    batch = loader.sequence_batch([piece.bases for piece in held], k=k, length=length)
    for row, piece in enumerate(held):
        if piece.hidden is not None:
            batch["tokens"][row, 1 : 1 + len(piece.hidden)][piece.hidden] = kmers.MASK
    return batch


def _bucket(length: int) -> int:
    step = _BUCKET if length <= _LONG_BUCKET else _LONG_BUCKET
    return step * math.ceil(length / step)


def _one_ahead(items: Iterator[Any]) -> Iterator[Any]:
    """The items, each while the next is already begun."""
    before = next(items, None)
    while before is not None:
        after = next(items, None)
        yield before
        before = after
