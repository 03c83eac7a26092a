"""How good a classifier's probabilities are: the figures of `result.json`, and ROC, PR and confusion-matrix pictures.

All of them work for two classes or more. With two, AUROC and AUPRC are those of the last class (the positive one, as a
label of 1 is); with more, the mean over the classes of each against the rest.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    matthews_corrcoef,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

from dnabert_jax import outputs
from dnabert_jax.errors import InputError, RunStopped


def classification_figures(labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
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
    labels, probabilities = _checked(labels, probabilities, classes)
    numbers = np.arange(len(classes))
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0)
    per_class = []
    for number in numbers:
        defined = support[number] > 0
        is_class, said_class = labels == number, predicted == number
        areas = _areas(is_class, probabilities[:, number])
        per_class.append(
            {
                "examples": int(support[number]),
                "accuracy": float((is_class == said_class).mean()) if defined else None,
                "f1": float(f1[number]) if defined else None,
                "mcc": _mcc(is_class, said_class) if defined else None,
                "precision": float(precision[number]) if defined else None,
                "recall": float(recall[number]) if defined else None,
                "auroc": areas[0],
                "auprc": areas[1],
            }
        )
    ranked = per_class[-1:] if len(classes) == 2 else per_class
    return {
        "examples": len(labels),
        "accuracy": float((predicted == labels).mean()),
        "f1": _mean(per_class, "f1"),
        "precision": _mean(per_class, "precision"),
        "recall": _mean(per_class, "recall"),
        "mcc": _mcc(labels, predicted),
        "auroc": _mean(ranked, "auroc"),
        "auprc": _mean(ranked, "auprc"),
        "per_class": dict(zip(classes, per_class, strict=True)),
        "confusion_matrix": confusion_matrix(labels, predicted, labels=numbers).tolist(),
    }


def draw_classification(
    labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...], folder: str | Path, prefix: str = ""
) -> list[Path]:
    """Draws the ROC curves, the precision-recall curves and the confusion matrix.

    Args:
      labels, probabilities, classes: as for `classification_figures`.
      folder: where `roc.png`, `pr.png` and `confusion.png` go; made where missing. Pictures there are replaced.
      prefix: put before the three names.

    Returns:
      The three paths.

    Raises:
      InputError: there are no examples.
      RunStopped: a probability is no number, or a picture cannot be written.
    """
    labels, probabilities = _checked(labels, probabilities, classes)
    pictures = {
        "roc.png": _draw_roc(labels, probabilities, classes),
        "pr.png": _draw_pr(labels, probabilities, classes),
        "confusion.png": _draw_confusion(labels, probabilities, classes),
    }
    paths = [Path(folder) / f"{prefix}{name}" for name in pictures]
    for path, figure in zip(paths, pictures.values(), strict=True):
        _save(figure, path)
    return paths


def _checked(labels: Any, probabilities: Any, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    labels = np.asarray(labels, np.int64)
    probabilities = np.asarray(probabilities).astype(np.float64)
    if not labels.size:
        raise InputError("there are no examples to evaluate on")
    if probabilities.shape != (labels.size, len(classes)):
        raise ValueError(f"probabilities are {probabilities.shape}; expected {(labels.size, len(classes))}")
    if not np.isfinite(probabilities).all():
        raise RunStopped("the model gives probabilities that are no numbers; its params are not usable")
    return labels, probabilities


def _mcc(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Matthews correlation; 0 where all examples are of one class, also when all are right."""
    return float(matthews_corrcoef(labels, predicted)) if (labels != labels[0]).any() else 0.0


def _areas(is_class: np.ndarray, scores: np.ndarray) -> tuple[float | None, float | None]:
    """AUROC and average precision of one class against the rest, or None where one side is empty."""
    if is_class.all() or not is_class.any():
        return None, None
    return float(roc_auc_score(is_class, scores)), float(average_precision_score(is_class, scores))


def _mean(per_class: list[dict[str, Any]], name: str) -> float | None:
    known = [figures[name] for figures in per_class if figures[name] is not None]
    return float(np.mean(known)) if known else None


# The colours of Okabe and Ito (2008) that stand out on white, told apart under every common colour-blindness; the line
# styles tell the same apart in print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
_STYLES = ("-", "--", ":")
_MOST_NAMED = len(_COLOURS) * 2
"""More classes than this are drawn alike, with one line in the legend for all."""
_MOST_COUNTED = 12
"""Largest confusion matrix with a number in every cell."""
_MOST_TICKS = 24


def _draw_roc(labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]) -> Figure:
    figure, axes = _square("False positive rate", "True positive rate", "ROC curve")
    curves = []
    for number in _drawn(labels, classes):
        is_class, scores = labels == number, probabilities[:, number]
        false, true, _ = roc_curve(is_class, scores)
        curves.append((classes[number], false, true, _areas(is_class, scores)[0]))
    _draw_curves(axes, curves, "AUROC", drawstyle="default")
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=(0, (1, 3)), label="chance (0.500)", zorder=1)
    _add_legend(axes)
    return figure


def _draw_pr(labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]) -> Figure:
    figure, axes = _square("Recall", "Precision", "Precision-recall curve")
    curves = []
    for number in _drawn(labels, classes):
        is_class, scores = labels == number, probabilities[:, number]
        precision, recall, _ = precision_recall_curve(is_class, scores, drop_intermediate=True)
        curves.append((classes[number], recall, precision, _areas(is_class, scores)[1]))
    # The average precision is the area under steps, so steps are what is drawn.
    _draw_curves(axes, curves, "AUPRC", drawstyle="steps-post")
    if len(curves) == 1:
        chance = float((labels == len(classes) - 1).mean())
        axes.axhline(chance, color="0.6", linewidth=1, linestyle=(0, (1, 3)), label=f"chance ({chance:.3f})", zorder=1)
    _add_legend(axes)
    return figure


def _draw_confusion(labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]) -> Figure:
    count = len(classes)
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), labels=np.arange(count))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.75 * count, 3.2, 9.0))
    figure = Figure(figsize=(side + 1.2, side))
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [_text(name) for name in classes]
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


def _square(x: str, y: str, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 5))
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y, title=title, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _drawn(labels: np.ndarray, classes: tuple[str, ...]) -> list[int]:
    """Classes that get a curve: the positive one of two, else all; only those with examples and counterexamples."""
    among = [1] if len(classes) == 2 else range(len(classes))
    return [number for number in among if 0 < (labels == number).sum() < labels.size]


def _draw_curves(
    axes: Axes, curves: list[tuple[str, np.ndarray, np.ndarray, float | None]], area: str, drawstyle: str
) -> None:
    if not curves:
        axes.text(0.5, 0.5, "undefined: all examples are of one class", ha="center", va="center")
    for at, (name, x, y, value) in enumerate(curves):
        if len(curves) <= _MOST_NAMED:
            look = {
                "color": _COLOURS[at % len(_COLOURS)],
                "linestyle": _STYLES[at // len(_COLOURS)],
                "linewidth": 1.8,
                "label": f"{_text(name)} ({area} {value:.3f})",
            }
        else:
            mean = np.mean([curve[3] for curve in curves])
            look = {"color": _COLOURS[0], "alpha": 0.35, "linewidth": 0.8}
            look |= {"label": f"{len(curves)} classes (mean {area} {mean:.3f})"} if at == 0 else {}
        axes.plot(x, y, drawstyle=drawstyle, **look)


def _add_legend(axes: Axes) -> None:
    """Beside the axes, where it hides no curve however many classes there are."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, handlelength=2.6, borderaxespad=0)


def _text(name: str) -> str:
    """A class name as matplotlib shows it letter for letter: a $ begins no formula, a leading _ hides nothing."""
    short = name if len(name) <= 30 else name[:29] + "…"
    return (" " if short.startswith("_") else "") + short.replace("$", r"\$")


def _save(figure: Figure, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with outputs.file(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150, bbox_inches="tight")
    except OSError as error:
        raise RunStopped(f"{path}: the picture could not be written ({error.strerror})") from None
