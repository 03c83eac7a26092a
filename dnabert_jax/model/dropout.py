"""Dropout from a counter-based hash.

The mask of an element is a hash of its index and of 64 bits drawn from the key, so it costs a few integer operations
where Threefry costs about a hundred, is computed again rather than stored, and comes out the same however the array is
sharded. The hash is MurmurHash3's 32-bit finaliser, applied twice with a fresh half of the key each time.
"""

import jax
import jax.numpy as jnp


def dropout(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Zeroes elements with probability `rate` and scales the others by `1 / (1 - rate)`.

    Args:
      x: float[...]; arrays of more than 2**32 elements repeat the mask of the first 2**32.
      rate: probability of zero, in [0, 1), kept to a resolution of 2**-32.
      key: a JAX random key.
    """
    if rate == 0.0:
        return x
    keep = _hash(_element_index(x.shape), jax.random.bits(key, (2,), jnp.uint32)) >= jnp.uint32(rate * 2**32)
    # The scale is not rounded to the type of x: in bfloat16 it would be off by 0.16 % at a rate of 0.1.
    return jnp.where(keep, x.astype(jnp.float32) / (1 - rate), 0).astype(x.dtype)


def _element_index(shape: tuple[int, ...]) -> jax.Array:
    """uint32[shape]: the row-major index of each element, from iotas that every device can make for its own shard."""
    index, stride = jnp.zeros((), jnp.uint32), 1
    for axis in reversed(range(len(shape))):
        index = index + jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    return index


def _hash(x: jax.Array, seeds: jax.Array) -> jax.Array:
    for seed in (seeds[0], seeds[1]):
        x = x ^ seed
        x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
        x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
        x = x ^ (x >> 16)
    return x
