"""The losses of fine-tuning, one a target.

Each is a function (logits, labels, weights) → (loss summed over what is predicted, sums). Among the sums are `loss`;
`examples`, what the summed loss is divided by (sequences or, per base, labelled bases); and, where an answer can be
right or wrong, `correct`, how many of these are right.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from dnabert_jax.config import Target
from dnabert_jax.objectives import Sums

Objective = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Sums]]


def objective(target: Target) -> Objective:
    """The loss of a target: the function below that has its name."""
    return {
        "single_label": single_label,
        "multi_label": multi_label,
        "regression": regression,
        "per_base": per_base,
    }[target]


def weights_of(target: Target, labels: jax.Array, weights: jax.Array) -> jax.Array:
    """What the loss of each prediction weighs: the sum of it is `examples`.

    Args:
      target: what is predicted.
      labels: as the target's function takes them.
      weights: float32[batch].

    Returns:
      float32[batch], or float32[batch, bases] per base, where bases without a label weigh nothing.
    """
    return jnp.where(labels >= 0, weights[:, None], 0.0) if target == "per_base" else weights


def single_label(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, Sums]:
    """Cross-entropy of class labels.

    Args:
      logits: float32[batch, classes].
      labels: int32[batch].
      weights: float32[batch], 0 for rows that only fill the batch.

    Returns:
      The loss summed over examples in nats, float32[], and the sums `loss`, `correct` and `examples`.
    """
    return _cross_entropy(logits, labels, weights)


def multi_label(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, Sums]:
    """Cross-entropy of a yes or no for each class, the mean over the classes.

    Args:
      logits: float32[batch, classes], of yes.
      labels: float32[batch, classes], 1 for yes and 0 for no.
      weights: float32[batch], 0 for rows that only fill the batch.

    Returns:
      The loss summed over examples in nats, float32[], and the sums `loss`, `examples` and `correct`, to which each
      example adds its share of right answers; yes is a probability above one half.
    """
    loss = jnp.sum(optax.sigmoid_binary_cross_entropy(logits, labels).mean(axis=-1) * weights)
    correct = jnp.sum(((logits > 0) == (labels > 0)).mean(axis=-1) * weights)
    return loss, {"loss": loss, "correct": correct, "examples": jnp.sum(weights)}


def regression(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, Sums]:
    """Squared error, the mean over the values of an example.

    Args:
      logits: float32[batch, values], the predictions.
      labels: float32[batch, values], in the same units.
      weights: float32[batch], 0 for rows that only fill the batch.

    Returns:
      The loss summed over examples, float32[], and the sums `loss` and `examples`.
    """
    loss = jnp.sum(jnp.square(logits - labels).mean(axis=-1) * weights)
    return loss, {"loss": loss, "examples": jnp.sum(weights)}


def per_base(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, Sums]:
    """Cross-entropy of the classes of labelled bases, each of which weighs the same whatever its sequence.

    Args:
      logits: float32[batch, bases, classes].
      labels: int32[batch, bases], -1 for bases that are not labelled or not there.
      weights: float32[batch], 0 for rows that only fill the batch.

    Returns:
      The loss summed over labelled bases in nats, float32[], and the sums `loss`, `correct` and `examples`, in bases.
    """
    return _cross_entropy(logits, jnp.maximum(labels, 0), weights_of("per_base", labels, weights))


def _cross_entropy(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, Sums]:
    """Of float32[..., classes] logits and int32[...] labels that weigh float32[...]."""
    loss = jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, labels) * weights)
    correct = jnp.sum((jnp.argmax(logits, axis=-1) == labels) * weights)
    return loss, {"loss": loss, "correct": correct, "examples": jnp.sum(weights)}
