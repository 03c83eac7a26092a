"""The figures of predicted numbers against their formulas, and against SciPy's and scikit-learn's."""

import json
import math

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import stats
from sklearn import metrics

from dnabert_jax import evaluation
from dnabert_jax.errors import InputError, RunStopped
from dnabert_jax.evaluation import regression

FIGURES = ("mse", "rmse", "mae", "r2", "pearson", "spearman")


def examples(values, count=40, seed=0):
    """Rounded, so that ranks tie."""
    random = np.random.default_rng(seed)
    labels = random.normal(size=(count, values)).astype(np.float32).round(1)
    return labels, (0.7 * labels + 0.5 * random.normal(size=labels.shape).astype(np.float32)).round(1)


def slow_correlation(a, b):
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    product = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b))
    return product / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))


def slow_ranks(values):
    """Equal values share the mean of their ranks."""
    return [sum(other < each for other in values) + (sum(other == each for other in values) + 1) / 2 for each in values]


def slow_figures(true, predicted):
    true, predicted = true.astype(np.float64).tolist(), predicted.astype(np.float64).tolist()
    squares = [(a - b) ** 2 for a, b in zip(true, predicted)]
    mean = sum(true) / len(true)
    return {
        "mse": sum(squares) / len(squares),
        "rmse": math.sqrt(sum(squares) / len(squares)),
        "mae": sum(abs(a - b) for a, b in zip(true, predicted)) / len(true),
        "r2": 1 - sum(squares) / sum((a - mean) ** 2 for a in true),
        "pearson": slow_correlation(true, predicted),
        "spearman": slow_correlation(slow_ranks(true), slow_ranks(predicted)),
    }


@pytest.mark.parametrize("seed", range(3))
def test_every_figure_equals_its_formula(seed):
    labels, predictions = examples(1, seed=seed)
    found = regression.figures(labels, predictions, ("value",))
    assert found == pytest.approx({"examples": 40, **slow_figures(labels[:, 0], predictions[:, 0])})


def test_several_values_are_judged_apart_and_averaged():
    labels, predictions = examples(3)
    names = ("value 1", "value 2", "value 3")
    found = regression.figures(labels, predictions, names)
    expected = [slow_figures(labels[:, number], predictions[:, number]) for number in range(3)]
    assert tuple(found["per_value"]) == names
    for name, one in zip(names, expected, strict=True):
        assert found["per_value"][name] == pytest.approx(one)
    for figure in FIGURES:
        assert found[figure] == pytest.approx(sum(one[figure] for one in expected) / 3)


def test_the_figures_are_those_of_the_libraries():
    labels, predictions = (each.astype(np.float64) for each in examples(3, seed=5))
    found = regression.figures(labels, predictions, ("a", "b", "c"))
    assert found["r2"] == pytest.approx(metrics.r2_score(labels, predictions))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(labels, predictions))
    assert found["per_value"]["b"]["spearman"] == pytest.approx(
        stats.spearmanr(labels[:, 1], predictions[:, 1]).statistic
    )


def test_perfect_predictions():
    labels, _ = examples(2)
    found = regression.figures(labels, labels, ("a", "b"))
    assert [found[name] for name in ("mse", "rmse", "mae")] == [0, 0, 0]
    assert [found[name] for name in ("r2", "pearson", "spearman")] == pytest.approx([1, 1, 1])


def test_always_the_same_prediction_correlates_with_nothing():
    labels, _ = examples(1)
    found = regression.figures(labels, np.full_like(labels, labels.mean(dtype=np.float64)), ("value",))
    assert found["r2"] == pytest.approx(0, abs=1e-6)
    assert found["pearson"] is None
    assert found["spearman"] is None


@pytest.mark.parametrize("count", [1, 4])
def test_true_values_that_are_all_the_same_explain_nothing(count):
    labels, predictions = np.full((count, 1), 2.0), np.arange(count)[:, None] + 1.0
    found = regression.figures(labels, predictions, ("value",))
    assert found["mae"] == pytest.approx(np.abs(predictions - 2).mean())
    assert (found["r2"], found["pearson"], found["spearman"]) == (None, None, None)


def test_a_value_that_is_undefined_is_left_out_of_the_mean():
    labels, predictions = examples(2)
    labels[:, 0] = 1
    found = regression.figures(labels, predictions, ("a", "b"))
    assert found["per_value"]["a"]["r2"] is None
    assert found["r2"] == found["per_value"]["b"]["r2"]


def test_the_figures_are_plain_json():
    labels, predictions = examples(2)
    labels[:, 0] = 1
    found = regression.figures(labels, predictions, ("a", "b"))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_no_examples_and_no_numbers_are_told_apart():
    with pytest.raises(InputError, match="no examples"):
        regression.figures(np.zeros((0, 1)), np.zeros((0, 1)), ("value",))
    with pytest.raises(RunStopped, match="no numbers"):
        regression.figures(np.zeros((1, 1)), np.array([[math.inf]]), ("value",))


@pytest.mark.parametrize("values", [1, 2, 5, 18])
def test_the_picture_is_drawn(tmp_path, values):
    labels, predictions = examples(values)
    (path,) = evaluation.draw(
        "regression", labels, predictions, tuple(f"$_{number}" for number in range(values)), tmp_path / "new"
    )
    assert path.name == "scatter.png"
    assert min(imread(path).shape[:2]) > 300


def test_values_that_are_all_the_same_still_give_a_picture(tmp_path):
    evaluation.draw("regression", np.ones((3, 1)), np.ones((3, 1)), ("value",), tmp_path)
    assert (tmp_path / "scatter.png").exists()


def test_a_picture_that_cannot_be_written_stops_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunStopped, match=r"scatter\.png"):
        evaluation.draw("regression", *examples(1), ("value",), tmp_path / "file")
