"""The product that several devices share: its values and gradients. Where its arrays lie is for test_sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax import sharding
from dnabert_jax.config import MeshConfig
from dnabert_jax.model import gathered

KERNELS = [
    ((5, 3, 4, 2), ("hidden", None, "heads", None), 1),
    ((4, 2, 5), ("heads", None, "hidden"), 2),
    ((5, 6), ("hidden_of_table", None), 1),
]


@pytest.mark.parametrize(("shape", "axes", "inputs"), KERNELS)
def test_the_product_and_its_gradients_are_those_of_merged_axes(shape, axes, inputs):
    draw = np.random.default_rng(0)
    x, kernel, weight = (
        jnp.asarray(draw.normal(size=size), jnp.float32)
        for size in ((2, 7, *shape[:inputs]), shape, (2, 7, *shape[inputs:]))
    )

    def merged(x, kernel):
        y = x.reshape(14, -1) @ kernel.reshape(np.prod(shape[:inputs]), -1)
        return jnp.sum(weight * y.reshape(weight.shape))

    def kept_apart(x, kernel):
        return jnp.sum(weight * gathered.product(x, kernel, axes, inputs))

    expected = jax.value_and_grad(merged, (0, 1))(x, kernel)
    with sharding.use(sharding.make_mesh(MeshConfig(), jax.devices()[:1])):
        found = jax.jit(jax.value_and_grad(kept_apart, (0, 1)))(x, kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


def test_on_one_device_nothing_stands_between_a_param_and_its_use():
    param = jnp.ones((4, 2))
    assert gathered.gathered(param, ("vocabulary", "hidden_of_table")) is param
    with sharding.use(sharding.make_mesh(MeshConfig(), jax.devices()[:1])):
        assert not gathered.on_several_devices()
        assert gathered.gathered(param, ("vocabulary", "hidden_of_table")) is param


def test_a_policy_of_recomputation_sees_the_product():
    x, kernel = jnp.ones((2, 7, 5)), jnp.ones((5, 6))

    def products(policy, product):
        """How many products the gradients take, forward, once more and backward."""
        kept = jax.checkpoint(lambda x, kernel: jnp.sum(jnp.tanh(product(x, kernel))), policy=policy)
        return str(jax.make_jaxpr(jax.grad(kept, (0, 1)))(x, kernel)).count("dot_general[")

    def ours(x, kernel):
        return gathered.product(x, kernel, ("hidden", "mlp"), 1)

    policies = jax.checkpoint_policies
    with sharding.use(sharding.make_mesh(MeshConfig(), jax.devices()[:1])):
        found = [products(each, ours) for each in (policies.dots_with_no_batch_dims_saveable, None)]
    # Forward and two of the backward pass; without a policy the forward one again.
    assert found == [3, 4]
