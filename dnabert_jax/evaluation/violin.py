"""How figures of many models are spread: one violin a figure, with every model a dot, and mean and median marked."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dnabert_jax.evaluation import pictures

_HALF_WIDTH = 0.35
_MARK = 0.16
"""Half the length of the line at the median."""


def draw(figures: Mapping[str, Sequence[float]], title: str) -> Figure:
    """A violin of each figure.

    Args:
      figures: by name, the finite values of the models, at least one each.
      title: above the picture.
    """
    figure = Figure(figsize=(1.6 + 1.9 * len(figures), 5))
    axes = figure.add_subplot()
    for at, (name, values) in enumerate(figures.items()):
        values = np.asarray(values, float)
        colour = pictures.COLOURS[at % len(pictures.COLOURS)]
        drawn = axes.violinplot([values], [at], widths=2 * _HALF_WIDTH, showextrema=False)
        drawn["bodies"][0].set(facecolor=colour, edgecolor=colour, alpha=0.3)
        size = 3 if len(values) > 100 else 5
        axes.plot(at + _spread(len(values)), values, "o", color=colour, markersize=size, markeredgewidth=0, alpha=0.6)
        mean, median = float(values.mean()), float(np.median(values))
        axes.hlines(median, at - _MARK, at + _MARK, color="black", linewidth=2)
        axes.plot(at, mean, "D", color="white", markeredgecolor="black", markersize=7)
        label = f"{pictures.text(name)}\nmean {mean:.3f}\nmedian {median:.3f}"
        axes.text(at, -0.02, label, ha="center", va="top", transform=axes.get_xaxis_transform())
    axes.set(title=title, xlim=(-0.6, len(figures) - 0.4))
    axes.set_xticks([])
    axes.margins(y=0.08)
    pictures.tidy(axes)
    axes.legend(
        handles=[
            Line2D([], [], color="white", marker="D", markeredgecolor="black", markersize=7, label="mean"),
            Line2D([], [], color="black", linewidth=2, label="median"),
        ],
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        frameon=False,
        borderaxespad=0,
    )
    return figure


def _spread(count: int) -> np.ndarray:
    """Places beside the middle, so that equal values do not hide one another: by the golden ratio, hence evenly."""
    return _MARK * (2 * (np.arange(1, count + 1) * 0.6180339887498949 % 1) - 1)
