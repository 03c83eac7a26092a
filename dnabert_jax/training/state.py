"""What a step takes and gives back: params, optimiser state and the number of steps done, laid out on the mesh."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from dnabert_jax import sharding

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


def create(
    init: Callable[[jax.Array], Params], optimizer: optax.GradientTransformation, key: jax.Array, mesh: Mesh
) -> tuple[State, State]:
    """The state at step 0, made on the devices that will hold it.

    Args:
      init: random key → params whose leaves carry logical axis names (`Module.init(...)["params"]`).
      optimizer: its state takes the layout of the params that it belongs to.
      key: random key of the initial params.
      mesh: from `sharding.make_mesh`; must be in use.

    Returns:
      The state and a `State` of shardings.
    """

    def make(key: jax.Array) -> State:
        params = init(key)
        return State(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    shardings = sharding.parameter_shardings(mesh, jax.eval_shape(make, key))
    made = jax.jit(lambda key: nn.unbox(make(key)), out_shardings=shardings)(key)
    return made, shardings


def abstract(state: State) -> State:
    """Shapes, dtypes and shardings of a state, as restoring from a checkpoint needs them."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def parameter_count(params: Params) -> int:
    return sum(x.size for x in jax.tree.leaves(params))
