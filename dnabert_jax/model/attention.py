"""Self-attention within segments, by XLA or by the accelerator's fused kernel: one function for all of them.

Tokens attend to the tokens of their own segment, in both directions. Padding has segment id 0 and attends to padding,
which keeps every softmax defined; nobody reads what comes out there.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnabert_jax.errors import InputError
from dnabert_jax.model.dropout import dropout


def attention(
    qkv: jax.Array,
    segment_ids: jax.Array,
    *,
    kernel: str = "xla",
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) that honours segment ids.

    Args:
      qkv: float[batch, length, 3, heads, head_dim], queries, keys and values.
      segment_ids: int32[batch, length]; 0 is padding.
      kernel: `xla`, `cudnn` (GPU, bfloat16), `pallas` (TPU and GPU flash attention), or `auto`.
      dropout_rate: dropout on the attention probabilities; only `xla` has it.
      dropout_key: random key; None means no dropout, as at evaluation.

    Returns:
      float[batch, length, heads, head_dim].

    Raises:
      InputError: the kernel was asked for by name and cannot run here or cannot drop probabilities.
    """
    drops = dropout_key is not None and dropout_rate > 0
    kernel = choose_kernel(kernel, jax.default_backend(), qkv.dtype, qkv.shape[1], qkv.shape[-1], drops)
    query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    if kernel == "cudnn":
        return jax.nn.dot_product_attention(
            query, key, value, mask=_same_segment(segment_ids)[:, None], implementation="cudnn"
        )
    if kernel == "pallas":
        return _pallas(query, key, value, segment_ids, jax.default_backend())
    return _xla(query, key, value, segment_ids, dropout_rate if drops else 0.0, dropout_key)


def choose_kernel(kernel: str, backend: str, dtype: jnp.dtype, length: int, head_dim: int, drops: bool) -> str:
    """The kernel that `attention` runs for these static facts: `xla`, `cudnn` or `pallas`.

    Raises:
      InputError: a fused kernel was named that cannot run them.
    """
    if kernel == "auto":
        if backend == "gpu" and dtype == jnp.bfloat16 and not drops and head_dim % 8 == 0 and head_dim <= 128:
            return "cudnn"
        if backend == "tpu" and length % 128 == 0 and not drops:
            return "pallas"
        return "xla"
    if kernel == "xla":
        return kernel
    if drops:
        raise InputError(
            f"encoder.attention is {kernel!r}, a fused kernel, which cannot drop attention probabilities; "
            "expected encoder.attention_dropout 0, or attention 'xla' or 'auto'"
        )
    if kernel == "cudnn" and (backend != "gpu" or dtype not in (jnp.bfloat16, jnp.float16)):
        raise InputError(f"encoder.attention 'cudnn' runs in bfloat16 on a GPU; this is {dtype} on {backend}")
    if kernel == "pallas" and backend not in ("tpu", "gpu"):
        raise InputError(f"encoder.attention 'pallas' runs on a TPU or a GPU; this is {backend}")
    if kernel == "pallas" and length % 128:
        raise InputError(f"encoder.attention 'pallas' takes rows of a multiple of 128 tokens; this row has {length}")
    return kernel


def _same_segment(segment_ids: jax.Array) -> jax.Array:
    """bool[batch, query, key]."""
    return segment_ids[:, :, None] == segment_ids[:, None, :]


def _xla(query, key, value, segment_ids, dropout_rate, dropout_key):
    scores = jnp.einsum("bqhd,bkhd->bhqk", query * query.shape[-1] ** -0.5, key, preferred_element_type=jnp.float32)
    scores = jnp.where(_same_segment(segment_ids)[:, None], scores, jnp.finfo(jnp.float32).min)
    probabilities = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    if dropout_rate:
        probabilities = dropout(probabilities, dropout_rate, dropout_key)
    return jnp.einsum("bhqk,bkhd->bqhd", probabilities, value)


def _pallas(query, key, value, segment_ids, backend, interpret: bool = False):
    """The kernel on each device's rows and heads: XLA cannot split a Pallas kernel by itself."""

    def local(query, key, value, segment_ids):
        return _pallas_on_one_device(query, key, value, segment_ids, backend, interpret)

    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return local(query, key, value, segment_ids)
    heads = nn.logical_to_mesh_axes(("batch", None, "heads", None))
    whole = nn.logical_to_mesh_axes(("batch", None))
    # The kernel does not say how its output varies over the mesh, so this is not checked.
    split = jax.shard_map(local, in_specs=(heads, heads, heads, whole), out_specs=heads, check_vma=False)
    return split(query, key, value, segment_ids)


def _pallas_on_one_device(query, key, value, segment_ids, backend, interpret):
    scale = query.shape[-1] ** -0.5
    if backend == "tpu":
        from jax.experimental.pallas.ops.tpu import flash_attention as tpu

        query, key, value = (x.transpose(0, 2, 1, 3) for x in (query, key, value))
        ids = tpu.SegmentIds(segment_ids, segment_ids)
        return tpu.flash_attention(query, key, value, segment_ids=ids, sm_scale=scale).transpose(0, 2, 1, 3)
    from jax.experimental.pallas.ops.gpu import attention as gpu

    return gpu.mha(query, key, value, segment_ids, sm_scale=scale, interpret=interpret)
