"""What stands on the encoder: the masked-LM head and the sequence classifier.

Both keep the encoder's params under the key `encoder`, so that they pass from one model to the other as they are.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnabert_jax.config import EncoderConfig
from dnabert_jax.model.dense import Dense, layer_norm
from dnabert_jax.model.dropout import dropout
from dnabert_jax.model.encoder import Encoder


class MaskedLanguageModelHead(nn.Module):
    """Transform, exact GELU, LayerNorm, and a decoder tied to the token embeddings with a bias of its own."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, hidden: jax.Array, token_table: jax.Array) -> jax.Array:
        config = self.config
        dtype = jnp.dtype(config.compute_dtype)
        x = Dense((config.hidden,), ("hidden", None), config.initializer_range, dtype, name="transform")(hidden)
        x = layer_norm(config.layer_norm_epsilon, dtype, "layer_norm")(nn.gelu(x, approximate=False))
        zeros = nn.with_logical_partitioning(nn.initializers.zeros, ("vocabulary",))
        bias = self.param("bias", zeros, (config.vocabulary_size,), jnp.float32)
        logits = jnp.einsum("...h,vh->...v", x, token_table.astype(dtype), preferred_element_type=jnp.float32)
        return logits + bias


class MaskedLanguageModel(nn.Module):
    """The pretraining model: logits over the vocabulary at chosen places of each row."""

    config: EncoderConfig

    def setup(self) -> None:
        self.encoder = Encoder(self.config)
        self.mlm_head = MaskedLanguageModelHead(self.config)

    def __call__(
        self,
        tokens: jax.Array,
        segment_ids: jax.Array,
        positions: jax.Array,
        slots: jax.Array,
        *,
        deterministic: bool,
    ) -> jax.Array:
        """Scores every token for the places in `slots`.

        Args:
          tokens, segment_ids, positions: int32[batch, length], as `Encoder` takes them.
          slots: int32[batch, slots], the places in the row to score.
          deterministic: True switches dropout off.

        Returns:
          logits, float32[batch, slots, vocabulary].
        """
        hidden = self.encoder(tokens, segment_ids, positions, deterministic=deterministic)
        chosen = jnp.take_along_axis(hidden, slots[:, :, None], axis=1)
        return self.mlm_head(chosen, self.encoder.token_table())


class SequenceClassifier(nn.Module):
    """One segment a row: the hidden state of [CLS], pooled, dropped out, and mapped to class logits.

    Attributes:
      config: the encoder's.
      classes: number of classes.
      dropout: rate on the pooled output.
    """

    config: EncoderConfig
    classes: int
    dropout: float

    def setup(self) -> None:
        config = self.config
        dtype = jnp.dtype(config.compute_dtype)
        self.encoder = Encoder(config)
        self.pooler = Dense((config.hidden,), ("hidden", None), config.initializer_range, dtype)
        self.classifier = Dense((self.classes,), ("hidden", None), config.initializer_range, jnp.float32)

    def __call__(
        self, tokens: jax.Array, segment_ids: jax.Array, positions: jax.Array, *, deterministic: bool
    ) -> jax.Array:
        """Class logits, float32[batch, classes], from int32[batch, length] arrays whose first token is [CLS]."""
        hidden = self.encoder(tokens, segment_ids, positions, deterministic=deterministic)
        pooled = jnp.tanh(self.pooler(hidden[:, 0]))
        if not deterministic:
            pooled = dropout(pooled, self.dropout, self.make_rng("dropout"))
        return self.classifier(pooled)


def class_probabilities(model: SequenceClassifier) -> Callable[[Any, dict[str, jax.Array]], jax.Array]:
    """A jitted function (params, batch) → float32[batch, classes], each row a distribution; dropout is off.

    The batch has `tokens`, `segment_ids` and `positions`, int32[batch, length] each; other entries are left alone.
    """

    @jax.jit
    def probabilities(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
        inputs = (batch["tokens"], batch["segment_ids"], batch["positions"])
        return jax.nn.softmax(model.apply({"params": params}, *inputs, deterministic=True))

    return probabilities
