"""Every target is judged by the figures of its kind, and chosen by one of them."""

import numpy as np
import pytest

from dnabert_jax import evaluation

CASES = {
    "single_label": (np.array([0, 1, 1, 0]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])),
    "per_base": (np.array([0, 1, 1, 0]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])),
    "multi_label": (np.array([[0, 1], [1, 1], [1, 0]]), np.array([[0.1, 0.9], [0.3, 0.8], [0.6, 0.1]])),
    "regression": (np.array([[0.5, 1], [2, 3], [1, 1]]), np.array([[0.7, 1], [2, 2], [1.5, 1]])),
}
PICTURES = {
    "single_label": ["confusion.png", "pr.png", "roc.png"],
    "per_base": ["confusion.png", "pr.png", "roc.png"],
    "multi_label": ["pr.png", "roc.png"],
    "regression": ["scatter.png"],
}


@pytest.mark.parametrize("target", CASES)
def test_figures_and_pictures_of_each_target(tmp_path, target):
    labels, predictions = CASES[target]
    figures = evaluation.figures(target, labels, predictions, ("a", "b"))
    assert 0 < figures[evaluation.criterion(target)] < 1
    assert ("mae" in figures) == (target == "regression")
    assert ("micro_f1" in figures) == (target == "multi_label")
    paths = evaluation.draw(target, labels, predictions, ("a", "b"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths) == PICTURES[target]


@pytest.mark.parametrize("target", CASES)
def test_arrays_that_do_not_fit_are_refused(target):
    labels, predictions = CASES[target]
    with pytest.raises(ValueError, match="expected"):
        evaluation.figures(target, labels[:-1], predictions, ("a", "b"))
    with pytest.raises(ValueError, match="expected"):
        evaluation.figures(target, labels, predictions, ("a", "b", "c"))
