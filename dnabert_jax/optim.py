"""AdamW, its learning-rate schedule, and what decays and what does not."""

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
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in ("bias", "scale"), params)


def adamw(config: OptimizerConfig, trainable: Any = None) -> optax.GradientTransformation:
    """Gradient clipping by global norm, then AdamW (Loshchilov & Hutter 2019) with decay on what `decays` names.

    Args:
      config: values.
      trainable: pytree of bools like the params; where False the param is left as it is and keeps no moments, and its
        gradient does not count towards the norm. None trains all.
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
    if trainable is None:
        return update
    labels = jax.tree.map(lambda each: "trained" if each else "frozen", trainable)
    return optax.multi_transform({"trained": update, "frozen": optax.set_to_zero()}, labels)
