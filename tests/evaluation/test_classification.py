"""The figures against formulas written out slowly: loops over examples, pairs of examples and thresholds."""

import itertools
import json
import math

import numpy as np
import pytest
from matplotlib.image import imread

from dnabert_jax import evaluation
from dnabert_jax.errors import InputError, RunStopped
from dnabert_jax.evaluation import classification

NAMES = ("donor", "acceptor", "neither", "fourth")


def examples(classes, count=60, seed=0, decimals=1):
    """Probabilities rounded so far that many of them tie."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    scores = random.normal(size=(count, classes))
    scores[np.arange(count), labels] += 0.7
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return labels, probabilities.round(decimals)


def most_probable(row):
    return max(range(len(row)), key=lambda number: (row[number], -number))


def slow_auroc(positive, scores):
    """The share of pairs, one positive and one negative example, that are ranked rightly; a tie is half."""
    wins = [
        (a > b) + (a == b) / 2
        for a, b in itertools.product(
            [score for score, is_positive in zip(scores, positive) if is_positive],
            [score for score, is_positive in zip(scores, positive) if not is_positive],
        )
    ]
    return sum(wins) / len(wins)


def slow_auprc(positive, scores):
    """Σ (recall step) × precision, over the thresholds from the highest down."""
    area, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        called = [is_positive for score, is_positive in zip(scores, positive) if score >= threshold]
        recall = sum(called) / sum(positive)
        area += (recall - before) * sum(called) / len(called)
        before = recall
    return area


def slow_mcc(labels, predicted, classes):
    """Gorodkin (2004): the correlation of the true and the predicted one-hot matrices, over all their columns."""

    def covariance(a, b):
        total = 0.0
        for number in range(classes):
            x = [float(value == number) for value in a]
            y = [float(value == number) for value in b]
            mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
            total += sum((p - mean_x) * (q - mean_y) for p, q in zip(x, y))
        return total

    return covariance(labels, predicted) / math.sqrt(covariance(labels, labels) * covariance(predicted, predicted))


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_every_figure_equals_its_formula(classes, seed):
    labels, probabilities = examples(classes, seed=seed)
    names = NAMES[:classes]
    found = classification.figures(labels, probabilities, names)
    truth, predicted = labels.tolist(), [most_probable(row) for row in probabilities.tolist()]
    pairs = list(zip(truth, predicted))
    matrix = [[pairs.count((row, column)) for column in range(classes)] for row in range(classes)]
    assert found["examples"] == len(truth)
    assert found["confusion_matrix"] == matrix
    assert found["accuracy"] == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    assert found["mcc"] == pytest.approx(slow_mcc(truth, predicted, classes))
    assert tuple(found["per_class"]) == names
    expected = []
    for number, name in enumerate(names):
        right = matrix[number][number]
        precision = right / sum(row[number] for row in matrix)
        recall = right / sum(matrix[number])
        positive = [label == number for label in truth]
        scores = probabilities[:, number].tolist()
        missed, wrong = sum(matrix[number]) - right, sum(row[number] for row in matrix) - right
        rest = len(pairs) - right - missed - wrong
        sides = (right + wrong) * (right + missed) * (rest + wrong) * (rest + missed)
        one = {
            "examples": sum(positive),
            "accuracy": (right + rest) / len(pairs),
            "f1": 2 * precision * recall / (precision + recall),
            "mcc": (right * rest - wrong * missed) / math.sqrt(sides),
            "precision": precision,
            "recall": recall,
            "auroc": slow_auroc(positive, scores),
            "auprc": slow_auprc(positive, scores),
        }
        assert found["per_class"][name] == pytest.approx(one)
        expected.append(one)
    for figure in ("f1", "precision", "recall"):
        assert found[figure] == pytest.approx(sum(one[figure] for one in expected) / classes)
    for figure in ("auroc", "auprc"):
        if classes == 2:
            assert found[figure] == pytest.approx(expected[1][figure])
        else:
            assert found[figure] == pytest.approx(sum(one[figure] for one in expected) / classes)


def test_the_binary_mcc_is_the_one_of_matthews():
    labels = np.array([1] * 6 + [0] * 4)
    predicted = np.array([1, 1, 1, 1, 0, 0, 1, 0, 0, 0])
    found = classification.figures(labels, np.eye(2)[predicted], ("no", "yes"))
    # (TP·TN - FP·FN) / √((TP+FP)(TP+FN)(TN+FP)(TN+FN)) with TP 4, TN 3, FP 1, FN 2
    assert found["mcc"] == pytest.approx((4 * 3 - 1 * 2) / math.sqrt(5 * 6 * 4 * 5))


def test_a_perfect_classifier():
    labels = np.array([0, 1, 2, 2])
    found = classification.figures(labels, np.eye(3)[labels], NAMES[:3])
    assert {found[name] for name in ("accuracy", "f1", "precision", "recall", "mcc", "auroc", "auprc")} == {1.0}


def test_a_model_that_always_says_the_same():
    labels = np.array([0, 0, 1, 2])
    found = classification.figures(labels, np.tile([0.4, 0.3, 0.3], (4, 1)), NAMES[:3])
    assert found["mcc"] == 0
    assert found["accuracy"] == 0.5
    assert found["recall"] == pytest.approx(1 / 3)
    assert found["precision"] == pytest.approx(0.5 / 3)
    assert found["auroc"] == 0.5
    assert found["per_class"]["acceptor"]["precision"] == 0
    assert [one["accuracy"] for one in found["per_class"].values()] == [0.5, 0.75, 0.75]
    assert [one["mcc"] for one in found["per_class"].values()] == [0, 0, 0]


def test_a_class_without_examples_is_undefined_and_left_out_of_the_means():
    labels, probabilities = examples(3)
    labels[labels == 1] = 2
    found = classification.figures(labels, probabilities, NAMES[:3])
    assert found["per_class"]["acceptor"] == {
        "examples": 0,
        "accuracy": None,
        "f1": None,
        "mcc": None,
        "precision": None,
        "recall": None,
        "auroc": None,
        "auprc": None,
    }
    others = [found["per_class"][name] for name in ("donor", "neither")]
    for figure in ("f1", "precision", "recall", "auroc", "auprc"):
        assert found[figure] == pytest.approx(sum(one[figure] for one in others) / 2)


def test_examples_of_one_class_leave_the_ranking_undefined():
    found = classification.figures(np.zeros(5, int), np.tile([0.9, 0.1], (5, 1)), ("no", "yes"))
    assert found["accuracy"] == found["f1"] == 1
    assert found["mcc"] == 0
    assert found["auroc"] is None
    assert found["auprc"] is None


@pytest.mark.parametrize("classes", [2, 3])
def test_the_figures_are_plain_json(classes):
    labels, probabilities = examples(classes)
    labels[:] = 0
    found = classification.figures(labels.astype(np.int32), probabilities.astype(np.float32), NAMES[:classes])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_no_examples_and_no_numbers_are_told_apart():
    with pytest.raises(InputError, match="no examples"):
        classification.figures(np.zeros(0, int), np.zeros((0, 2)), ("no", "yes"))
    with pytest.raises(RunStopped, match="no numbers"):
        classification.figures(np.array([0, 1]), np.array([[0.5, 0.5], [math.nan, math.nan]]), ("no", "yes"))


@pytest.mark.parametrize("classes", [2, 3, 10, 30])
def test_the_pictures_are_drawn(tmp_path, classes):
    labels, probabilities = examples(classes, count=90, decimals=3)
    names = tuple(f"class {number}" for number in range(classes))
    paths = evaluation.draw("single_label", labels, probabilities, names, tmp_path / "new")
    assert [path.name for path in paths] == ["roc.png", "pr.png", "confusion.png"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in paths)
    for path in paths:
        height, width = imread(path).shape[:2]
        assert height > 300
        assert width > 300


def test_names_that_mean_something_to_the_drawing_library_are_drawn_as_they_are(tmp_path):
    labels, probabilities = examples(4)
    evaluation.draw("single_label", labels, probabilities, ("$x^{", "_hidden", "n" * 200, r"\frac"), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_examples_of_one_class_still_give_pictures(tmp_path):
    evaluation.draw("single_label", np.zeros(5, int), np.tile([0.9, 0.1], (5, 1)), ("no", "yes"), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_picture_that_cannot_be_written_stops_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    labels, probabilities = examples(2)
    with pytest.raises(RunStopped, match=r"roc\.png"):
        evaluation.draw("single_label", labels, probabilities, ("no", "yes"), tmp_path / "file")
