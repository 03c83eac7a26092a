"""What a masked language model expects: logits of every k-mer, and probabilities of bases that are hidden from it.

A base is hidden when [MASK] stands in the place of every k-mer that covers it. Its probabilities are the mean, over
these k-mers, of the softmax over all k-mers marginalised onto the base. Pretraining's `bits_per_base` is made of the
same figure (`objectives.masked_lm.hidden_base_bits`); it compares across k.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnabert_jax import kmers
from dnabert_jax.config import EncoderConfig, ModelConfig
from dnabert_jax.data.rows import Batch
from dnabert_jax.inference.batches import Piece, Tag, cut, evaluate
from dnabert_jax.inference.programs import program
from dnabert_jax.model.apply import apply

Hiding = tuple[Tag, np.ndarray, np.ndarray]
"""Anything to know a sequence by, its bases, uint8[n] with n >= k, and which of them are hidden, bool[n]."""

_MOST_LOGITS = 2**26
"""In a batch, 256 MiB of them; they are most of what these models need memory for."""


def logits(
    config: ModelConfig, params: Any, sequences: Iterable[Hiding], *, batch_size: int = 64
) -> Iterator[tuple[Tag, np.ndarray]]:
    """Scores every token of the vocabulary in the place of every k-mer of a stream of sequences.

    Args:
      config: of a model with the head `masked_lm`.
      params: its params.
      sequences: those longer than the model reads go through it in pieces.
      batch_size: rows of the longest that may be computed at once, as for `batches.evaluate`.

    Yields:
      What the sequence is known by, and float32[n - k + 1, vocabulary].
    """
    token_bytes = 4 * config.encoder.vocabulary_size
    found = _evaluated(_logits, config, params, sequences, batch_size, token_bytes)
    for (tag, counts, _, _), results in found:
        yield tag, _of_kmers(results, counts)


def probabilities(
    config: ModelConfig, params: Any, sequences: Iterable[Hiding], *, batch_size: int = 64
) -> Iterator[tuple[Tag, np.ndarray]]:
    """Probabilities of the hidden bases of a stream of sequences.

    Args: as `logits`.

    Yields:
      What the sequence is known by, and float32[hidden bases, 4], the columns in the order of base codes: A, T, C, G.
    """
    k = config.encoder.k
    found = _evaluated(_base_marginals, config, params, sequences, batch_size, token_bytes=4 * k * 4)
    for (tag, counts, hidden, covered), results in found:
        marginals = np.where(covered[:, None, None], _of_kmers(results, counts), 0)
        total = np.zeros((len(hidden), len(kmers.LETTERS) - 1), np.float32)
        covering = np.zeros(len(hidden), np.float32)
        for place in range(k):
            bases = slice(place, place + len(marginals))
            total[bases] += marginals[:, place]
            covering[bases] += covered
        yield tag, total[hidden] / covering[hidden][:, None]


def _evaluated(
    function, config: ModelConfig, params: Any, sequences: Iterable[Hiding], batch_size: int, token_bytes: int
):
    encoder = config.encoder
    in_pieces = (_in_pieces(encoder, *sequence) for sequence in sequences)
    return evaluate(
        functools.partial(program(function, config), params),
        in_pieces,
        encoder,
        batch_size=max(1, min(batch_size, _MOST_LOGITS // (encoder.max_length * encoder.vocabulary_size))),
        token_bytes=token_bytes,
    )


def _in_pieces(encoder: EncoderConfig, tag: Any, bases: np.ndarray, hidden: np.ndarray) -> tuple[Any, list[Piece]]:
    covered = np.lib.stride_tricks.sliding_window_view(hidden, encoder.k).any(axis=1)
    parts = cut(tag, bases, encoder)
    counts = [len(part) - encoder.k + 1 for part in parts]
    places = np.split(covered, np.cumsum(counts)[:-1])
    return (tag, counts, hidden, covered), [Piece(part, place) for part, place in zip(parts, places, strict=True)]


def _of_kmers(results: list[np.ndarray], counts: list[int]) -> np.ndarray:
    return np.concatenate([result[1 : 1 + count] for result, count in zip(results, counts, strict=True)])


def _logits(config: ModelConfig, params: Any, batch: Batch) -> jax.Array:
    return apply(config, params, batch).logits


def _base_marginals(config: ModelConfig, params: Any, batch: Batch) -> jax.Array:
    """float32[batch, length, k, 4]: the probability of each base at each place of each k-mer."""
    k = config.encoder.k
    of_kmers = jax.nn.softmax(apply(config, params, batch).logits[..., kmers.FIRST_KMER :])
    split = of_kmers.reshape(*of_kmers.shape[:-1], *[4] * k)
    first = split.ndim - k
    others = [[axis for axis in range(first, split.ndim) if axis != first + place] for place in range(k)]
    return jnp.stack([split.sum(axes) for axes in others], axis=-2)
