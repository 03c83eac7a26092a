"""ROC and precision-recall curves: of classes, each against the rest, or of one class by several models."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from dnabert_jax.evaluation import one_class, pictures

OfClass = tuple[str, np.ndarray, np.ndarray]
"""The name of a class or a model, which examples are of the class, bool[n], and the probabilities that they are,
float[n]."""

_STYLES = ("-", "--", ":")
"""In print they tell apart what colours tell apart on a screen."""
_MOST_BELOW = 6
"""Lines of a legend that stands under its picture."""
_MOST_NAMED = len(pictures.COLOURS) * 2
"""More classes than this are drawn alike, with one line in the legend for all."""


def roc(classes: Sequence[OfClass], title: str = "ROC curve") -> Figure:
    """ROC curves of the classes that have both examples and counterexamples."""
    figure, axes = _square("False positive rate", "True positive rate", title)
    curves = []
    for name, is_class, scores in _drawn(classes):
        false, true, _ = roc_curve(is_class, scores)
        curves.append((name, false, true, one_class.areas(is_class, scores)[0]))
    _draw_curves(axes, curves, "AUROC", drawstyle="default")
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=(0, (1, 3)), label="chance (0.500)", zorder=1)
    _add_legend(axes)
    return figure


def precision_recall(classes: Sequence[OfClass], title: str = "Precision-recall curve") -> Figure:
    """Precision-recall curves of the classes that have both examples and counterexamples."""
    figure, axes = _square("Recall", "Precision", title)
    drawn, curves = _drawn(classes), []
    for name, is_class, scores in drawn:
        precision, recall, _ = precision_recall_curve(is_class, scores, drop_intermediate=True)
        curves.append((name, recall, precision, one_class.areas(is_class, scores)[1]))
    # The average precision is the area under steps, so steps are what is drawn.
    _draw_curves(axes, curves, "AUPRC", drawstyle="steps-post")
    if drawn and all(np.array_equal(each[1], drawn[0][1]) for each in drawn):
        chance = float(drawn[0][1].mean())
        axes.axhline(chance, color="0.6", linewidth=1, linestyle=(0, (1, 3)), label=f"chance ({chance:.3f})", zorder=1)
    _add_legend(axes)
    return figure


def _drawn(classes: Sequence[OfClass]) -> list[OfClass]:
    return [each for each in classes if each[1].any() and not each[1].all()]


def _square(x: str, y: str, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 5))
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y, title=pictures.text(title, 60), xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    pictures.tidy(axes)
    return figure, axes


def _draw_curves(
    axes: Axes, curves: list[tuple[str, np.ndarray, np.ndarray, float | None]], area: str, drawstyle: str
) -> None:
    if not curves:
        axes.text(0.5, 0.9, "undefined: every example has the same label", ha="center", va="center")
    for at, (name, x, y, value) in enumerate(curves):
        if len(curves) <= _MOST_NAMED:
            look = {
                "color": pictures.COLOURS[at % len(pictures.COLOURS)],
                "linestyle": _STYLES[at // len(pictures.COLOURS)],
                "linewidth": 1.8,
                "label": f"{pictures.text(name)} ({area} {value:.3f})",
            }
        else:
            mean = np.mean([curve[3] for curve in curves])
            look = {"color": pictures.COLOURS[0], "alpha": 0.35, "linewidth": 0.8}
            look |= {"label": f"{len(curves)} classes (mean {area} {mean:.3f})"} if at == 0 else {}
        axes.plot(x, y, drawstyle=drawstyle, **look)


def _add_legend(axes: Axes) -> None:
    """Under the axes or, of many, beside them, where it hides no curve."""
    count = len(axes.get_legend_handles_labels()[0])
    if count:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13)}
        if count > _MOST_BELOW:
            place = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.0)}
        axes.legend(**place, frameon=False, handlelength=2.6, borderaxespad=0)
