"""The figures of `evaluation.figures` for examples that count several times, for many such weightings at once.

A resample of a bootstrap is the same examples with a weight each: how often each was drawn. With the examples sorted
once, every figure of all resamples follows from sums over them. A figure that is undefined in a resample is NaN there.
"""

import numpy as np

from dnabert_jax.config import Target

NAMES: dict[Target, tuple[str, ...]] = {
    "single_label": ("accuracy", "f1", "precision", "recall", "mcc", "auroc", "auprc"),
    "multi_label": ("accuracy", "subset_accuracy", "f1", "precision", "recall", "mcc", "micro_f1", "auroc", "auprc"),
    "regression": ("mse", "rmse", "mae", "r2", "pearson", "spearman"),
    "per_base": ("accuracy", "f1", "precision", "recall", "mcc", "auroc", "auprc"),
}
"""The figures that there are, by target."""

_HALF = 0.5


class Weighted:
    """The figures of some examples as a function of their weights.

    Args:
      target, labels, predictions: as `evaluation.figures` takes them.
    """

    def __init__(self, target: Target, labels: np.ndarray, predictions: np.ndarray) -> None:
        predictions = np.asarray(predictions, np.float64)
        compute = {"multi_label": _MultiLabel, "regression": _Regression}.get(target, _SingleLabel)
        self._compute = compute(np.asarray(labels), predictions)
        self.names = NAMES[target]

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Figures of the examples, each repeated as often as its weight says.

        Args:
          weights: int[r, n], 0 or more, of n examples in each of r weightings.

        Returns:
          float64[r] for each of `names`.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._compute(np.asarray(weights))


class _SingleLabel:
    def __init__(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        self._classes = probabilities.shape[1]
        # Each example is in one cell of the confusion matrix.
        self._right = labels == probabilities.argmax(axis=1)
        self._is = [labels == number for number in range(self._classes)]
        self._said = [probabilities.argmax(axis=1) == number for number in range(self._classes)]
        ranked = [1] if self._classes == 2 else range(self._classes)
        self._ranked = [_Ranked(labels == number, probabilities[:, number]) for number in ranked]

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        total = weights.sum(axis=1)
        right = weights @ self._right
        true = np.stack([weights @ each for each in self._is], axis=1).astype(np.float64)
        said = np.stack([weights @ each for each in self._said], axis=1).astype(np.float64)
        hits = np.stack(
            [weights @ (is_class & said_class) for is_class, said_class in zip(self._is, self._said)], axis=1
        )
        areas = [ranked(weights) for ranked in self._ranked]
        f1, precision, recall = _scores(true, said, hits)
        return {
            "accuracy": right / total,
            "f1": _mean(f1),
            "precision": _mean(precision),
            "recall": _mean(recall),
            "mcc": _gorodkin(total, right, true, said),
            "auroc": _mean(np.stack([auroc for auroc, _ in areas], axis=1)),
            "auprc": _mean(np.stack([auprc for _, auprc in areas], axis=1)),
        }


class _MultiLabel:
    def __init__(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        self._is = labels > 0
        self._said = probabilities > _HALF
        self._ranked = [_Ranked(*columns) for columns in zip(self._is.T, probabilities.T, strict=True)]

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        total = weights.sum(axis=1)
        right = self._is == self._said
        true, said, hits = (
            (weights @ each).astype(np.float64) for each in (self._is, self._said, self._is & self._said)
        )
        of_class = weights @ right
        areas = [ranked(weights) for ranked in self._ranked]
        f1, precision, recall = _scores(true, said, hits)
        rest = total[:, None]
        mcc = np.stack(
            [
                _gorodkin(total, of_class[:, at], _both(true[:, at], rest[:, 0]), _both(said[:, at], rest[:, 0]))
                for at in range(true.shape[1])
            ],
            axis=1,
        )
        return {
            "accuracy": of_class.mean(axis=1) / total,
            "subset_accuracy": weights @ right.all(axis=1) / total,
            "f1": _mean(f1),
            "precision": _mean(precision),
            "recall": _mean(recall),
            "mcc": _mean(np.where(true > 0, mcc, np.nan)),
            "micro_f1": np.where(
                true.sum(axis=1) > 0, 2 * hits.sum(axis=1) / (true.sum(axis=1) + said.sum(axis=1)), np.nan
            ),
            "auroc": _mean(np.stack([auroc for auroc, _ in areas], axis=1)),
            "auprc": _mean(np.stack([auprc for _, auprc in areas], axis=1)),
        }


class _Regression:
    def __init__(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        labels = labels.astype(np.float64).reshape(predictions.shape)
        # Moments about the mean keep their digits; a shift of both changes none of the figures.
        middle = labels.mean(axis=0)
        self._values = list(zip((labels - middle).T, (predictions - middle).T, strict=True))

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        each = [self._of_value(true, predicted, weights) for true, predicted in self._values]
        return {name: _mean(np.stack([found[name] for found in each], axis=1)) for name in NAMES["regression"]}

    @staticmethod
    def _of_value(true: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        total = weights.sum(axis=1)
        mse = weights @ (true - predicted) ** 2 / total
        variance = weights @ true**2 / total - (weights @ true / total) ** 2
        varies = _spread(true, weights) > 0
        return {
            "mse": mse,
            "rmse": np.sqrt(mse),
            "mae": weights @ np.abs(true - predicted) / total,
            "r2": np.where(varies, 1 - mse / variance, np.nan),
            "pearson": _correlation(true, predicted, weights),
            "spearman": _rank_correlation(true, predicted, weights),
        }


class _Ranked:
    """AUROC and average precision of a class against the rest."""

    def __init__(self, is_class: np.ndarray, scores: np.ndarray) -> None:
        self._order = np.argsort(-scores, kind="stable")
        self._is_class = is_class[self._order]
        self._starts = _groups(scores[self._order])

    def __call__(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float64[r] each, for weights int[r, n]."""
        weights = weights[:, self._order]
        of_class = _summed(weights * self._is_class, self._starts)
        others = _summed(weights, self._starts) - of_class
        above = np.cumsum(of_class, axis=1)  # of the class, at this score or a higher one
        false = np.cumsum(others, axis=1)
        positives, negatives = above[:, -1], false[:, -1]
        # Among equal scores a pair counts one half.
        pairs = np.sum(others * (above - of_class / 2), axis=1)
        auroc = pairs / (positives * negatives.astype(np.float64))
        precision = above / np.maximum(above + false, 1)
        auprc = np.where(negatives > 0, np.sum(of_class * precision, axis=1) / positives, np.nan)
        return auroc, auprc


def _groups(ordered: np.ndarray) -> np.ndarray:
    """Where runs of equal values begin."""
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _summed(weights: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return weights if len(starts) == weights.shape[1] else np.add.reduceat(weights, starts, axis=1)


def _mean(of_each: np.ndarray) -> np.ndarray:
    """The mean over the columns that are defined; NaN where none is."""
    known = ~np.isnan(of_each)
    return np.where(known, of_each, 0).sum(axis=1) / known.sum(axis=1)


def _scores(true: np.ndarray, said: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F1, precision and recall of each class; NaN without examples, and precision 0 where it is never said."""
    there = true > 0
    return (
        np.where(there, 2 * hits / (true + said), np.nan),
        np.where(there, hits / np.maximum(said, 1), np.nan),
        np.where(there, hits / true, np.nan),
    )


def _both(of_class: np.ndarray, total: np.ndarray) -> np.ndarray:
    return np.stack([of_class, total - of_class], axis=1)


def _gorodkin(total: np.ndarray, right: np.ndarray, true: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Matthews correlation of any number of classes (Gorodkin 2004); 0 where all are of one class, or said to be."""
    total, right = total.astype(np.float64), right.astype(np.float64)
    covariance = total * right - np.sum(true * said, axis=1)
    spread = (total**2 - np.sum(true**2, axis=1)) * (total**2 - np.sum(said**2, axis=1))
    return np.where(spread > 0, covariance / np.sqrt(spread), 0.0)


def _spread(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Largest minus smallest of the values that count at all."""
    order = np.argsort(values, kind="stable")
    there, ordered = weights[:, order] > 0, values[order]
    return ordered[len(order) - 1 - there[:, ::-1].argmax(axis=1)] - ordered[there.argmax(axis=1)]


def _correlation(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    varies = (_spread(a, weights) > 0) & (_spread(b, weights) > 0)
    return np.where(varies, _product_moment(a[None], b[None], weights), np.nan)


def _rank_correlation(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    varies = (_spread(a, weights) > 0) & (_spread(b, weights) > 0)
    return np.where(varies, _product_moment(_ranks(a, weights), _ranks(b, weights), weights), np.nan)


def _product_moment(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=1, keepdims=True)
    a = a - np.sum(weights * a, axis=1, keepdims=True) / total
    b = b - np.sum(weights * b, axis=1, keepdims=True) / total
    return np.sum(weights * a * b, axis=1) / np.sqrt(np.sum(weights * a**2, axis=1) * np.sum(weights * b**2, axis=1))


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float64[r, n]: ranks among the examples as often as they count; equals share the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    starts = _groups(values[order])
    of_group = _summed(weights[:, order], starts)
    rank = np.cumsum(of_group, axis=1) - (of_group - 1) / 2
    group = np.zeros(len(values), np.int64)
    group[starts[1:]] = 1
    found = np.empty(weights.shape)
    found[:, order] = rank[:, np.cumsum(group)]
    return found
