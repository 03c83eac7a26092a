"""What stands on the encoder: the masked-LM head, and the fine-tuned heads for a sequence and for each of its bases.

All of them keep the encoder's params under the key `encoder`, so that they pass from one model to another as they are.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnabert_jax import compiler
from dnabert_jax.config import EncoderConfig, ModelConfig
from dnabert_jax.model.dense import Dense, layer_norm
from dnabert_jax.model.dropout import dropout
from dnabert_jax.model.encoder import Encoder
from dnabert_jax.model.gathered import gathered


class MaskedLanguageModelHead(nn.Module):
    """Transform, exact GELU, LayerNorm, and a decoder with a bias of its own.

    The decoder's table is that of the token embeddings, or `decoder` where the config says that it is not tied.
    """

    config: EncoderConfig

    @nn.compact
    def __call__(self, hidden: jax.Array, token_table: jax.Array) -> jax.Array:
        config = self.config
        dtype = jnp.dtype(config.compute_dtype)
        x = Dense((config.hidden,), ("hidden_of_table", None), config.initializer_range, dtype, name="transform")(
            hidden
        )
        x = layer_norm(config.layer_norm_epsilon, dtype, "layer_norm")(nn.gelu(x, approximate=False))
        zeros = nn.with_logical_partitioning(nn.initializers.zeros, ("vocabulary",))
        bias = self.param("bias", zeros, (config.vocabulary_size,), jnp.float32)
        if not config.tied_decoder:
            axes = ("vocabulary", "hidden_of_table")
            normal = nn.with_logical_partitioning(nn.initializers.normal(config.initializer_range), axes)
            token_table = self.param("decoder", normal, (config.vocabulary_size, config.hidden), jnp.float32)
            token_table = gathered(token_table, axes)
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
        chosen = nn.with_logical_constraint(chosen, ("batch", "slots", "hidden_states"))
        return self.mlm_head(chosen, self.encoder.token_table())


class SequenceClassifier(nn.Module):
    """Outputs for a whole sequence: the hidden state of [CLS], or the mean over the k-mers, pooled, dropped out, and
    mapped to logits.

    A sequence longer than the encoder reads comes in pieces; their pooled outputs are joined before the last map, as
    DNABERT-XL joins them (Ji et al. 2021).

    Attributes:
      config: the model's; its head is `single_label`, `multi_label` or `regression`.
      dropout: rate on the pooled output.
    """

    config: ModelConfig
    dropout: float = 0.0

    def setup(self) -> None:
        config = self.config.encoder
        dtype = jnp.dtype(config.compute_dtype)
        self.encoder = Encoder(config)
        self.pooler = Dense((config.hidden,), ("hidden_of_table", None), config.initializer_range, dtype)
        self.classifier = Dense(
            (len(self.config.classes),), ("hidden_of_table", None), config.initializer_range, jnp.float32
        )

    def __call__(
        self, tokens: jax.Array, segment_ids: jax.Array, positions: jax.Array, *, deterministic: bool
    ) -> jax.Array:
        """Logits, float32[batch, outputs].

        Args:
          tokens, segment_ids, positions: int32[batch, length], or int32[batch, pieces, length]; each row of `length`
            is one segment that begins with [CLS], or empty: a piece that its sequence does not have.
          deterministic: True switches dropout off.
        """
        pooled = self.pooled(tokens, segment_ids, positions, deterministic=deterministic)
        if not deterministic:
            pooled = dropout(pooled, self.dropout, self.make_rng("dropout"))
        return self.classify(pooled, segment_ids[..., 0] > 0)

    def pooled(
        self, tokens: jax.Array, segment_ids: jax.Array, positions: jax.Array, *, deterministic: bool
    ) -> jax.Array:
        """compute_dtype[..., hidden] for int32[..., length] rows: what the pooler makes of each."""
        return self.pool(_encoded(self.encoder, tokens, segment_ids, positions, deterministic), segment_ids)

    def pool(self, hidden: jax.Array, segment_ids: jax.Array) -> jax.Array:
        """compute_dtype[..., hidden] of hidden states [..., length, hidden] and the rows' segment ids."""
        if self.config.pool == "cls":
            return jnp.tanh(self.pooler(hidden[..., 0, :]))
        is_kmer = _is_kmer(segment_ids)[..., None]
        total = jnp.where(is_kmer, hidden[..., 1:-1, :], 0).astype(jnp.float32).sum(axis=-2)
        mean = total / jnp.maximum(is_kmer.sum(axis=-2), 1)
        return jnp.tanh(self.pooler(mean.astype(hidden.dtype)))

    def classify(self, pooled: jax.Array, is_there: jax.Array) -> jax.Array:
        """Logits from the pooled outputs of pieces, or of sequences that are one piece each.

        Args:
          pooled: float[batch, pieces, hidden] or float[batch, hidden].
          is_there: bool[batch, pieces] or bool[batch], False for pieces that a sequence does not have.

        Returns:
          float32[batch, outputs].
        """
        if pooled.ndim == 2:
            pooled, is_there = pooled[:, None], is_there[:, None]
        pooled = jnp.where(is_there[..., None], pooled.astype(jnp.float32), 0.0)
        if self.config.join == "mean":
            return self.classifier(pooled.sum(axis=1) / jnp.maximum(is_there.sum(axis=1), 1)[:, None])
        missing = self.config.pieces - pooled.shape[1]
        pooled = jnp.pad(pooled, ((0, 0), (0, missing), (0, 0)))
        return self.classifier(pooled.reshape(len(pooled), -1))


class BaseClassifier(nn.Module):
    """A class for each base: logits for each k-mer, and for a base the mean over the k-mers that cover it.

    Attributes:
      config: the model's; its head is `per_base`.
      dropout: rate on the hidden states.
    """

    config: ModelConfig
    dropout: float = 0.0

    def setup(self) -> None:
        config = self.config.encoder
        self.encoder = Encoder(config)
        self.classifier = Dense(
            (len(self.config.classes),), ("hidden_of_table", None), config.initializer_range, jnp.float32
        )

    def __call__(
        self, tokens: jax.Array, segment_ids: jax.Array, positions: jax.Array, *, deterministic: bool
    ) -> jax.Array:
        """Logits of each base, float32[batch, kmers + k - 1, classes].

        Args:
          tokens, segment_ids, positions: int32[batch, length], so `length - 2` k-mers, or int32[batch, pieces, length]
            where all pieces before the last one that a sequence has are full.
          deterministic: True switches dropout off.
        """
        hidden = _encoded(self.encoder, tokens, segment_ids, positions, deterministic)
        return self.base_logits(hidden, segment_ids, deterministic=deterministic)

    def base_logits(self, hidden: jax.Array, segment_ids: jax.Array, *, deterministic: bool) -> jax.Array:
        """What `__call__` returns, of hidden states [batch, (pieces,) length, hidden] and the rows' segment ids."""
        logits = self._classified(hidden, deterministic)
        is_kmer = _is_kmer(segment_ids)
        batch, classes = len(hidden), logits.shape[-1]
        return base_means(
            logits[..., 1:-1, :].reshape(batch, -1, classes), is_kmer.reshape(batch, -1), self.config.encoder.k
        )

    def kmer_logits(
        self, tokens: jax.Array, segment_ids: jax.Array, positions: jax.Array, *, deterministic: bool
    ) -> jax.Array:
        """float32[..., length, classes] for int32[..., length] rows: the logits of every token."""
        return self._classified(_encoded(self.encoder, tokens, segment_ids, positions, deterministic), deterministic)

    def _classified(self, hidden: jax.Array, deterministic: bool) -> jax.Array:
        if not deterministic:
            hidden = dropout(hidden, self.dropout, self.make_rng("dropout"))
        return self.classifier(hidden)


def base_means(values: jax.Array, is_kmer: jax.Array, k: int) -> jax.Array:
    """For each base the mean of what the k-mers that cover it have.

    Args:
      values: float[batch, kmers, channels], of consecutive k-mers.
      is_kmer: bool[batch, kmers]; what is no k-mer counts nowhere.
      k: k-mer length; base i is covered by the k-mers i - k + 1 to i, as far as there are such.

    Returns:
      float[batch, kmers + k - 1, channels]; 0 for bases that no k-mer covers.
    """
    counted = jnp.concatenate([jnp.where(is_kmer[..., None], values, 0), is_kmer[..., None]], axis=-1)
    padded = jnp.pad(counted, ((0, 0), (k - 1, k - 1), (0, 0)))
    bases = values.shape[1] + k - 1
    total = sum(padded[:, offset : offset + bases] for offset in range(k))
    return total[..., :-1] / jnp.maximum(total[..., -1:], 1)


def _is_kmer(segment_ids: jax.Array) -> jax.Array:
    """Whether each place but the first and the last of a row, [..., length], has a k-mer: bool[..., length - 2]."""
    return segment_ids[..., 2:] > 0  # the last token of a segment is [SEP], so a k-mer has another token behind it


def _encoded(encoder: Encoder, tokens, segment_ids, positions, deterministic: bool) -> jax.Array:
    """Hidden states, [..., length, hidden], of rows int32[..., length]."""
    flat = (x.reshape(-1, x.shape[-1]) for x in (tokens, segment_ids, positions))
    hidden = encoder(*flat, deterministic=deterministic)
    return hidden.reshape(*tokens.shape, -1)


def fine_tuned(config: ModelConfig, dropout: float = 0.0) -> SequenceClassifier | BaseClassifier:
    """The module of a model with a fine-tuned head.

    Args:
      config: its head is one of `config.Target`.
      dropout: rate before the last map, in training.
    """
    kind = BaseClassifier if config.head == "per_base" else SequenceClassifier
    return kind(config, dropout=dropout)


def initializer(config: ModelConfig) -> Callable[[jax.Array], Any]:
    """Random key → params of a model, boxed with their logical axes."""
    # Params do not depend on the kernel, and fused ones do not take one row on a mesh of several devices.
    config = dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, attention="xla"))
    row = jnp.zeros((1, config.encoder.max_length), jnp.int32)
    if config.head == "none":
        model, inputs = _BareEncoder(config.encoder), (row, row, row)
    elif config.head == "masked_lm":
        model, inputs = MaskedLanguageModel(config.encoder), (row, row, row, row[:, :1])
    else:
        model, inputs = fine_tuned(config), (row, row, row)
    return lambda key: model.init(key, *inputs, deterministic=True)["params"]


class _BareEncoder(nn.Module):
    """Keeps the encoder's params under the key `encoder`, as every model with a head does."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, *row: jax.Array, deterministic: bool) -> jax.Array:
        return Encoder(self.config, name="encoder")(*row, deterministic=deterministic)


def predictions(logits: jax.Array, head: str) -> jax.Array:
    """What logits, float[..., outputs], say: probabilities that sum to 1, or one each, or for regression numbers."""
    if head == "regression":
        return logits
    return jax.nn.sigmoid(logits) if head == "multi_label" else jax.nn.softmax(logits)


def predictor(config: ModelConfig) -> Callable[[Any, dict[str, jax.Array]], jax.Array]:
    """A jitted function (params, batch) → predictions of a fine-tuned model, float32; dropout is off.

    The batch has `tokens`, `segment_ids` and `positions` as the module takes them; other entries are left alone.
    """
    model = fine_tuned(config)

    @functools.partial(jax.jit, compiler_options=compiler.options(config.encoder.compute_dtype))
    def predict(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
        inputs = (batch["tokens"], batch["segment_ids"], batch["positions"])
        return predictions(model.apply({"params": params}, *inputs, deterministic=True), config.head)

    return predict
