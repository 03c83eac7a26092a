"""Reliability curves against a slow loop over the bins, and on probabilities that are right by construction."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from dnabert_jax.evaluation import reliability


def test_the_curve_is_that_of_a_slow_loop():
    generator = np.random.default_rng(0)
    probabilities = np.concatenate([generator.beta(0.4, 0.7, 500), [0, 0.1, 0.2, 0.3, 0.7, 1]])
    came_true = generator.random(506) < probabilities**2
    found = reliability.curve(came_true, probabilities)
    expected = []
    for number in range(reliability.BINS):
        low, high = np.linspace(0, 1, reliability.BINS + 1)[number : number + 2]
        inside = (probabilities > low) & (probabilities <= high)
        if number == 0:
            inside |= probabilities == 0
        if inside.any():
            expected.append((probabilities[inside].mean(), came_true[inside].mean(), inside.sum()))
    for values, which in zip((found.predicted, found.observed, found.counts), zip(*expected)):
        np.testing.assert_allclose(values, which)
    distance = sum(count * abs(predicted - observed) for predicted, observed, count in expected)
    assert found.ece == pytest.approx(distance / 506)
    assert found.brier == pytest.approx(brier_score_loss(came_true, probabilities))


def test_probabilities_that_come_true_have_no_error_and_sure_ones_that_do_not_have_all():
    probabilities = np.repeat([0.25, 0.75], 400)
    came_true = np.tile([True, False, False, False], 200)
    came_true[400:] = ~came_true[400:]
    assert reliability.curve(came_true, probabilities).ece == 0
    wrong = reliability.curve(np.zeros(5, bool), np.full(5, 1.0000001))
    assert (wrong.ece, wrong.brier) == (1, 1)
    assert wrong.counts.tolist() == [5]


def test_what_is_asked_of_each_target():
    labels = np.array([0, 1, 1])
    two = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    came_true, probabilities = reliability.question("single_label", labels, two)
    assert came_true.tolist() == [False, True, True]
    assert probabilities.tolist() == [0.1, 0.8, 0.3]
    three = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.3, 0.6, 0.1]])
    came_true, probabilities = reliability.question("per_base", labels, three)
    assert came_true.tolist() == [True, False, True]
    assert probabilities.tolist() == [0.5, 0.7, 0.6]
    came_true, probabilities = reliability.question("multi_label", np.array([[0, 1], [1, 1], [0, 0]], float), two)
    assert came_true.tolist() == [False, True, True, True, False, False]
    assert probabilities.tolist() == two.ravel().tolist()


def test_the_picture_is_drawn_of_one_bin_too():
    for probabilities in (np.linspace(0, 1, 30), np.full(30, 0.05)):
        found = reliability.curve(np.arange(30) % 2 == 0, probabilities)
        above, below = reliability.draw(found, "yes").axes
        assert "ECE" in above.get_legend().get_texts()[1].get_text()
        bars = [bar.get_x() + bar.get_width() / 2 for bar in below.patches]
        assert np.allclose(np.floor(np.array(bars) * 10), np.ceil(found.predicted * 10).clip(1) - 1)
