"""Predictions of a fine-tuned model for sequences of any length: their pieces joined as `model.heads` joins them."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
import scipy.special

from dnabert_jax.config import ModelConfig
from dnabert_jax.data.rows import Batch
from dnabert_jax.inference.batches import Piece, Tag, cut, evaluate
from dnabert_jax.inference.programs import program
from dnabert_jax.model.apply import apply


def predict(
    config: ModelConfig, params: Any, sequences: Iterable[tuple[Tag, np.ndarray]], *, batch_size: int = 64
) -> Iterator[tuple[Tag, np.ndarray]]:
    """Predicts for a stream of sequences; those longer than the model reads go through it in pieces.

    A classifier of whole sequences reads the pieces' pooled outputs, joined as the config says. For a base, the
    logits of all k-mers of all pieces that cover it are averaged.

    Args:
      config: of a model with a fine-tuned head.
      params: its params.
      sequences: pairs of anything, to know the sequence by, and its bases, uint8[n], at least k.
      batch_size: rows of the longest that may be computed at once, as for `batches.evaluate`.

    Yields:
      What the sequence is known by, and float32[outputs], or float32[n, classes] per base: probabilities or, for
      regression, numbers.

    Raises:
      InputError: a sequence of more pieces than a classifier that reads them side by side has places for.
    """
    encoder = config.encoder
    function = functools.partial(program(_outputs, config), params)
    most = config.pieces if config.join == "concatenate" else 0
    in_pieces = (
        ((tag, parts), [Piece(part) for part in parts])
        for tag, parts in ((tag, cut(tag, bases, encoder, most)) for tag, bases in sequences)
    )
    join = _per_base if config.head == "per_base" else _whole
    classifier = jax.device_get(params["classifier"])
    token_bytes = 4 * len(config.classes) if config.head == "per_base" else 0
    found = evaluate(function, in_pieces, encoder, batch_size=batch_size, token_bytes=token_bytes)
    for (tag, parts), results in found:
        yield tag, _predictions(join(config, classifier, parts, results), config.head)


def _outputs(config: ModelConfig, params: Any, batch: Batch) -> jax.Array:
    outputs = apply(config, params, batch)
    return outputs.logits if config.head == "per_base" else outputs.pooled


def _whole(config: ModelConfig, classifier: Any, parts: list[np.ndarray], results: list[np.ndarray]) -> np.ndarray:
    pooled = np.stack(results).astype(np.float32)
    if config.join == "mean":
        joined = pooled.sum(axis=0) / np.float32(len(pooled))
    else:
        joined = np.pad(pooled, ((0, config.pieces - len(pooled)), (0, 0))).reshape(-1)
    return joined @ classifier["kernel"] + classifier["bias"]


def _per_base(config: ModelConfig, classifier: Any, parts: list[np.ndarray], results: list[np.ndarray]) -> np.ndarray:
    """Neighbouring pieces share k - 1 bases; there the means of both are weighed by how many k-mers each is of."""
    k = config.encoder.k
    step = config.encoder.max_kmers
    bases = step * (len(parts) - 1) + len(parts[-1])
    total, covering = np.zeros((bases, len(config.classes)), np.float32), np.zeros((bases, 1), np.float32)
    for place, (part, result) in enumerate(zip(parts, results, strict=True)):
        number = np.convolve(np.ones(len(part) - k + 1, np.float32), np.ones(k, np.float32))[:, None]
        here = slice(place * step, place * step + len(part))
        total[here] += result[: len(part)] * number
        covering[here] += number
    return total / covering


def _predictions(logits: np.ndarray, head: str) -> np.ndarray:
    """As `model.heads.predictions`, on the host."""
    if head == "regression":
        return logits
    return scipy.special.expit(logits) if head == "multi_label" else scipy.special.softmax(logits, axis=-1)
