"""The losses of fine-tuning against loops over examples, classes and bases, and against torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax

from dnabert_jax.objectives import targets

WEIGHTS = np.array([1, 1, 0, 1, 0], np.float32)


def random_batch(target: str, seed: int = 0, spread: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of five rows: four outputs, and per base seven bases some of which are not labelled."""
    random = np.random.default_rng(seed)
    shape = (5, 7, 4) if target == "per_base" else (5, 4)
    logits = (spread * random.normal(size=shape)).astype(np.float32)
    if target == "multi_label":
        return logits, random.integers(0, 2, shape).astype(np.float32)
    if target == "regression":
        return logits, random.normal(size=shape).astype(np.float32)
    return logits, random.integers(-1 if target == "per_base" else 0, 4, shape[:-1]).astype(np.int32)


def slow(target: str, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The sums over the rows that weigh something, from the definitions."""
    sums = {"loss": 0.0, "correct": 0.0, "examples": 0}
    for row in np.flatnonzero(WEIGHTS):
        scores, truth = logits[row].astype(np.float64), labels[row]
        if target == "regression":
            sums["loss"] += sum((a - b) ** 2 for a, b in zip(scores, truth)) / len(truth)
            sums["examples"] += 1
        elif target == "multi_label":
            chance = expit(scores)
            sums["loss"] -= sum(np.log(p if is_class else 1 - p) for p, is_class in zip(chance, truth)) / len(truth)
            sums["correct"] += sum((p > 0.5) == bool(is_class) for p, is_class in zip(chance, truth)) / len(truth)
            sums["examples"] += 1
        else:
            for each, label in zip(np.atleast_2d(scores), np.atleast_1d(truth)):
                if label >= 0:
                    sums["loss"] -= log_softmax(each)[label]
                    sums["correct"] += int(np.argmax(each)) == label
                    sums["examples"] += 1
    if target == "regression":
        del sums["correct"]
    return sums


TARGETS = ("single_label", "multi_label", "regression", "per_base")


@pytest.mark.parametrize("target", TARGETS)
def test_the_sums_are_those_of_the_slow_loop(target):
    logits, labels = random_batch(target)
    loss, sums = jax.jit(targets.objective(target))(logits, labels, WEIGHTS)
    expected = slow(target, logits, labels)
    assert sums.keys() == expected.keys()
    np.testing.assert_allclose(loss, expected["loss"], rtol=1e-5)
    for name, value in expected.items():
        np.testing.assert_allclose(sums[name], value, rtol=1e-5)
    assert float(targets.weights_of(target, labels, WEIGHTS).sum()) == expected["examples"]


@pytest.mark.parametrize("target", TARGETS)
def test_loss_and_gradient_are_those_of_torch(target):
    torch = pytest.importorskip("torch", reason="torch (the extra 'interop') is the truth here")
    logits, labels = random_batch(target, seed=1)
    gradient, sums = jax.grad(targets.objective(target), has_aux=True)(jnp.asarray(logits), labels, WEIGHTS)
    there = np.flatnonzero(WEIGHTS)
    scores, truth = torch.tensor(logits[there], requires_grad=True), torch.tensor(labels[there])
    if target in ("multi_label", "regression"):
        kind = torch.nn.BCEWithLogitsLoss if target == "multi_label" else torch.nn.MSELoss
        mean = kind()(scores, truth)
    else:
        kind = torch.nn.CrossEntropyLoss(ignore_index=-1)
        mean = kind(scores.reshape(-1, 4), truth.reshape(-1).long())
    mean.backward()
    examples = float(sums["examples"])
    np.testing.assert_allclose(float(sums["loss"]) / examples, mean.item(), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(gradient)[there] / examples, scores.grad.numpy(), rtol=1e-4, atol=1e-6)
    assert not np.asarray(gradient)[WEIGHTS == 0].any()


@pytest.mark.parametrize("target", TARGETS)
def test_the_sums_of_parts_add_up(target):
    logits, labels = random_batch(target)
    objective = targets.objective(target)
    whole = objective(logits, labels, WEIGHTS)[1]
    parts = [objective(logits[rows], labels[rows], WEIGHTS[rows])[1] for rows in (slice(0, 2), slice(2, 5))]
    for name, value in whole.items():
        np.testing.assert_allclose(sum(part[name] for part in parts), value, rtol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_certainty_costs_a_finite_loss(target):
    logits, labels = random_batch(target)
    loss, _ = targets.objective(target)(1e4 * np.sign(logits), labels, WEIGHTS)
    assert np.isfinite(loss)


def test_bases_without_a_label_change_nothing():
    logits, labels = random_batch("per_base")
    gradient = jax.grad(lambda x: targets.per_base(x, labels, WEIGHTS)[0])(jnp.asarray(logits))
    assert not np.asarray(gradient)[labels < 0].any()
    loss, sums = targets.per_base(logits, np.full_like(labels, -1), WEIGHTS)
    assert (float(loss), float(sums["examples"]), float(sums["correct"])) == (0, 0, 0)
