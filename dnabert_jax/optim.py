"""AdamW, its learning-rate schedule, and what decays and what does not."""

from collections.abc import Collection
from typing import Any

import jax
import optax

from dnabert_jax.config import OptimizerConfig


def schedule(config: OptimizerConfig) -> optax.Schedule:
    """Learning rate of each step, counted from 0: linear from 0 to the peak, then linear to 0 at `decay_steps`."""
    return optax.schedules.join_schedules(
        [
            optax.schedules.linear_schedule(0.0, config.learning_rate, config.warmup_steps),
            optax.schedules.linear_schedule(
                config.learning_rate, 0.0, max(config.decay_steps - config.warmup_steps, 1)
            ),
        ],
        [config.warmup_steps],
    )


def decays(params: Any) -> Any:
    """A pytree of bools like `params`: True for kernels and embedding tables, False for biases and LayerNorm params."""

    def decays_here(path: tuple, _: Any) -> bool:
        # Before they are unboxed, params end in the box's attribute; the param's name is the last key of a dict.
        names = [each.key for each in path if isinstance(each, jax.tree_util.DictKey)]
        return names[-1] not in ("bias", "scale")

    return jax.tree_util.tree_map_with_path(decays_here, params)


def adamw(config: OptimizerConfig, trained: Collection[str] | None = None) -> optax.GradientTransformation:
    """Gradient clipping by global norm, then AdamW (Loshchilov & Hutter 2019) with decay on what `decays` names.

    Args:
      config: values.
      trained: top-level names of the params that are trained. The others stay as they are, keep no moments, and their
        gradients do not count towards the norm. None trains all.
    """
    update = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            schedule(config),
            b1=config.beta1,
            b2=config.beta2,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
            mask=decays,
        ),
    )
    if trained is None:
        return update

    def labels(params: Any) -> dict[str, str]:
        # One label for a whole subtree, so that no box of a frozen param is left where no moment is.
        return {name: "trained" if name in trained else "frozen" for name in params}

    return optax.multi_transform({"trained": update, "frozen": optax.set_to_zero()}, labels)
