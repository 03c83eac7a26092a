"""The affine map and the LayerNorm that the model is made of, with axes named for `dnabert_jax.sharding`."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnabert_jax.model.gathered import on_several_devices, product

_WHOLE = {"hidden": "hidden_of_vector", "hidden_of_table": "hidden_of_vector"}
"""Logical axes that are spread in kernels, and what they are in biases."""


class Dense(nn.Module):
    """`x @ kernel + bias` over the last `inputs` axes of x, onto output axes of any number.

    The kernel, float32[*input axes, *features], starts from a normal distribution; the bias starts at 0.

    Attributes:
      features: sizes of the output axes.
      axes: logical names of the kernel's axes, inputs first.
      initializer_range: standard deviation of the initial kernel.
      dtype: type of the product.
    """

    features: tuple[int, ...]
    axes: tuple[str | None, ...]
    initializer_range: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inputs = len(self.axes) - len(self.features)
        shape = (*x.shape[-inputs:], *self.features)
        normal = nn.initializers.normal(self.initializer_range)
        kernel = self.param("kernel", nn.with_logical_partitioning(normal, self.axes), shape, jnp.float32)
        axes = tuple(_WHOLE.get(axis, axis) for axis in self.axes[inputs:])
        zeros = nn.with_logical_partitioning(nn.initializers.zeros, axes)
        bias = self.param("bias", zeros, self.features, jnp.float32)
        x, bias = x.astype(self.dtype), bias.astype(self.dtype)
        if on_several_devices():
            return product(x, kernel, self.axes, inputs) + bias
        flat = math.prod(x.shape[-inputs:])
        y = x.reshape(*x.shape[:-inputs], flat) @ kernel.reshape(flat, -1).astype(self.dtype)
        return _add_bias(y, bias.reshape(-1)).reshape(*x.shape[:-inputs], *self.features)


def _add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    """y + bias for y of [..., features]. On a CPU in bfloat16 XLA takes long for the sum that is its gradient."""
    slow = jax.default_backend() == "cpu" and y.dtype == jnp.bfloat16
    return _add_bias_by_product(y, bias) if slow else y + bias


@jax.custom_vjp
def _add_bias_by_product(y, bias):
    return y + bias


def _forward(y, bias):
    return y + bias, None


def _backward(_, gradient):
    rows = gradient.reshape(-1, gradient.shape[-1])
    # Eight rows of ones and not one: a product with a vector would become the sum again.
    return gradient, (jnp.ones((8, len(rows)), rows.dtype) @ rows)[0]


_add_bias_by_product.defvjp(_forward, _backward)


def layer_norm(epsilon: float, dtype: jnp.dtype, name: str) -> nn.LayerNorm:
    """LayerNorm over the hidden axis with float32 statistics and BERT's two-pass variance."""
    return nn.LayerNorm(
        epsilon=epsilon,
        dtype=dtype,
        use_fast_variance=False,
        scale_init=nn.with_logical_partitioning(nn.initializers.ones, ("hidden_of_vector",)),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ("hidden_of_vector",)),
        name=name,
    )
