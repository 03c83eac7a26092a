"""Span masking on the device: which tokens are hidden, and what the model sees in their place.

A pure function of (key, rows): nothing is carried from step to step, so a resumed run draws the masks that an
uninterrupted one draws. As in DNABERT, centres are drawn token by token and a span of k tokens around each is masked,
clipped to its segment; unlike there, the centre's probability is 1 - (1 - r)^(1/s) rather than r/s, so that overlaps
do not lower the share r of masked tokens. Special tokens, [UNK] and padding are never masked.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnabert_jax import kmers
from dnabert_jax.config import MaskingConfig


class MaskedBatch(NamedTuple):
    """Rows as the model sees them, and the questions that they ask.

    Attributes:
      tokens: int32[batch, length], with some tokens replaced.
      segment_ids, positions: int32[batch, length], as they came.
      original: int32[batch, length], the tokens before masking.
      masked: bool[batch, length], where a token is asked for.
      slots: int32[batch, slots], the places of the masked tokens in ascending order, then arbitrary places.
      weights: float32[batch, slots], 1 where a slot holds a masked token and 0 where it is spare.
      unplaced: int32[batch], masked tokens of the row for which no slot was left.
    """

    tokens: jax.Array
    segment_ids: jax.Array
    positions: jax.Array
    original: jax.Array
    masked: jax.Array
    slots: jax.Array
    weights: jax.Array
    unplaced: jax.Array


def span_length(config: MaskingConfig, k: int) -> int:
    """Tokens in a span: `config.span`, or k where that is 0."""
    return config.span or k


def slot_count(row_length: int, config: MaskingConfig, k: int) -> int:
    """Slots that a row needs, so that a masked token without one is not to be expected in a whole run.

    Six standard deviations above the mean number of masked tokens in a row that is one long segment, at the higher of
    the two rates, rounded up to a multiple of 8. The variance is that of the coverage of independent spans: two tokens
    d apart are both uncovered with probability q^(s + min(d, s)), where q is the probability of no centre.
    """
    rate, span = max(config.rate, config.late_rate), span_length(config, k)
    q = 1 - _centre_probability(rate, span)
    distances = np.minimum(np.abs(np.arange(1 - span, span)), span)
    variance = row_length * float(np.sum(q ** (span + distances) - q ** (2 * span)))
    enough = row_length * rate + 6 * math.sqrt(variance)
    return min(row_length, 8 * math.ceil(enough / 8))


def mask(
    key: jax.Array,
    batch: dict[str, jax.Array],
    config: MaskingConfig,
    *,
    k: int,
    step: jax.Array | int = 0,
    evaluation: bool = False,
) -> MaskedBatch:
    """Hides spans of tokens.

    Args:
      key: random key of this batch.
      batch: `tokens`, `segment_ids`, `positions`, each int32[batch, length].
      config: rates, span and corruption.
      k: k-mer length.
      step: from `config.late_step` on, `config.late_rate` is used.
      evaluation: always use `config.rate`, and put [MASK] in the place of every masked token, so that the figures of
        different corruptions compare.
    """
    tokens, segment_ids = batch["tokens"], batch["segment_ids"]
    span = span_length(config, k)
    rate = jnp.where(jnp.asarray(step) >= config.late_step, config.late_rate, config.rate)
    if evaluation:
        rate = jnp.asarray(config.rate)
    centre_key, choice_key, random_key = jax.random.split(key, 3)
    maskable = tokens >= kmers.FIRST_KMER
    centres = maskable & jax.random.bernoulli(centre_key, _centre_probability(rate, span), tokens.shape)
    masked = maskable & _spans(centres, segment_ids, span)

    if evaluation:
        seen = jnp.where(masked, kmers.MASK, tokens)
    else:
        choice = jax.random.uniform(choice_key, tokens.shape)
        if config.corruption == "span":
            choice = _one_per_run(choice, masked)
        random = jax.random.randint(random_key, tokens.shape, 0, kmers.vocabulary_size(k), tokens.dtype)
        seen = jnp.where(choice < config.mask_share + config.random_share, random, tokens)
        seen = jnp.where(choice < config.mask_share, kmers.MASK, seen)
        seen = jnp.where(masked, seen, tokens)

    slots, weights, unplaced = _slots(masked, slot_count(tokens.shape[1], config, k))
    return MaskedBatch(seen, segment_ids, batch["positions"], tokens, masked, slots, weights, unplaced)


def _centre_probability(rate, span: int):
    """Probability of a centre such that a share `rate` of the tokens lies within a span: 1 - (1 - p)^span = rate."""
    return 1 - (1 - rate) ** (1 / span)


def _shift(x: jax.Array, by: int) -> jax.Array:
    """Moves x along its last axis by `by` places (right if positive), filling with zeros."""
    length = x.shape[-1]
    if abs(by) >= length:
        return jnp.zeros_like(x)
    pad = [(0, 0)] * (x.ndim - 1)
    if by >= 0:
        return jnp.pad(x, [*pad, (by, 0)])[..., :length]
    return jnp.pad(x, [*pad, (0, -by)])[..., -by:]


def _spans(centres: jax.Array, segment_ids: jax.Array, span: int) -> jax.Array:
    """Tokens within a span: offsets -(s-1)//2 .. s//2 around each centre of the same segment, as DNABERT has them."""
    covered = jnp.zeros_like(centres)
    for offset in range(-((span - 1) // 2), span // 2 + 1):
        covered |= _shift(centres, offset) & (_shift(segment_ids, offset) == segment_ids)
    return covered


def _one_per_run(choice: jax.Array, masked: jax.Array) -> jax.Array:
    """The choice of the first token of each run of masked tokens, for the whole run.

    Spans that touch or overlap are one run, so no kept token stands beside a hidden one of the same bases.
    """
    place = jnp.broadcast_to(jnp.arange(masked.shape[-1]), masked.shape)
    first = masked & ~_shift(masked, 1)
    start = jax.lax.cummax(jnp.where(first, place, 0), axis=masked.ndim - 1)
    return jnp.take_along_axis(choice, start, axis=-1)


def _slots(masked: jax.Array, slots: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The first `slots` masked places of each row, their weights, and how many of its masked tokens were left out."""
    places = jnp.argsort(~masked, axis=-1, stable=True)[:, :slots].astype(jnp.int32)
    weights = jnp.take_along_axis(masked, places, axis=-1).astype(jnp.float32)
    unplaced = jnp.sum(masked, axis=-1) - jnp.sum(weights, axis=-1).astype(jnp.int32)
    return places, weights, unplaced
