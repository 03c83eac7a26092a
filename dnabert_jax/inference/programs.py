"""Programs that read a model: one for each model and way of reading it, however often it is asked for."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from dnabert_jax import compiler
from dnabert_jax.config import ModelConfig
from dnabert_jax.data.rows import Batch


@functools.lru_cache(maxsize=64)
def program(function: Callable[..., Any], config: ModelConfig, *how: Any) -> Callable[[Any, Batch], Any]:
    """A jitted function (params, batch) → `function(config, *how, params, batch)`, compiled as the model's type takes.

    Args:
      function: pure; the same object each time, such as a function of a module, for the program to be found again.
      config: of the model.
      how: what else is fixed; hashable.
    """
    fixed = functools.partial(function, config, *how)
    return jax.jit(fixed, compiler_options=compiler.options(config.encoder.compute_dtype))
