"""What XLA is told beyond the program: the options that make it faster where they are known to."""

import functools

import jax
import jax.numpy as jnp

_ONEDNN = {"xla_cpu_experimental_onednn_custom_call": True, "xla_cpu_experimental_ynn_fusion_type": ""}
"""Products of bfloat16 matrices by oneDNN. XLA's own make float32 of them first, or of some layouts only."""


def options(compute_dtype: str) -> dict[str, bool | str]:
    """For `jax.jit(..., compiler_options=...)` of a program whose matrix products are of this type; often none.

    On a CPU a step of BERT-base in bfloat16 takes a quarter of the time with them (docs/performance.md). They are
    options of XLA that may come and go, so they are given only where a small product shows that they do what they say.
    """
    if compute_dtype == "bfloat16" and jax.default_backend() == "cpu" and _onednn_multiplies():
        return dict(_ONEDNN)
    return {}


@functools.cache
def _onednn_multiplies() -> bool:
    matrix = jax.ShapeDtypeStruct((256, 256), jnp.bfloat16)
    try:
        compiled = jax.jit(jnp.matmul, compiler_options=_ONEDNN).lower(matrix, matrix).compile()
    except (RuntimeError, ValueError):  # an XLA without such options
        return False
    return "onednn$matmul" in compiled.as_text()
