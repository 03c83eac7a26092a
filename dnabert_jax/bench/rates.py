"""What a device can do at most, measured: the rate of its largest matrix products, and that of its memory.

The ceilings that the figures of a result are held against, taken in the same run, by the same compiler, on the same
chip at the same temperature. They are of one device; what a maker publishes is in `hardware`.
"""

import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dnabert_jax import compiler

_SHAPES = (
    (512, 512, 512),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (4096, 768, 3072),
    (4096, 4096, 4096),
    (65536, 768, 3072),
    (32768, 1024, 4096),
    (8192, 8192, 8192),
    (16384, 16384, 16384),
)
"""(m, k, n) of products [m, k] × [k, n]: squares, and those of a Transformer's feed-forward block."""
_LONGEST_S = 1.0
"""Shapes whose two products would take longer are left out: on a slow device the small ones reach its rate too."""
_TIMINGS = 5
_SPENT_S = 2.0
"""After this time a shape is timed no further: other programs disturb long timings least."""
_TIMED_S = 0.05
"""Products are repeated until a timing takes this long, so that starting and stopping the clock does not count."""
_COPIED_BYTES = 2**30
_COPIED_BYTES_CPU = 2**28
"""Several times what the caches of a device hold."""


def matrix_product(dtype: str) -> float:
    """FLOP/s of the fastest of several large dense matrix products.

    Args:
      dtype: `bfloat16` or `float32`, of the factors and of what comes out; JAX's default precision, as in the model.

    Returns:
      2 FLOPs for each multiply-add, the best of several timings of the shape that does best.
    """
    best = 0.0
    for m, k, n in sorted(_SHAPES, key=lambda shape: np.prod(shape)):
        flops = 2 * 2.0 * m * k * n
        if best and flops / best > _LONGEST_S:
            continue
        best = max(best, flops / _seconds(*_products(m, k, n, dtype)))
    return best


def memory_bandwidth() -> float:
    """Bytes/s, read and written, of a pass over an array that is much larger than the caches."""
    size = _COPIED_BYTES_CPU if jax.default_backend() == "cpu" else _COPIED_BYTES
    x = jax.device_put(jnp.zeros(size // 4, jnp.float32), jax.devices()[0])
    return 2.0 * size / _seconds(_increment, x)


@partial(jax.jit, donate_argnums=0)
def _increment(x: jax.Array) -> jax.Array:
    # In place, so that what is written was read, and no page is touched for the first time.
    return x + 1


def _products(m: int, k: int, n: int, dtype: str) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    """A function of two products, [m, k] × [k, n] and [m, n] × [n, k], and what to give it, which is like its result.

    The factors are normal and scaled so that the products neither grow nor vanish: what is all zeros takes less power,
    and a chip that is short of it runs faster then.
    """
    shapes, scales = ((m, k), (k, n), (n, k)), (1.0, k**-0.5, n**-0.5)

    @jax.jit
    def factors() -> list[jax.Array]:
        drawn = zip(jax.random.split(jax.random.key(0), 3), shapes, scales, strict=True)
        return [(jax.random.normal(key, shape) * scale).astype(dtype) for key, shape, scale in drawn]

    @partial(jax.jit, compiler_options=compiler.options(dtype))
    def products(x: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
        # Without the barrier a compiler may multiply `up` and `down` first, which is less work.
        return jax.lax.optimization_barrier(x @ up) @ down

    x, up, down = jax.device_put(factors(), jax.devices()[0])
    return lambda x: products(x, up, down), x


def _seconds(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> float:
    """Seconds of one call of `function`, each on the result of the one before: the least of several timings.

    A ceiling is what a device can do when nothing disturbs it, hence not the median.
    """
    x = jax.block_until_ready(function(x))  # compiles

    def timed(count: int) -> float:
        nonlocal x
        began = time.perf_counter()
        for _ in range(count):
            x = function(x)
        jax.block_until_ready(x)
        return time.perf_counter() - began

    count, once = 1, timed(1)
    while once < _TIMED_S and count < 2**16:
        count *= 2
        once = timed(count)
    timings = [once]
    while len(timings) < _TIMINGS and sum(timings) < _SPENT_S:
        timings.append(timed(count))
    return min(timings) / count
