"""The roofline picture (Williams, Waterman & Patterson 2009): what a chip can do at most, and where the workloads are.

Work that does few FLOPs for each byte of memory is held back by the memory, other work by the arithmetic; the roof is
the lower of the two. How far a point lies below the roof is what could be gained at best, how far right it lies says of
what. FLOPs are the model's by the formula in `flops`; bytes are the compiler's count, which takes every kernel's input
and output as read from memory and written to it. Where caches hold them a point can lie above the slope.
"""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from dnabert_jax.evaluation.pictures import COLOURS, text, tidy

_MARKERS = "osD^vP*X"


class Point(NamedTuple):
    """A workload in the picture.

    Attributes:
      name: of the workload.
      intensity: model FLOPs for each byte that the compiler counts.
      flops_per_second: model FLOP/s of a chip.
      dtype: of its matrix products.
    """

    name: str
    intensity: float
    flops_per_second: float
    dtype: str


def points(result: dict[str, Any]) -> list[Point]:
    """The workloads of a result of which both FLOPs and bytes are known."""
    found = []
    for each in result["workloads"]:
        rate, accessed = each["model_flops_per_second_per_chip"], each["bytes_per_step"]
        if rate and accessed:
            step_s = np.mean(each["step_times_ms"]) / 1e3
            found.append(Point(each["name"], float(rate * step_s / accessed), rate, each["compute_dtype"]))
    return found


def draw(result: dict[str, Any]) -> Figure | None:
    """The picture of a result, as `bench.result` reads it; None where no workload has a place in it."""
    placed = points(result)
    if not placed:
        return None
    roofs = _roofs(result, {point.dtype for point in placed})
    ridges = [flops / per_byte for _, flops, per_byte, _ in roofs]
    intensities = [point.intensity for point in placed]
    low, high = min(intensities + ridges) / 8, max(intensities + ridges) * 8

    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for name, flops, per_byte, style in roofs:
        x = np.array([low, flops / per_byte, high])
        axes.plot(x, np.minimum(flops, per_byte * x), style, color="0.25", linewidth=1.6, label=text(name, 120))
    for at, point in enumerate(placed):
        look = {"color": COLOURS[at % len(COLOURS)], "marker": _MARKERS[at % len(_MARKERS)]}
        label = f"{point.name}: {_rate(point.flops_per_second)}FLOP/s"
        axes.plot([point.intensity], [point.flops_per_second], linestyle="none", markersize=9, label=label, **look)
    axes.set(xscale="log", yscale="log", xlim=(low, high))
    axes.set_xlabel("Arithmetic intensity (model FLOPs per byte that the compiler counts)")
    axes.set_ylabel("Rate of one chip (model FLOP/s)")
    for axis, decades in (
        (axes.xaxis, np.log10(high / low)),
        (axes.yaxis, np.log10(np.divide(*axes.get_ylim()[::-1]))),
    ):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _rate(value).rstrip()))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    tidy(axes)
    figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=9)
    return figure


def _roofs(result: dict[str, Any], dtypes: set[str]) -> list[tuple[str, float, float, str]]:
    """(name, FLOP/s, bytes/s, line style), measured and published, of each dtype that is in use."""
    measured, published = result["rates"], result["hardware"]["published"]
    per_byte = measured["memory_bytes_per_second"]
    found = []
    for dtype, flops in measured["matrix_product_flops_per_second"].items():
        if dtype in dtypes:
            found.append((_name("Measured", dtype, flops, per_byte), flops, per_byte, "-"))
    if published:
        per_byte = published["bytes_per_second"]
        for dtype, flops in published["flops_per_second"].items():
            if dtype in dtypes:
                found.append((_name("Published", dtype, flops, per_byte), flops, per_byte, "--"))
    return found


def _name(kind: str, dtype: str, flops: float, per_byte: float) -> str:
    return f"{kind} ceiling: {_rate(flops)}FLOP/s of matrix products in {dtype}, {_rate(per_byte)}B/s of memory"


def _rate(value: float) -> str:
    """A rate with the prefix of its unit, such as `1.25 T`."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g} "
