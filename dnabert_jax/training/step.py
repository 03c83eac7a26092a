"""One optimiser step as one jitted program: mask, forward, backward, accumulate, clip, update."""

from collections.abc import Callable
from typing import Any

import einops
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from dnabert_jax import sharding
from dnabert_jax.objectives import Sums
from dnabert_jax.training.state import Params, State

Loss = Callable[[Params, Any, jax.Array], tuple[jax.Array, Sums]]
"""(params, micro-batch, random key) → summed loss and sums."""


def accumulate(loss: Loss, params: Params, batch: Any, parts: int, key: jax.Array) -> tuple[Params, Sums]:
    """Gradients of the summed loss and the sums over a batch, computed `parts` pieces after one another.

    The rows of a piece are taken at a stride, so that each device keeps the rows it has.

    Args:
      loss: of one piece.
      params: float32 pytree.
      batch: pytree of arrays [batch, ...]; `batch` a multiple of `parts`.
      parts: number of pieces.
      key: random key; each piece gets its own.
    """
    gradient = jax.grad(loss, has_aux=True)
    if parts == 1:
        return gradient(params, batch, jax.random.fold_in(key, 0))
    pieces = jax.tree.map(lambda x: einops.rearrange(x, "(rows parts) ... -> parts rows ...", parts=parts), batch)

    def add(total, piece):
        index, rows = piece
        new = gradient(params, rows, jax.random.fold_in(key, index))
        return jax.tree.map(jnp.add, total, new), None

    first = jax.tree.map(lambda x: x[0], pieces)
    shapes = jax.eval_shape(gradient, params, first, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, (jnp.arange(parts), pieces))
    return total


def make(
    loss: Loss,
    prepare: Callable[[Any, jax.Array, jax.Array], tuple[Any, jax.Array]],
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    *,
    parts: int,
    key: jax.Array,
    mesh: Mesh,
    shardings: State,
    compiler_options: dict[str, Any] | None = None,
) -> Callable[[State, Any], tuple[State, Sums]]:
    """Builds the training step.

    Args:
      loss: of one micro-batch of what `prepare` returns.
      prepare: (batch, random key, step) → (batch ready for the loss, total weight that the summed loss is divided by).
      optimizer: gradients → updates.
      learning_rate: reported beside the sums.
      parts: micro-batches per step.
      key: random key of the run; each step folds its number into it, nothing is carried.
      mesh: in use while the step is called.
      shardings: of the state.
      compiler_options: as `compiler.options` gives them.

    Returns:
      step(state, batch) → (new state, sums with `learning_rate` and `gradient_norm` added); the old state's buffers are
      donated. `state.step` is the number of steps done before, so the first call is step 0.
    """

    def step(state: State, batch: Any) -> tuple[State, Sums]:
        prepare_key, loss_key = jax.random.split(jax.random.fold_in(key, state.step))
        ready, weight = prepare(batch, prepare_key, state.step)
        ready = jax.lax.with_sharding_constraint(ready, sharding.batch_sharding(mesh))
        gradients, sums = accumulate(loss, state.params, ready, parts, loss_key)
        gradients = jax.tree.map(lambda g: g / jnp.maximum(weight, 1), gradients)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        sums |= {"learning_rate": learning_rate(state.step), "gradient_norm": optax.tree.norm(gradients)}
        return State(state.step + 1, params, optimizer_state), sums

    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(shardings, sharding.batch_sharding(mesh)),
        out_shardings=(shardings, sharding.replicated(mesh)),
        compiler_options=compiler_options,
    )
