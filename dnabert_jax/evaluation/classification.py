"""How good the probabilities of one class among several are: figures, and ROC, PR and confusion-matrix pictures.

All of them work for two classes or more. With two, AUROC and AUPRC are those of the last class (the positive one, as a
label of 1 is); with more, the mean over the classes of each against the rest.
"""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from dnabert_jax.evaluation import curves, macro, one_class, pictures
from dnabert_jax.evaluation.predictions import checked


def figures(labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """Every figure that is reported of a classifier. The predicted class is the most probable, the first among equals.

    Args:
      labels: int[n], the true class of each example, 0..c-1.
      probabilities: float[n, c], the probability that the model gives to each class.
      classes: their c names, in order.

    Returns:
      Python numbers, ready for JSON: `examples`, `accuracy`, `f1`, `precision` and `recall` (macro: the mean over the
      classes that have examples), `mcc` (of Gorodkin for more than two classes), `auroc`, `auprc` (the average
      precision), `per_class` (name → `examples`, and of the class against the rest `accuracy`, `f1`, `mcc`,
      `precision`, `recall`, `auroc`, `auprc`) and `confusion_matrix` (rows are the true class, columns the predicted
      one). The precision of a class that is never predicted is 0, and so is `mcc` where all examples or all predictions
      are of one class, or of the rest, by the usual convention. What else is undefined is None: every figure of a class
      without examples, and `auroc` and `auprc` where all examples are of one class.

    Raises:
      InputError: there are no examples.
      RunStopped: a probability is no number.
    """
    labels, probabilities = checked(labels, probabilities, classes)
    predicted = probabilities.argmax(axis=1)
    per_class = [
        one_class.figures(labels == number, predicted == number, probabilities[:, number])
        for number in range(len(classes))
    ]
    ranked = per_class[-1:] if len(classes) == 2 else per_class
    return {
        "examples": len(labels),
        "accuracy": float((predicted == labels).mean()),
        "f1": macro.mean(per_class, "f1"),
        "precision": macro.mean(per_class, "precision"),
        "recall": macro.mean(per_class, "recall"),
        "mcc": one_class.mcc(labels, predicted),
        "auroc": macro.mean(ranked, "auroc"),
        "auprc": macro.mean(ranked, "auprc"),
        "per_class": dict(zip(classes, per_class, strict=True)),
        "confusion_matrix": confusion_matrix(labels, predicted, labels=np.arange(len(classes))).tolist(),
    }


def drawn(labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]) -> dict[str, Figure]:
    """Draws the ROC curves, the precision-recall curves and the confusion matrix.

    Args:
      labels, probabilities, classes: as for `figures`.

    Returns:
      `roc`, `pr` and `confusion`.

    Raises:
      InputError: there are no examples.
      RunStopped: a probability is no number.
    """
    labels, probabilities = checked(labels, probabilities, classes)
    among = [1] if len(classes) == 2 else range(len(classes))
    of_classes = [(classes[number], labels == number, probabilities[:, number]) for number in among]
    return {
        "roc": curves.roc(of_classes),
        "pr": curves.precision_recall(of_classes),
        "confusion": _draw_confusion(labels, probabilities, classes),
    }


_MOST_COUNTED = 12
"""Largest confusion matrix with a number in every cell."""
_MOST_TICKS = 24


def _draw_confusion(labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]) -> Figure:
    count = len(classes)
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), labels=np.arange(count))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.75 * count, 3.2, 9.0))
    figure = Figure(figsize=(side + 1.2, side))
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [pictures.text(name) for name in classes]
    ticks = np.arange(0, count, -(-count // _MOST_TICKS))
    flat = count <= 6 and max(map(len, names)) <= 8
    axes.set_xticks(ticks, [names[at] for at in ticks], rotation=0 if flat else 45, ha="center" if flat else "right")
    axes.set_yticks(ticks, [names[at] for at in ticks])
    axes.set(xlabel="Predicted class", ylabel="True class", title="Confusion matrix")
    if count <= _MOST_COUNTED:
        size = 10 if count <= 4 else 8 if count <= 8 else 7
        for row, column in np.ndindex(count, count):
            share = shares[row, column]
            axes.text(
                column,
                row,
                f"{matrix[row, column]}\n{share:.1%}",
                ha="center",
                va="center",
                fontsize=size,
                color="white" if share > 0.55 else "black",
            )
    figure.colorbar(picture, ax=axes, label="Share of the true class", fraction=0.046, pad=0.04)
    return figure
