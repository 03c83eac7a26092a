"""The units of labels: a regression is trained on standardised ones, and its params are brought back for use."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from dnabert_jax.config import Target
from dnabert_jax.data.labelled import Examples
from dnabert_jax.training.state import Params


@dataclass(frozen=True)
class Units:
    """The labels of a regression, brought to mean 0 and standard deviation 1 for training, and params brought back.

    A loss in the labels' own units would need another learning rate for each of them. Other targets stay as they are.
    """

    mean: np.ndarray | float
    deviation: np.ndarray | float
    """float32[values] each."""
    regression: bool

    @classmethod
    def of(cls, train: Examples, target: Target) -> "Units":
        if target != "regression":
            return cls(0.0, 1.0, False)
        labels = train.labels.astype(np.float64)  # whose squares do not overflow
        deviation = labels.std(axis=0)
        deviation = np.where(deviation > 0, deviation, 1)
        return cls(labels.mean(axis=0).astype(np.float32), deviation.astype(np.float32), True)

    def standard(self, examples: Examples) -> Examples:
        if not self.regression:
            return examples
        return dataclasses.replace(examples, labels=(examples.labels - self.mean) / self.deviation)

    def restored(self, params: Params) -> Params:
        """Params whose predictions are in the labels' units, from params of standardised ones."""
        if not self.regression:
            return params
        kernel, bias = params["classifier"]["kernel"], params["classifier"]["bias"]
        classifier = {"kernel": kernel * self.deviation, "bias": bias * self.deviation + self.mean}
        return {**params, "classifier": classifier}

    def standardised(self, params: Params) -> Params:
        """The inverse of `restored`."""
        if not self.regression:
            return params
        kernel, bias = params["classifier"]["kernel"], params["classifier"]["bias"]
        classifier = {"kernel": kernel / self.deviation, "bias": (bias - self.mean) / self.deviation}
        return {**params, "classifier": classifier}
