"""Whether probabilities are to be believed: of what a model gives 0.8, eight in ten should be right.

The question is asked of the probability of the last class where there are two, of the class that the model calls where
there are more, and of every class where an example may have any number of them.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve

from dnabert_jax.config import Target
from dnabert_jax.evaluation import pictures

BINS = 10
_INNER_EDGES = np.linspace(0, 1, BINS + 1)[1:-1]


class Reliability(NamedTuple):
    """A reliability curve, over the bins of equal width that have any example."""

    predicted: np.ndarray
    """float64[b]: mean probability in each bin."""
    observed: np.ndarray
    """float64[b]: share that it came true for."""
    counts: np.ndarray
    """int64[b]"""
    ece: float
    """Expected calibration error (Naeini et al. 2015): the mean distance of the two, weighted by the counts."""
    brier: float
    """Mean squared distance of the probability from what came true, 0 or 1."""


def question(target: Target, labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the curve of a target is drawn of.

    Args:
      target: any but `regression`.
      labels, probabilities: as `evaluation.figures` takes them, n examples of c classes.

    Returns:
      Whether it came true, bool[m], and its probability, float64[m]; m is n, or n·c for `multi_label`.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    if target == "multi_label":
        return labels.ravel() > 0, probabilities.ravel()
    if probabilities.shape[1] == 2:
        return labels == 1, probabilities[:, 1]
    return labels == probabilities.argmax(axis=1), probabilities.max(axis=1)


def curve(came_true: np.ndarray, probabilities: np.ndarray) -> Reliability:
    """The reliability of probabilities, float[m], given what came true, bool[m]."""
    # A softmax in float32 can come out a rounding above 1.
    probabilities = np.clip(probabilities, 0, 1)
    observed, predicted = calibration_curve(came_true, probabilities, n_bins=BINS, pos_label=True)
    # scikit-learn does not say how many are in its bins; these are the same ones.
    counts = np.bincount(np.searchsorted(_INNER_EDGES, probabilities))
    counts = counts[counts > 0]
    return Reliability(
        predicted,
        observed,
        counts,
        float(np.average(np.abs(observed - predicted), weights=counts)),
        float(np.mean((probabilities - came_true) ** 2)),
    )


def draw(found: Reliability, asked: str) -> Figure:
    """The curve, and under it how many examples each of its points is of.

    Args:
      found: what `curve` gave.
      asked: what the probabilities are of, for the axis.
    """
    figure = Figure(figsize=(5, 5))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    above.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=(0, (1, 3)), zorder=1, label="as it should be")
    label = f"ECE {found.ece:.3f}, Brier {found.brier:.3f}"
    above.plot(found.predicted, found.observed, color=pictures.COLOURS[0], marker="o", linewidth=1.8, label=label)
    above.set(ylabel="Share that it came true for", title="Reliability curve", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    above.legend(loc="upper left", frameon=False)
    middles = (np.searchsorted(_INNER_EDGES, found.predicted) + 0.5) / BINS
    below.bar(middles, found.counts, width=0.9 / BINS, color=pictures.COLOURS[0])
    below.set(xlabel=f"Probability of {asked}", ylabel="Number")
    for axes in (above, below):
        pictures.tidy(axes)
    return figure
