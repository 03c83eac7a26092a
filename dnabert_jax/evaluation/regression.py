"""How good predicted numbers are: errors and correlations, and a picture of predicted against true values."""

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from dnabert_jax.evaluation import macro, pictures
from dnabert_jax.evaluation.predictions import checked

_FIGURES = ("mse", "rmse", "mae", "r2", "pearson", "spearman")
_MOST_DRAWN = 16
"""More values than this leave the rest undrawn."""
_COLUMNS = 4


def figures(labels: np.ndarray, predictions: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """Every figure that is reported of predicted numbers.

    Args:
      labels: float[n, c], the true values of each example.
      predictions: float[n, c], what the model predicts, in the same units.
      classes: names of the c values, in order.

    Returns:
      Python numbers, ready for JSON: `examples`, `mse` (mean squared error), `rmse` (its root), `mae` (mean absolute
      error), `r2` (the share of the variance that is explained; negative where the mean would be better), `pearson` and
      `spearman` (correlations). `r2` is None where the true values are all the same, and so are the correlations, also
      where the predictions are. With several values each figure is the mean over those where it is defined, and
      `per_value` has them by name.

    Raises:
      InputError: there are no examples.
      RunStopped: a prediction is no number.
    """
    labels, predictions = checked(labels, predictions, classes)
    of_values = [_of_value(*columns) for columns in zip(labels.T, predictions.T, strict=True)]
    found = {"examples": len(labels), **{name: macro.mean(of_values, name) for name in _FIGURES}}
    return found if len(classes) == 1 else {**found, "per_value": dict(zip(classes, of_values, strict=True))}


def drawn(labels: np.ndarray, predictions: np.ndarray, classes: tuple[str, ...]) -> dict[str, Figure]:
    """Draws the predicted against the true values, one panel for each of the first 16 values.

    Args:
      labels, predictions, classes: as for `figures`.

    Returns:
      `scatter`.

    Raises:
      InputError: there are no examples.
      RunStopped: a prediction is no number.
    """
    labels, predictions = checked(labels, predictions, classes)
    return {"scatter": _scatter(labels, predictions, classes)}


def _of_value(true: np.ndarray, predicted: np.ndarray) -> dict[str, float | None]:
    squared = float(mean_squared_error(true, predicted))
    varies = bool(np.ptp(true) > 0)
    correlates = varies and bool(np.ptp(predicted) > 0)
    return {
        "mse": squared,
        "rmse": math.sqrt(squared),
        "mae": float(mean_absolute_error(true, predicted)),
        "r2": float(r2_score(true, predicted)) if varies else None,
        "pearson": float(pearsonr(true, predicted).statistic) if correlates else None,
        "spearman": float(spearmanr(true, predicted).statistic) if correlates else None,
    }


def _scatter(labels: np.ndarray, predictions: np.ndarray, classes: tuple[str, ...]) -> Figure:
    drawn = min(len(classes), _MOST_DRAWN)
    columns = min(drawn, _COLUMNS)
    rows = -(-drawn // columns)
    figure = Figure(figsize=(0.6 + 4.2 * columns, 0.6 + 4.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[drawn:]:
        axes.remove()
    opacity = float(np.clip(300 / len(labels), 0.05, 0.7))
    for number, axes in enumerate(panels[:drawn]):
        true, predicted = labels[:, number], predictions[:, number]
        found = _of_value(true, predicted)
        axes.scatter(true, predicted, s=12, color=pictures.COLOURS[0], alpha=opacity, linewidths=0, rasterized=True)
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        axes.plot(ends, ends, color="0.6", linewidth=1, linestyle=(0, (1, 3)), zorder=1)
        said = ", ".join(
            f"{symbol} {found[name]:.3f}"
            for symbol, name in (("R²", "r2"), ("Pearson", "pearson"), ("Spearman", "spearman"))
            if found[name] is not None
        )
        axes.set(xlabel="True value", ylabel="Predicted value", title=f"{pictures.text(classes[number])}\n{said}")
        pictures.tidy(axes)
    if drawn < len(classes):
        figure.suptitle(f"The first {drawn} of {len(classes)} values")
    return figure
