"""The affine map, against NumPy; its bias's gradient, also where that is a product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax.model import dense


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_map_and_its_gradients_are_those_of_numpy(dtype):
    generator = np.random.default_rng(0)
    layer = dense.Dense((3, 4), ("hidden", None, "heads"), 0.02, dtype)
    x, gradient = generator.normal(size=(5, 7, 6)), generator.normal(size=(5, 7, 3, 4))
    params = {"kernel": generator.normal(size=(6, 3, 4)), "bias": generator.normal(size=(3, 4))}
    params = jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), params)
    y, back = jax.vjp(lambda params, x: layer.apply({"params": params}, x), params, jnp.asarray(x, dtype))
    of_params, of_x = back(jnp.asarray(gradient, dtype))

    kernel = np.asarray(params["kernel"]).reshape(6, 12)
    rows = gradient.reshape(-1, 12)
    expected = {
        "y": x @ kernel + np.asarray(params["bias"]).reshape(12),
        "kernel": x.reshape(-1, 6).T @ rows,
        "bias": rows.sum(axis=0),
        "x": rows @ kernel.T,
    }
    found = {"y": y, **of_params, "x": of_x}
    assert y.dtype == of_x.dtype == dtype
    for name, value in expected.items():
        error = np.linalg.norm(np.asarray(found[name], np.float64).ravel() - value.ravel()) / np.linalg.norm(value)
        assert error < (1e-2 if dtype == jnp.bfloat16 else 1e-5), name
