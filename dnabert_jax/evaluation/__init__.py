"""How good predictions are: the figures of `result.json` and their pictures, for every target.

The figures are Python numbers and dicts of them, ready for JSON; what is undefined is None. The pictures are PNG files.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dnabert_jax.config import Target
from dnabert_jax.evaluation import classification, multi_label, pictures, regression

_MODULES = {
    "single_label": classification,
    "multi_label": multi_label,
    "regression": regression,
    "per_base": classification,
}


def criterion(target: Target) -> str:
    """Name of the figure by which models are chosen; higher is better, and None (where it is undefined) worst."""
    return "r2" if target == "regression" else "mcc"


def figures(target: Target, labels: np.ndarray, predictions: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """Every figure that is reported of a fine-tuned model.

    Args:
      target: what is predicted. The module of that name says which figures there are; for `per_base` those of
        `classification`, with bases for examples.
      labels: int[n] of class numbers; int or float[n, c] of 0 and 1 for `multi_label`, of true values for `regression`.
        For `per_base` n is the number of labelled bases, one sequence after another.
      predictions: float[n, c], the probabilities of the classes, or the predicted values.
      classes: names of the c classes or values, in order.

    Raises:
      InputError: there are no examples.
      RunStopped: a prediction is no number.
    """
    return _MODULES[target].figures(labels, predictions, classes)


def drawn(target: Target, labels: np.ndarray, predictions: np.ndarray, classes: tuple[str, ...]) -> dict[str, Figure]:
    """Draws the pictures that show what the figures say.

    Args:
      target, labels, predictions, classes: as for `figures`.

    Returns:
      `roc` and `pr` of classes, with `confusion` where each example has one class; `scatter` of regression.

    Raises:
      InputError: there are no examples.
      RunStopped: a prediction is no number.
    """
    return _MODULES[target].drawn(labels, predictions, classes)


def draw(
    target: Target, labels: np.ndarray, predictions: np.ndarray, classes: tuple[str, ...], folder: str | Path
) -> list[Path]:
    """Writes the pictures of `drawn` as PNG files.

    Args:
      target, labels, predictions, classes: as for `figures`.
      folder: where the pictures go; made where missing. Those there are replaced.

    Returns:
      Their paths, such as `roc.png`.

    Raises:
      InputError: there are no examples.
      RunStopped: a prediction is no number, or a picture cannot be written.
    """
    found = drawn(target, labels, predictions, classes)
    return pictures.save({f"{name}.png": figure for name, figure in found.items()}, folder)
