"""A model as one pure function, the thing to build on: params and tokens in; hidden states, pooled output, logits out.

Like every function of JAX it can be jitted, differentiated and mapped. What a caller does not use costs nothing under
`jax.jit`, where XLA leaves it out. Dropout is off; training with it goes through the modules in `heads`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dnabert_jax.config import ModelConfig
from dnabert_jax.model.encoder import Encoder
from dnabert_jax.model.heads import BaseClassifier, MaskedLanguageModelHead, SequenceClassifier


class Outputs(NamedTuple):
    """What a model makes of rows of tokens, int32[batch, length] or int32[batch, pieces, length].

    Attributes:
      hidden: compute_dtype[..., length, hidden], the states of the last layer.
      pooled: compute_dtype[..., hidden], the pooler's view of [CLS], or of the mean over k-mers; None where there is no
        pooler.
      logits: None without a head. Masked LM: float32[..., length, vocabulary]. Sequence heads: float32[batch, outputs],
        the pieces joined as the config says. Per base: float32[batch, bases, classes], the pieces one after another;
        bases that a row does not have are 0.
    """

    hidden: jax.Array
    pooled: jax.Array | None
    logits: jax.Array | None


def apply(config: ModelConfig, params: Any, batch: dict[str, jax.Array]) -> Outputs:
    """Computes what a model says about a batch.

    Args:
      config: of the model.
      params: pytree with `encoder` and what the head needs: `mlm_head`, or `pooler` and `classifier`.
      batch: `tokens`, `segment_ids` and `positions`, int32[batch, length] each. For sequence and per-base heads every
        row is one segment from [CLS] to [SEP], then padding with segment id 0; with int32[batch, pieces, length] a
        sequence has several of them, all full but its last, and pieces that it does not have are all padding. What
        else is in the batch is left alone.

    Raises:
      InputError: the config names an attention kernel that cannot run here.
    """
    params = jax.tree.map(jnp.asarray, params)  # NumPy's arrays cannot be indexed by what is traced
    tokens, segment_ids, positions = (batch[name] for name in ("tokens", "segment_ids", "positions"))
    rows = (x.reshape(-1, x.shape[-1]) for x in (tokens, segment_ids, positions))
    hidden = Encoder(config.encoder).apply({"params": params["encoder"]}, *rows, deterministic=True)
    hidden = hidden.reshape(*tokens.shape, -1)
    pooled = None
    if "pooler" in params:
        pooled = SequenceClassifier(config).apply({"params": params}, hidden, segment_ids, method="pool")
    return Outputs(hidden, pooled, _logits(config, params, hidden, pooled, segment_ids))


def _logits(config: ModelConfig, params: Any, hidden, pooled, segment_ids) -> jax.Array | None:
    if config.head == "none":
        return None
    if config.head == "masked_lm":
        head = MaskedLanguageModelHead(config.encoder)
        return head.apply({"params": params["mlm_head"]}, hidden, params["encoder"]["embeddings"]["token"])
    if config.head == "per_base":
        head = BaseClassifier(config)
        return head.apply({"params": params}, hidden, segment_ids, deterministic=True, method="base_logits")
    is_there = segment_ids[..., 0] > 0
    return SequenceClassifier(config).apply({"params": params}, pooled, is_there, method="classify")
