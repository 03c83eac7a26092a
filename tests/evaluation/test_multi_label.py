"""The figures of several labels against counts made one answer at a time, and against scikit-learn's."""

import json
import math

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn import metrics

from dnabert_jax import evaluation
from dnabert_jax.errors import InputError, RunStopped
from dnabert_jax.evaluation import multi_label

NAMES = ("CTCF", "H3K27ac", "DNase", "fourth")
MACRO = ("f1", "precision", "recall", "mcc", "auroc", "auprc")


def examples(classes, count=50, seed=0):
    """Probabilities rounded so far that many of them tie, also at one half."""
    random = np.random.default_rng(seed)
    labels = (random.random((count, classes)) < 0.4).astype(np.float32)
    probabilities = 1 / (1 + np.exp(-random.normal(size=labels.shape) - 2 * (labels - 0.5)))
    return labels, probabilities.round(1)


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_every_figure_equals_its_count(classes):
    labels, probabilities = examples(classes)
    names = NAMES[:classes]
    found = multi_label.figures(labels, probabilities, names)
    assert tuple(found["per_class"]) == names
    all_right, each_right = 0, [True] * len(labels)
    sums = {"tp": 0, "fp": 0, "fn": 0}
    expected = []
    for number, name in enumerate(names):
        tp = fp = fn = tn = 0
        for row in range(len(labels)):
            has, says = labels[row, number] == 1, probabilities[row, number] > 0.5
            tp, fp, fn, tn = (
                tp + (has and says),
                fp + (says and not has),
                fn + (has and not says),
                tn + (not has and not says),
            )
            each_right[row] &= bool(has == says)
        all_right += tp + tn
        sums = {"tp": sums["tp"] + tp, "fp": sums["fp"] + fp, "fn": sums["fn"] + fn}
        one = {
            "examples": tp + fn,
            "accuracy": (tp + tn) / len(labels),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "mcc": (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)),
            "auroc": metrics.roc_auc_score(labels[:, number], probabilities[:, number]),
            "auprc": metrics.average_precision_score(labels[:, number], probabilities[:, number]),
        }
        assert found["per_class"][name] == pytest.approx(one)
        expected.append(one)
    for name in MACRO:
        assert found[name] == pytest.approx(sum(one[name] for one in expected) / classes)
    assert found["examples"] == len(labels)
    assert found["accuracy"] == pytest.approx(all_right / labels.size)
    assert found["subset_accuracy"] == pytest.approx(sum(each_right) / len(labels))
    assert found["micro_f1"] == pytest.approx(2 * sums["tp"] / (2 * sums["tp"] + sums["fp"] + sums["fn"]))


def test_the_averages_are_those_of_scikit_learn():
    labels, probabilities = examples(4, seed=3)
    found = multi_label.figures(labels, probabilities, NAMES)
    said = probabilities > 0.5
    assert found["f1"] == pytest.approx(metrics.f1_score(labels, said, average="macro"))
    assert found["micro_f1"] == pytest.approx(metrics.f1_score(labels, said, average="micro"))
    assert found["subset_accuracy"] == pytest.approx(metrics.accuracy_score(labels, said))
    assert found["auroc"] == pytest.approx(metrics.roc_auc_score(labels, probabilities, average="macro"))
    assert found["auprc"] == pytest.approx(metrics.average_precision_score(labels, probabilities, average="macro"))


def test_a_perfect_model():
    labels, _ = examples(3)
    found = multi_label.figures(labels, labels, NAMES[:3])
    assert {found[name] for name in (*MACRO, "accuracy", "subset_accuracy", "micro_f1")} == {1.0}


def test_a_class_without_examples_is_undefined_and_left_out_of_the_means():
    labels, probabilities = examples(3)
    labels[:, 1] = 0
    found = multi_label.figures(labels, probabilities, NAMES[:3])
    empty = found["per_class"]["H3K27ac"]
    assert empty["examples"] == 0
    assert {value for name, value in empty.items() if name != "examples"} == {None}
    others = [found["per_class"][name] for name in ("CTCF", "DNase")]
    for name in MACRO:
        assert found[name] == pytest.approx(sum(one[name] for one in others) / 2)


def test_a_class_that_every_example_has_leaves_only_the_ranking_undefined():
    found = multi_label.figures(np.ones((4, 1)), np.array([[0.9], [0.8], [0.2], [0.6]]), ("all",))
    assert found["per_class"]["all"]["recall"] == 0.75
    assert found["mcc"] == 0
    assert found["auroc"] is None
    assert found["auprc"] is None


def test_no_example_with_any_class():
    found = multi_label.figures(np.zeros((3, 2)), np.full((3, 2), 0.1), ("a", "b"))
    assert {found[name] for name in (*MACRO, "micro_f1")} == {None}
    assert found["accuracy"] == found["subset_accuracy"] == 1


def test_the_figures_are_plain_json():
    labels, probabilities = examples(3)
    labels[:, 0] = 0
    found = multi_label.figures(labels, probabilities.astype(np.float32), NAMES[:3])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_no_examples_and_no_numbers_are_told_apart():
    with pytest.raises(InputError, match="no examples"):
        multi_label.figures(np.zeros((0, 2)), np.zeros((0, 2)), ("a", "b"))
    with pytest.raises(RunStopped, match="no numbers"):
        multi_label.figures(np.zeros((1, 2)), np.array([[0.5, math.nan]]), ("a", "b"))


@pytest.mark.parametrize("classes", [1, 2, 20])
def test_the_pictures_are_drawn(tmp_path, classes):
    labels, probabilities = examples(classes)
    paths = evaluation.draw("multi_label", labels, probabilities, tuple(map(str, range(classes))), tmp_path / "new")
    assert [path.name for path in paths] == ["roc.png", "pr.png"]
    assert all(min(imread(path).shape[:2]) > 300 for path in paths)


def test_classes_without_examples_still_give_pictures(tmp_path):
    assert len(evaluation.draw("multi_label", np.zeros((3, 2)), np.full((3, 2), 0.1), ("a", "b"), tmp_path)) == 2
