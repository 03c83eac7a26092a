"""Macro averages: the mean of a figure over classes or values, each of which counts the same."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def mean(of_each: Sequence[dict[str, Any]], name: str) -> float | None:
    """The mean of the figure `name` over those where it is defined; None where it is nowhere."""
    known = [figures[name] for figures in of_each if figures[name] is not None]
    return float(np.mean(known)) if known else None
