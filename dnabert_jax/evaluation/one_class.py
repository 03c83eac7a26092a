"""The figures of one class against the rest."""

from typing import Any

import numpy as np
from sklearn.metrics import (
    average_precision_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
    roc_auc_score,
)


def figures(is_class: np.ndarray, said_class: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Every figure of a class.

    Args:
      is_class: bool[n], whether each example is of the class.
      said_class: bool[n], whether the model says so.
      scores: float[n], the probability that it gives to the class.

    Returns:
      Python numbers: `examples` (of the class), `accuracy`, `f1`, `mcc`, `precision`, `recall`, `auroc`, `auprc` (the
      average precision). The precision of a class that is never predicted is 0. What is undefined is None: every figure
      of a class without examples, and `auroc` and `auprc` where all examples are of the class.
    """
    found = {"examples": int(is_class.sum())}
    if not found["examples"]:
        return {**found, **dict.fromkeys(("accuracy", "f1", "mcc", "precision", "recall", "auroc", "auprc"))}
    precision, recall, f1, _ = precision_recall_fscore_support(is_class, said_class, average="binary", zero_division=0)
    auroc, auprc = areas(is_class, scores)
    return {
        **found,
        "accuracy": float((is_class == said_class).mean()),
        "f1": float(f1),
        "mcc": mcc(is_class, said_class),
        "precision": float(precision),
        "recall": float(recall),
        "auroc": auroc,
        "auprc": auprc,
    }


def mcc(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Matthews correlation of labels, of two classes or more; 0 where all are of one class, also when all are right."""
    return float(matthews_corrcoef(labels, predicted)) if (labels != labels[0]).any() else 0.0


def areas(is_class: np.ndarray, scores: np.ndarray) -> tuple[float | None, float | None]:
    """AUROC and average precision, or None where all examples are of the class or none is."""
    if is_class.all() or not is_class.any():
        return None, None
    return float(roc_auc_score(is_class, scores)), float(average_precision_score(is_class, scores))
