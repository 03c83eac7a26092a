"""Embeddings: vectors from the last hidden states, for a whole sequence of any length or for each of its k-mers."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from dnabert_jax.config import ModelConfig
from dnabert_jax.data.rows import Batch
from dnabert_jax.errors import InputError
from dnabert_jax.inference.batches import Piece, Tag, cut, evaluate
from dnabert_jax.inference.programs import program
from dnabert_jax.model.apply import apply

Pool = Literal["mean", "cls"]
Join = Literal["mean", "concatenate"]


def check_join(pool: Pool | None, join: Join, pieces: int) -> None:
    """Raises InputError where `embed` does not take these together."""
    if pieces < 0:
        raise InputError(f"pieces is {pieces}; expected 1 or more, or 0 for any number")
    if join == "concatenate" and pool is None:
        raise InputError(
            "join is 'concatenate' without pooling; expected pool 'mean' or 'cls', whose vectors can be joined"
        )
    if (join == "concatenate") != (pieces > 0):
        raise InputError(
            f"pieces is {pieces} with join {join!r}; expected 1 or more with 'concatenate', and 0 with 'mean'"
        )


def width(config: ModelConfig, pieces: int = 0) -> int:
    """Numbers in a vector that `embed` yields: the hidden size, or that of all pieces where they stand side by side."""
    return config.encoder.hidden * max(pieces, 1)


def embed(
    config: ModelConfig,
    params: Any,
    sequences: Iterable[tuple[Tag, np.ndarray]],
    *,
    pool: Pool | None = "mean",
    join: Join = "mean",
    pieces: int = 0,
    batch_size: int = 64,
) -> Iterator[tuple[Tag, np.ndarray]]:
    """Embeds a stream of sequences; those longer than the model reads go through it in pieces.

    Args:
      config, params: the model's.
      sequences: pairs of anything, to know the sequence by, and its bases, uint8[n], at least k.
      pool: `mean`, the mean over all k-mers of all pieces, without [CLS] and [SEP]; `cls`, the state of [CLS], and of
        several pieces their mean; None, one vector for each k-mer, in order.
      join: `concatenate` puts the vectors of `pieces` pieces side by side instead of taking the mean over them; 0
        stands for those that a sequence does not have.
      pieces: how many, with `concatenate`.
      batch_size: rows of the longest that may be computed at once, as for `batches.evaluate`.

    Yields:
      What the sequence is known by, and float32[hidden], float32[pieces * hidden] where joined by `concatenate`, or
      float32[n - k + 1, hidden] where `pool` is None.

    Raises:
      InputError: `join` and `pieces` that do not go together, or a sequence of more than `pieces` pieces.
    """
    check_join(pool, join, pieces)
    encoder = config.encoder
    # The number of k-mers of each piece goes along, to tell the results of k-mers from those of padding.
    in_pieces = (
        ((tag, [len(piece) - encoder.k + 1 for piece in parts]), [Piece(piece) for piece in parts])
        for tag, parts in ((tag, cut(tag, bases, encoder, pieces)) for tag, bases in sequences)
    )
    function = functools.partial(program(_vectors, config, pool), params)
    token_bytes = 4 * encoder.hidden if pool is None else 0
    found = evaluate(function, in_pieces, encoder, batch_size=batch_size, token_bytes=token_bytes)
    for (tag, counts), results in found:
        yield tag, _joined(results, np.array(counts), pool, pieces)


def _vectors(config: ModelConfig, pool: Pool | None, params: Any, batch: Batch) -> jax.Array:
    """Of each row the sum over its k-mers, the state of [CLS], or all states."""
    hidden = apply(config, params, batch).hidden
    if pool == "cls":
        return hidden[:, 0].astype(jnp.float32)
    if pool is None:
        return hidden
    # A k-mer has a token of its segment before it, [CLS], and one behind it, [SEP].
    is_kmer = jnp.pad(batch["segment_ids"][:, 2:] > 0, ((0, 0), (1, 1)))
    return jnp.sum(jnp.where(is_kmer[..., None], hidden.astype(jnp.float32), 0), axis=1)


def _joined(results: list[np.ndarray], counts: np.ndarray, pool: Pool | None, pieces: int) -> np.ndarray:
    if pool is None:
        states = [result[1 : 1 + count] for result, count in zip(results, counts, strict=True)]
        return np.concatenate(states).astype(np.float32)
    vectors = np.stack(results)
    if not pieces:
        return vectors.sum(axis=0) / np.float32(counts.sum() if pool == "mean" else len(vectors))
    if pool == "mean":
        vectors = vectors / counts[:, None].astype(np.float32)
    return np.pad(vectors, ((0, pieces - len(vectors)), (0, 0))).reshape(-1)
