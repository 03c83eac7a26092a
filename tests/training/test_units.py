"""Training on standardised labels, and predicting in their own units."""

import jax
import jax.numpy as jnp
import numpy as np

from dnabert_jax.data.labelled import Examples
from dnabert_jax.training.units import Units

GENERATOR = np.random.default_rng(0)
LABELS = (GENERATOR.normal(size=(50, 2)) * [3, 0.01] + [1000, -5]).astype(np.float32)


def examples(labels: np.ndarray) -> Examples:
    return Examples(("",) * len(labels), (np.zeros(3, np.uint8),) * len(labels), labels, ("a", "b"))


def params(seed: int = 1):
    generator = np.random.default_rng(seed)
    kernel, bias = generator.normal(size=(8, 2)), generator.normal(size=2)
    classifier = {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}
    return {"encoder": {"x": jnp.ones(3)}, "classifier": classifier}


def outputs(params, x: np.ndarray) -> np.ndarray:
    return np.asarray(x @ np.asarray(params["classifier"]["kernel"], np.float64) + params["classifier"]["bias"])


def test_labels_become_standard():
    found = Units.of(examples(LABELS), "regression").standard(examples(LABELS)).labels
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=2e-4)
    np.testing.assert_allclose(found.std(axis=0), 1, atol=2e-3)


def test_restored_params_predict_in_the_labels_units():
    units = Units.of(examples(LABELS), "regression")
    x = GENERATOR.normal(size=(5, 8))
    expected = outputs(params(), x) * LABELS.std(axis=0) + LABELS.mean(axis=0)
    np.testing.assert_allclose(outputs(units.restored(params()), x), expected, rtol=1e-5)


def test_standardising_params_is_the_inverse():
    units = Units.of(examples(LABELS), "regression")
    again = units.standardised(units.restored(params()))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-2, atol=1e-4), again, params())


def test_labels_that_do_not_vary_are_only_centred():
    units = Units.of(examples(np.full((4, 2), 7, np.float32)), "regression")
    np.testing.assert_array_equal(units.standard(examples(np.full((4, 2), 7, np.float32))).labels, np.zeros((4, 2)))


def test_labels_of_any_size_become_standard():
    for scale in (1e-25, 1e25):
        labels = (GENERATOR.normal(size=(50, 2)) * scale).astype(np.float32)
        found = Units.of(examples(labels), "regression").standard(examples(labels)).labels
        np.testing.assert_allclose(found.std(axis=0), 1, atol=2e-3)


def test_other_targets_stay_as_they_are():
    labels = np.array([0, 1, 1], np.int32)
    units = Units.of(examples(labels), "single_label")
    assert units.standard(examples(labels)).labels is labels
    found = params()
    assert units.restored(found) is found
    assert units.standardised(found) is found
