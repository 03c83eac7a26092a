"""Rotary positions (RoPE, Su et al. 2021): queries and keys are turned by angles that grow with the token's position.

Each head's dimensions are taken in pairs, read as complex numbers. Pair j of a token at position p turns by
p · base**(-2j / head_dim), so the product of a query and a key depends on how far apart they are and not on where they
stand, and no table ends anywhere. Dimension j is paired with j + head_dim / 2, which is the convention of GPT-NeoX,
Llama and ModernBERT in transformers; the paper and RoFormer pair 2j with 2j + 1, which is the same under a permutation
of the dimensions that the kernels of queries and keys share.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Rotation(NamedTuple):
    """How far each token turns each pair of dimensions.

    Attributes:
      cosine, sine: float32[batch, length, head_dim / 2].
    """

    cosine: jax.Array
    sine: jax.Array


def rotation(positions: jax.Array, head_dim: int, base: float) -> Rotation:
    """The rotation of each token.

    Args:
      positions: int32[batch, length], each token's place in its segment, from 0.
      head_dim: dimensions of a head; even.
      base: the slowest pair turns by one radian in base**(1 - 2 / head_dim) tokens.
    """
    frequencies = base ** (-2 * np.arange(head_dim // 2) / head_dim)
    angles = positions[..., None].astype(jnp.float32) * frequencies.astype(np.float32)
    return Rotation(jnp.cos(angles), jnp.sin(angles))


def rotate(x: jax.Array, rotation: Rotation) -> jax.Array:
    """Turns queries or keys.

    Args:
      x: float[batch, length, ..., head_dim], any number of axes between, such as heads.
      rotation: of the same tokens.

    Returns:
      float[batch, length, ..., head_dim] of the type of x, computed in float32.
    """
    batch, length, half = rotation.cosine.shape
    shape = (batch, length, *(1,) * (x.ndim - 3), half)
    cosine, sine = rotation.cosine.reshape(shape), rotation.sine.reshape(shape)
    real, imaginary = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    turned = jnp.concatenate([real * cosine - imaginary * sine, real * sine + imaginary * cosine], axis=-1)
    return turned.astype(x.dtype)
