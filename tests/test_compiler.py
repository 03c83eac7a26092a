"""What XLA is told: nothing where it need not be, and nothing that changes a product beyond its rounding."""

import jax
import jax.numpy as jnp
import numpy as np

from dnabert_jax import compiler


def test_products_in_float32_need_no_options():
    assert compiler.options("float32") == {}


def test_a_product_in_bfloat16_is_the_product_of_its_rounded_factors():
    generator = np.random.default_rng(0)
    x, y = (jnp.asarray(generator.normal(size=(200, 200)), jnp.bfloat16) for _ in range(2))
    product = jax.jit(jnp.matmul, compiler_options=compiler.options("bfloat16"))(x, y)
    exact = np.asarray(x, np.float64) @ np.asarray(y, np.float64)
    assert product.dtype == jnp.bfloat16
    assert np.linalg.norm(np.asarray(product, np.float64) - exact) < 4e-3 * np.linalg.norm(exact)


def test_an_xla_without_such_options_is_given_none(monkeypatch):
    monkeypatch.setattr(compiler, "_ONEDNN", {"xla_no_such_option": True})
    compiler._onednn_multiplies.cache_clear()
    try:
        assert compiler.options("bfloat16") == {}
    finally:
        compiler._onednn_multiplies.cache_clear()
