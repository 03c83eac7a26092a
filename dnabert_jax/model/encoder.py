"""BERT's encoder as DNABERT uses it: embeddings and post-layer-norm Transformer blocks (Devlin et al. 2019).

Tokens know their place from BERT's learned table or, as an option, from the rotation of queries and keys.

Flax Linen, and pure: `init` gives a params pytree, `apply` is a function of it. The layers' params are stacked along a
leading `layers` axis whether they run scanned or unrolled, so a checkpoint does not know which was chosen.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnabert_jax.config import EncoderConfig
from dnabert_jax.model import rotary
from dnabert_jax.model.attention import attention
from dnabert_jax.model.dense import Dense, layer_norm
from dnabert_jax.model.dropout import dropout
from dnabert_jax.model.gathered import gathered

ACTIVATIONS = ("batch", "length", "hidden_states")
"""Logical axes of the hidden states."""

_REMAT_POLICIES = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots_saveable": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def _drop(module: nn.Module, x: jax.Array, rate: float, deterministic: bool) -> jax.Array:
    return x if deterministic or rate == 0.0 else dropout(x, rate, module.make_rng("dropout"))


class Embeddings(nn.Module):
    """The sum of token, position (unless rotary) and type embeddings, then LayerNorm and dropout."""

    config: EncoderConfig

    def setup(self) -> None:
        config = self.config
        normal = nn.initializers.normal(config.initializer_range)

        def table(name: str, rows: int, axis: str | None) -> jax.Array:
            axes = (axis, "hidden_of_table")
            found = self.param(name, nn.with_logical_partitioning(normal, axes), (rows, config.hidden), jnp.float32)
            return gathered(found, axes)

        self.token = table("token", config.vocabulary_size, "vocabulary")
        if config.positions == "learned":
            self.position = table("position", config.max_length, None)
        self.type = table("type", config.type_vocabulary, None)
        self.layer_norm = layer_norm(config.layer_norm_epsilon, jnp.dtype(config.compute_dtype), None)

    def __call__(self, tokens: jax.Array, positions: jax.Array, deterministic: bool) -> jax.Array:
        x = nn.with_logical_constraint(self.token[tokens], ACTIVATIONS)
        if self.config.positions == "learned":
            x = x + self.position[positions]
        x = x + self.type[0]
        return _drop(self, self.layer_norm(x), self.config.hidden_dropout, deterministic)


class Attention(nn.Module):
    """Multi-head self-attention with one matrix product for queries, keys and values."""

    config: EncoderConfig

    @nn.compact
    def __call__(
        self, x: jax.Array, segment_ids: jax.Array, rotation: rotary.Rotation | None, deterministic: bool
    ) -> jax.Array:
        config = self.config
        dtype = jnp.dtype(config.compute_dtype)
        head_dim = config.hidden // config.heads
        qkv = Dense(
            (3, config.heads, head_dim),
            ("hidden", None, "heads", None),
            config.initializer_range,
            dtype,
            name="qkv",
        )(x)
        if rotation is not None:
            qkv = jnp.concatenate([rotary.rotate(qkv[:, :, :2], rotation), qkv[:, :, 2:]], axis=2)
        drops = not deterministic and config.attention_dropout > 0
        out = attention(
            qkv,
            segment_ids,
            kernel=config.attention,
            dropout_rate=config.attention_dropout,
            dropout_key=self.make_rng("dropout") if drops else None,
            trains=not deterministic,
        )
        return Dense((config.hidden,), ("heads", None, "hidden"), config.initializer_range, dtype, name="output")(out)


class FeedForward(nn.Module):
    """Two affine maps with the exact GELU between them."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        config = self.config
        dtype = jnp.dtype(config.compute_dtype)
        x = Dense((config.intermediate,), ("hidden", "mlp"), config.initializer_range, dtype, name="up")(x)
        x = nn.gelu(x, approximate=False)
        return Dense((config.hidden,), ("mlp", "hidden"), config.initializer_range, dtype, name="down")(x)


class Layer(nn.Module):
    """One block: each half is added to its input and normalised after (post-layer-norm)."""

    config: EncoderConfig
    deterministic: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, segment_ids: jax.Array, rotation: rotary.Rotation | None
    ) -> tuple[jax.Array, None]:
        config = self.config
        dtype = jnp.dtype(config.compute_dtype)
        attended = Attention(config, name="attention")(x, segment_ids, rotation, self.deterministic)
        attended = _drop(self, attended, config.hidden_dropout, self.deterministic)
        x = layer_norm(config.layer_norm_epsilon, dtype, "attention_layer_norm")(x + attended)
        fed = FeedForward(config, name="mlp")(x)
        fed = _drop(self, fed, config.hidden_dropout, self.deterministic)
        x = layer_norm(config.layer_norm_epsilon, dtype, "mlp_layer_norm")(x + fed)
        return nn.with_logical_constraint(x, ACTIVATIONS), None


class Encoder(nn.Module):
    """Tokens to hidden states.

    Attributes:
      config: shape and behaviour.
    """

    config: EncoderConfig

    def setup(self) -> None:
        self.embeddings = Embeddings(self.config)

    @nn.compact
    def __call__(
        self, tokens: jax.Array, segment_ids: jax.Array, positions: jax.Array, *, deterministic: bool
    ) -> jax.Array:
        """Encodes rows of one or more segments.

        Args:
          tokens: int32[batch, length] of token ids.
          segment_ids: int32[batch, length]; tokens see only their own segment; 0 is padding.
          positions: int32[batch, length], each token's place in its segment; below `config.max_length` where they
            are learned.
          deterministic: True switches dropout off; False draws from the `dropout` rng.

        Returns:
          hidden states, compute_dtype[batch, length, hidden].
        """
        config = self.config
        x = nn.with_logical_constraint(self.embeddings(tokens, positions, deterministic), ACTIVATIONS)
        layer = Layer
        if config.remat != "none":
            layer = nn.remat(Layer, policy=_REMAT_POLICIES[config.remat], prevent_cse=not config.scan_layers)
        layers = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=config.layers,
            unroll=1 if config.scan_layers else config.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        rotation = None
        if config.positions == "rotary":
            rotation = rotary.rotation(positions, config.hidden // config.heads, config.rotary_base)
        x, _ = layers(config, deterministic, name="layers")(x, segment_ids, rotation)
        return x

    def token_table(self) -> jax.Array:
        """float32[vocabulary, hidden]: the token embeddings, which the masked-LM decoder shares."""
        return self.embeddings.token
