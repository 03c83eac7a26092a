"""Figures of weighted examples are those of repeated ones, and the intervals those that SciPy finds."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from dnabert_jax import evaluation
from dnabert_jax.evaluation import bootstrap, weighted

CLASSES = ("a", "b", "c")


def case(target: str, count: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and predictions that know something of them, with many equals among them."""
    generator = np.random.default_rng(seed)
    if target == "regression":
        labels = generator.integers(0, 9, (count, classes)).astype(np.float64) + 1000
        return labels, labels + generator.integers(-4, 5, labels.shape)
    if target == "multi_label":
        labels = generator.integers(0, 2, (count, classes))
        return labels, (0.4 * labels + 0.6 * generator.random(labels.shape)).round(2)
    labels = generator.integers(0, classes, count)
    probabilities = 0.7 * generator.dirichlet(np.ones(classes), count) + 0.3 * np.eye(classes)[labels]
    return labels, probabilities.round(2)


def assert_same_as_repeated(target: str, labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> None:
    found = weighted.Weighted(target, labels, predictions)(weights)
    assert set(found) == set(weighted.NAMES[target])
    for number, repeats in enumerate(weights):
        examples = np.repeat(labels, repeats, axis=0), np.repeat(predictions, repeats, axis=0)
        expected = evaluation.figures(target, *examples, CLASSES[: predictions.shape[1]])
        for name, values in found.items():
            value = np.nan if expected[name] is None else expected[name]
            np.testing.assert_allclose(values[number], value, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        ("single_label", 2),
        ("single_label", 3),
        ("per_base", 3),
        ("multi_label", 3),
        ("regression", 1),
        ("regression", 3),
    ],
)
def test_a_weight_is_a_number_of_repeats(target, classes):
    labels, predictions = case(target, 60, classes)
    weights = np.random.default_rng(1).multinomial(60, np.full(60, 1 / 60), 12)
    assert_same_as_repeated(target, labels, predictions, np.concatenate([np.ones((1, 60), int), weights]))


@pytest.mark.parametrize(
    ("target", "classes"), [("single_label", 2), ("single_label", 3), ("multi_label", 2), ("regression", 2)]
)
def test_so_it_is_where_figures_are_undefined(target, classes):
    labels, predictions = case(target, 8, classes, seed=3)
    # One example alone, two of them, and all but one of which many are alike.
    weights = np.concatenate([np.eye(8, dtype=int), 2 * np.eye(8, dtype=int) + np.eye(8, k=1, dtype=int)])
    assert_same_as_repeated(target, labels, predictions, weights)


def test_intervals_are_those_of_scipy():
    labels, probabilities = case("single_label", 250, 2)
    found = bootstrap.intervals("single_label", labels, probabilities, resamples=4000)
    right = labels == probabilities.argmax(axis=1)
    for name, data, statistic, count in (
        ("accuracy", (right,), np.mean, 4000),
        ("auroc", (labels, probabilities[:, 1]), roc_auc_score, 300),
    ):
        expected = scipy.stats.bootstrap(
            data, statistic, paired=True, n_resamples=count, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        assert found[name].low == pytest.approx(expected.low, abs=0.015)
        assert found[name].high == pytest.approx(expected.high, abs=0.015)


def test_the_same_seed_gives_the_same_intervals_and_another_does_not():
    examples = case("single_label", 100)
    first, again, other = (bootstrap.intervals("single_label", *examples, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_weights_held_at_a_time_change_nothing(monkeypatch):
    examples = case("single_label", 100)
    expected = bootstrap.intervals("single_label", *examples, resamples=50)
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 700)
    assert bootstrap.intervals("single_label", *examples, resamples=50) == expected


def test_the_bases_of_a_sequence_are_drawn_together():
    labels, probabilities = case("per_base", 90)
    of_sequences = bootstrap.intervals("per_base", labels, probabilities)
    each_four_times = np.repeat(labels, 4), np.repeat(probabilities, 4, axis=0)
    together = bootstrap.intervals("per_base", *each_four_times, sequences=np.repeat(np.arange(90), 4))
    for name in ("accuracy", "f1", "mcc", "auroc"):
        assert together[name] == pytest.approx(of_sequences[name])
    apart = bootstrap.intervals("per_base", *each_four_times)["accuracy"]
    assert apart.high - apart.low < 0.7 * (together["accuracy"].high - together["accuracy"].low)


def test_resamples_without_a_figure_are_left_out_and_counted():
    labels, probabilities = np.array([0, 0, 0, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    found = bootstrap.intervals("single_label", labels, probabilities)
    # All four draws miss the only positive, or all hit it.
    assert found["auroc"].undefined == pytest.approx(1000 * (0.75**4 + 0.25**4), abs=60)
    assert found["accuracy"].undefined == 0
    assert bootstrap.intervals("single_label", labels * 0, probabilities)["auroc"] == (None, None, 1000)


def test_a_difference_is_paired():
    labels, probabilities = case("single_label", 300, 2)
    worse = probabilities.copy()
    worse[:15] = worse[:15, ::-1]
    found = bootstrap.differences("single_label", labels, probabilities, worse)
    both = [evaluation.figures("single_label", labels, each, CLASSES[:2]) for each in (probabilities, worse)]
    for name, difference in found.items():
        assert difference.value == pytest.approx(both[0][name] - both[1][name])
        assert difference.low <= difference.value <= difference.high
    right = [(each.argmax(axis=1) == labels).astype(float) for each in (probabilities, worse)]
    expected = scipy.stats.bootstrap(
        (right[0] - right[1],), np.mean, method="percentile", n_resamples=1000, rng=np.random.default_rng(0)
    ).confidence_interval
    assert found["accuracy"].low == pytest.approx(expected.low, abs=0.01)
    assert found["accuracy"].high == pytest.approx(expected.high, abs=0.01)
    alone = bootstrap.intervals("single_label", labels, probabilities)["accuracy"]
    assert found["accuracy"].high - found["accuracy"].low < 0.7 * (alone.high - alone.low)


def test_a_model_does_not_differ_from_itself():
    labels, numbers = case("regression", 50, 1)
    assert set(bootstrap.differences("regression", labels, numbers, numbers).values()) == {(0.0, 0.0, 0.0, 0)}
