"""How sure figures are: 95 % intervals by the bootstrap, of one model and of the difference between two.

The examples are drawn again and again, as many as there are, with replacement (Efron and Tibshirani 1993); the
interval is that between the 2.5th and 97.5th percentile of the figures of the resamples. It covers the choice of the
examples that the model is judged on, not that of the training data or of the seed. The bases of a sequence are drawn
together, for they are not independent.
"""

from typing import NamedTuple

import numpy as np

from dnabert_jax.config import Target
from dnabert_jax.evaluation.weighted import NAMES, Weighted

RESAMPLES = 1000
_PERCENTILES = (2.5, 97.5)
_AT_ONCE = 2_000_000
"""Weights held at a time."""


class Interval(NamedTuple):
    """A 95 % interval; None where no resample has the figure."""

    low: float | None
    high: float | None
    undefined: int
    """Resamples that were left out, because the figure is undefined there."""


class Difference(NamedTuple):
    """A figure of one model minus that of another on the same examples."""

    value: float | None
    low: float | None
    high: float | None
    undefined: int


def intervals(
    target: Target,
    labels: np.ndarray,
    predictions: np.ndarray,
    *,
    sequences: np.ndarray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of the figures of a model.

    Args:
      target, labels, predictions: as `evaluation.figures` takes them.
      sequences: int[n], the number of the sequence that each example belongs to, 0 upwards; what is of one sequence is
        drawn together. None draws each example for itself.
      resamples: how often the examples are drawn.
      seed: of the draws.

    Returns:
      An interval for each figure of `weighted.NAMES[target]`.
    """
    figures = Weighted(target, labels, predictions)
    found = _resampled([figures], len(labels), sequences, resamples, seed)[0]
    return {name: Interval(*_percentiles(found[name])) for name in NAMES[target]}


def differences(
    target: Target,
    labels: np.ndarray,
    predictions: np.ndarray,
    others: np.ndarray,
    *,
    sequences: np.ndarray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Difference]:
    """Figures of a model minus those of another, paired: both are judged on the same resamples.

    Args:
      target, labels, predictions: as `evaluation.figures` takes them.
      others: what the other model predicts for the same examples.
      sequences, resamples, seed: as for `intervals`.

    Returns:
      A difference for each figure of `weighted.NAMES[target]`.
    """
    both = [Weighted(target, labels, each) for each in (predictions, others)]
    once = [each(np.ones((1, len(labels)), np.int64)) for each in both]
    found = _resampled(both, len(labels), sequences, resamples, seed)
    return {
        name: Difference(
            _defined(float((once[0][name] - once[1][name])[0])), *_percentiles(found[0][name] - found[1][name])
        )
        for name in NAMES[target]
    }


def _resampled(
    figures: list[Weighted], count: int, sequences: np.ndarray | None, resamples: int, seed: int
) -> list[dict[str, np.ndarray]]:
    """Of each model, float64[resamples] for each figure."""
    generator = np.random.default_rng(seed)
    drawn = count if sequences is None else int(sequences.max()) + 1
    step = max(_AT_ONCE // count, 1)
    parts: list[list[dict[str, np.ndarray]]] = [[] for _ in figures]
    for start in range(0, resamples, step):
        weights = np.stack(
            [
                np.bincount(generator.integers(0, drawn, drawn), minlength=drawn)
                for _ in range(min(step, resamples - start))
            ]
        )
        if sequences is not None:
            weights = weights[:, sequences]
        for part, each in zip(parts, figures, strict=True):
            part.append(each(weights))
    return [{name: np.concatenate([each[name] for each in part]) for name in part[0]} for part in parts]


def _percentiles(values: np.ndarray) -> tuple[float | None, float | None, int]:
    known = values[np.isfinite(values)]
    if not len(known):
        return None, None, len(values)
    low, high = np.percentile(known, _PERCENTILES)
    return float(low), float(high), len(values) - len(known)


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None
