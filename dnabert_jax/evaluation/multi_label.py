"""How good the probabilities of any number of classes an example are: figures, and ROC and PR pictures.

Each class is a question of its own, answered with yes where its probability is above one half. What is called macro
is the mean over the classes that have examples.
"""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import f1_score

from dnabert_jax.evaluation import curves, macro, one_class
from dnabert_jax.evaluation.predictions import checked

_HALF = 0.5


def figures(labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """Every figure that is reported of a classifier with a yes or no for each class.

    Args:
      labels: int or float[n, c], 1 where the example has the class and 0 where not.
      probabilities: float[n, c], the probability that the model gives to each class.
      classes: their c names, in order.

    Returns:
      Python numbers, ready for JSON: `examples`; `accuracy`, the share of right answers among the n·c;
      `subset_accuracy`, the share of examples with every answer right; macro `f1`, `precision`, `recall`, `mcc`,
      `auroc` and `auprc`; `micro_f1`, of all answers together; and `per_class` (name → what `one_class.figures` gives).
      Where no example has any class the macro figures and `micro_f1` are None.

    Raises:
      InputError: there are no examples.
      RunStopped: a probability is no number.
    """
    has_class, probabilities = checked(labels, probabilities, classes)
    said_class = probabilities > _HALF
    of_classes = [
        one_class.figures(*columns) for columns in zip(has_class.T > 0, said_class.T, probabilities.T, strict=True)
    ]
    right = (has_class > 0) == said_class
    return {
        "examples": len(labels),
        "accuracy": float(right.mean()),
        "subset_accuracy": float(right.all(axis=1).mean()),
        **{name: macro.mean(of_classes, name) for name in ("f1", "precision", "recall", "mcc", "auroc", "auprc")},
        "micro_f1": float(f1_score(has_class.ravel() > 0, said_class.ravel())) if has_class.any() else None,
        "per_class": dict(zip(classes, of_classes, strict=True)),
    }


def drawn(labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]) -> dict[str, Figure]:
    """Draws the ROC curves and the precision-recall curves of the classes.

    Args:
      labels, probabilities, classes: as for `figures`.

    Returns:
      `roc` and `pr`.

    Raises:
      InputError: there are no examples.
      RunStopped: a probability is no number.
    """
    has_class, probabilities = checked(labels, probabilities, classes)
    of_classes = list(zip(classes, has_class.T > 0, probabilities.T, strict=True))
    return {"roc": curves.roc(of_classes), "pr": curves.precision_recall(of_classes)}
