"""What a step takes and gives back: params, optimiser state and the number of steps done, laid out on the mesh."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from dnabert_jax import sharding
from dnabert_jax.errors import InputError

Params = Any
"""A pytree of float32 arrays."""


@flax.struct.dataclass
class State:
    """A pytree.

    Attributes:
      step: int32[], optimiser steps done.
      params: float32 pytree.
      optimizer: optax state.
    """

    step: jax.Array
    params: Params
    optimizer: optax.OptState


Init = Callable[[jax.Array], Params]
"""Random key → params whose leaves carry logical axis names: `Module.init(...)["params"]`."""


def layout(init: Init, optimizer: optax.GradientTransformation, key: jax.Array, mesh: Mesh) -> State:
    """Shapes, dtypes and shardings of a run's state, without making it.

    Args:
      init: makes params.
      optimizer: its state takes the layout of the params that it belongs to.
      key: random key, of which only the type matters.
      mesh: from `sharding.make_mesh`; must be in use.

    Returns:
      A State of `jax.ShapeDtypeStruct` with shardings.
    """
    return _laid_out(lambda key: _make(init, optimizer, key), key, mesh)


def parameter_layout(init: Init, key: jax.Array, mesh: Mesh) -> Params:
    """The `params` of `layout`, without an optimiser."""
    return _laid_out(init, key, mesh)


def create(init: Init, optimizer: optax.GradientTransformation, key: jax.Array, like: State) -> State:
    """The state at step 0, made on the devices that hold it; `like` is from `layout`."""
    make = jax.jit(lambda key: nn.unbox(_make(init, optimizer, key)), out_shardings=shardings(like))
    return make(key)


def shardings(like: State) -> State:
    """The shardings alone, as `jax.jit` takes them."""
    return jax.tree.map(lambda x: x.sharding, like)


def _laid_out(make: Callable[[jax.Array], Any], key: jax.Array, mesh: Mesh) -> Any:
    shapes = jax.eval_shape(lambda key: nn.unbox(make(key)), key)
    where = sharding.parameter_shardings(mesh, jax.eval_shape(make, key))
    return jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, where)


def _make(init: Init, optimizer: optax.GradientTransformation, key: jax.Array) -> State:
    params = init(key)
    return State(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def parameter_count(params: Params) -> int:
    return sum(x.size for x in jax.tree.leaves(params))


def shapes(params: Params) -> dict[str, list[int]]:
    """The shape of each array by its name, such as `encoder/embeddings/token`."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): list(leaf.shape) for path, leaf in leaves}


def check_shapes(where: str | Path, expected: dict[str, list[int]], found: dict[str, list[int]]) -> None:
    """Raises InputError naming the first array of which `shapes` differ, and both shapes."""
    for name in expected | found:
        if expected.get(name) != found.get(name):
            there, asked = (tuple(each[name]) if name in each else "none" for each in (found, expected))
            raise InputError(f"{where}: param {name} has shape {there}; expected {asked}")
