"""Labels and predictions as every judgement takes them: as many of one as of the other, and all of them numbers."""

from typing import Any

import numpy as np

from dnabert_jax.errors import InputError, RunStopped


def checked(labels: Any, predictions: Any, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Labels, [n] or [n, c], and predictions, [n, c], of c classes or values, both as float64 but for integer labels.

    Raises:
      InputError: there are no examples.
      RunStopped: a prediction is no number.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions).astype(np.float64)
    if not len(labels):
        raise InputError("there are no examples to evaluate on")
    shape = (len(labels), len(classes))
    if predictions.shape != shape or labels.shape not in (shape[:1], shape):
        raise ValueError(f"labels are {labels.shape} and predictions {predictions.shape}; expected {shape}")
    if not np.isfinite(predictions).all():
        raise RunStopped("the model gives predictions that are no numbers; its params are not usable")
    return labels.astype(np.int64 if labels.dtype.kind in "iu" else np.float64), predictions
