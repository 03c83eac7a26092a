"""Self-attention within segments, by XLA or by the accelerator's fused kernel: one function for all of them.

Tokens attend to the tokens of their own segment, in both directions. Padding has segment id 0 and attends to padding,
which keeps every softmax defined; nobody reads what comes out there. `attention_check` holds every kernel to that.

How a kernel is told the segments: `xla` and `cudnn` by a mask of length × length; `cudnn_offsets`, `tokamax` and
`tokamax_triton` by where each segment begins and ends, so that blocks of other segments' keys need not be read (the
last one's backward pass makes the mask all the same); `pallas` by the ids.
"""

import inspect

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
    trains: bool = False,
) -> jax.Array:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) that honours segment ids.

    Args:
      qkv: float[batch, length, 3, heads, head_dim], queries, keys and values.
      segment_ids: int32[batch, length]; 0 is padding.
      kernel: `xla`; `cudnn` and `cudnn_offsets` (cuDNN, bfloat16; the latter from Hopper on, and for at most `RUNS`
        runs of one id in a row: a row with more becomes NaN); `tokamax` (its Mosaic kernel, bfloat16, from Hopper on);
        `tokamax_triton` (GPU); `pallas` (JAX's own flash attention for TPU and GPU); or `auto`.
      dropout_rate: dropout on the attention probabilities; only `xla` has it.
      dropout_key: random key; None means no dropout, as at evaluation.
      trains: whether reverse-mode gradients are all that will be asked for. Fused kernels have no others; `xla` without
        dropout then computes them in fewer passes over the scores.

    Returns:
      float[batch, length, heads, head_dim].

    Raises:
      InputError: the kernel was asked for by name and cannot run here, is not installed, or cannot drop probabilities.
    """
    drops = dropout_key is not None and dropout_rate > 0
    kernel = choose_kernel(kernel, jax.default_backend(), qkv.dtype, qkv.shape[1], qkv.shape[-1], drops)
    query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    if kernel == "cudnn":
        return jax.nn.dot_product_attention(
            query, key, value, mask=_same_segment(segment_ids)[:, None], implementation="cudnn"
        )
    if kernel in _KERNELS_BY_DEVICE:
        return _on_each_device(_KERNELS_BY_DEVICE[kernel], query, key, value, segment_ids)
    if drops:
        return _by_xla(query, key, value, segment_ids, dropout_rate, dropout_key)
    return _xla(query, key, value, segment_ids, _attend_in_training if trains else _by_xla)


def choose_kernel(kernel: str, backend: str, dtype: jnp.dtype, length: int, head_dim: int, drops: bool) -> str:
    """The kernel that `attention` runs for these static facts; never `auto`.

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
    if kernel in ("cudnn", "cudnn_offsets", "tokamax") and (backend != "gpu" or dtype != jnp.bfloat16):
        raise InputError(f"encoder.attention {kernel!r} runs in bfloat16 on a GPU; this is {dtype} on {backend}")
    if kernel in ("cudnn", "cudnn_offsets") and (head_dim % 8 or head_dim > 256):
        raise InputError(
            f"encoder.attention {kernel!r} takes hidden / heads of a multiple of 8, at most 256; this is {head_dim}"
        )
    if kernel == "cudnn" and length % 2:
        raise InputError(f"encoder.attention 'cudnn' takes rows of an even number of tokens; this row has {length}")
    if kernel == "tokamax_triton" and backend != "gpu":
        raise InputError(f"encoder.attention 'tokamax_triton' runs on a GPU; this is {backend}")
    if kernel == "pallas" and backend not in ("tpu", "gpu"):
        raise InputError(f"encoder.attention 'pallas' runs on a TPU or a GPU; this is {backend}")
    if kernel == "pallas" and length % 128:
        raise InputError(f"encoder.attention 'pallas' takes rows of a multiple of 128 tokens; this row has {length}")
    return kernel


def _same_segment(segment_ids: jax.Array) -> jax.Array:
    """bool[batch, query, key]."""
    return segment_ids[:, :, None] == segment_ids[:, None, :]


_CACHED_SCORES = 2**20
"""Scores of a row from which on rows are computed one after another on a CPU, whose cache holds one and not all."""
_MOST_PARTS = 16
"""Parts that a batch is computed in, at most: each is compiled by itself."""


def _xla(query, key, value, segment_ids, attend):
    rows, length, heads, _ = query.shape
    # A batch on several devices is split already.
    if jax.default_backend() != "cpu" or jax.sharding.get_abstract_mesh().size > 1:
        return attend(query, key, value, segment_ids)
    parts = min(rows, _MOST_PARTS) if heads * length**2 >= _CACHED_SCORES else 1
    pieces = zip(*(jnp.array_split(x, parts) for x in (query, key, value, segment_ids)), strict=True)
    return jnp.concatenate([attend(*piece) for piece in pieces])


def _by_xla(query, key, value, segment_ids, dropout_rate=0.0, dropout_key=None):
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    probabilities = _probabilities(query, key, segment_ids).astype(value.dtype)
    if dropout_rate:
        probabilities = dropout(probabilities, dropout_rate, dropout_key)
    return _weighted(probabilities, value).swapaxes(1, 2)


def _probabilities(query, key, segment_ids):
    """float32[batch, heads, query, key]."""
    query = query * query.shape[-1] ** -0.5
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=jnp.float32)
    return jax.nn.softmax(jnp.where(_same_segment(segment_ids)[:, None], scores, jnp.finfo(jnp.float32).min))


def _weighted(probabilities, value):
    return jnp.einsum("bhqk,bhkd->bhqd", probabilities, value)


@jax.custom_vjp
def _attend_in_training(query, key, value, segment_ids):
    """`_by_xla` with gradients by hand: they keep the probabilities once, in the type of the values, and take a row's
    sum over them from its output, which is as long as a head is wide (Dao et al. 2022, appendix B.2)."""
    return _by_xla(query, key, value, segment_ids)


def _attend_forward(query, key, value, segment_ids):
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    probabilities = _probabilities(query, key, segment_ids).astype(value.dtype)
    out = _weighted(probabilities, value)
    return out.swapaxes(1, 2), (query, key, value, probabilities, out)


def _attend_backward(kept, gradient):
    query, key, value, probabilities, out = kept
    gradient = gradient.swapaxes(1, 2)
    of_values = jnp.einsum("bhqk,bhqd->bhkd", probabilities, gradient)
    of_probabilities = jnp.einsum("bhqd,bhkd->bhqk", gradient, value, preferred_element_type=jnp.float32)
    mean = jnp.sum(gradient.astype(jnp.float32) * out.astype(jnp.float32), axis=-1, keepdims=True)
    of_scores = probabilities * (of_probabilities - mean) * query.shape[-1] ** -0.5
    of_scores = of_scores.astype(query.dtype)
    of_query = jnp.einsum("bhqk,bhkd->bhqd", of_scores, key)
    of_key = jnp.einsum("bhqk,bhqd->bhkd", of_scores, query)
    return *(x.swapaxes(1, 2) for x in (of_query, of_key, of_values)), None


_attend_in_training.defvjp(_attend_forward, _attend_backward)


def _on_each_device(kernel, query, key, value, segment_ids):
    """The kernel on each device's rows and heads: XLA cannot split a kernel that it did not make."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return kernel(query, key, value, segment_ids)
    heads = nn.logical_to_mesh_axes(("batch", None, "heads", None))
    whole = nn.logical_to_mesh_axes(("batch", None))
    # Kernels do not say how their outputs vary over the mesh, so this is not checked.
    split = jax.shard_map(kernel, in_specs=(heads, heads, heads, whole), out_specs=heads, check_vma=False)
    return split(query, key, value, segment_ids)


RUNS = 8
"""Runs of one segment id (segments, and padding) that `cudnn_offsets` takes in a row.

cuDNN starts work for that many in every row, however few there are, so a high number costs time. Rows of 512 tokens
with DNABERT's lengths, packed, have one to three segments."""


def _cudnn_offsets(query, key, value, segment_ids):
    """cuDNN's packed layout, in which each segment is a sequence of its own that begins somewhere in the row."""
    rows, length, heads, head_dim = query.shape
    if query.size >= 2**31:
        raise InputError(
            f"encoder.attention 'cudnn_offsets' counts elements in int32; expected less than 2**31 on a device, not "
            f"{rows} rows x {length} tokens x {heads} heads x {head_dim}"
        )
    offsets, lengths, fits = runs(segment_ids, RUNS)
    out = _cudnn_packed()(
        query,
        key,
        value,
        q_seqlen=lengths,
        kv_seqlen=lengths,
        q_offsets=jnp.pad(offsets, ((0, 0), (0, 1)), constant_values=-1),
        kv_offsets=jnp.pad(offsets, ((0, 0), (0, 1)), constant_values=-1),
        scale=head_dim**-0.5,
    )
    return jnp.where(fits[:, None, None, None], out, jnp.nan)


def _cudnn_packed():
    """The function of JAX that takes offsets. It is not public, so whether it is as in JAX 0.10 and 0.12 is checked.

    Raises:
      InputError: this version of JAX does not have it.
    """
    try:
        from jax._src.cudnn.fused_attention_stablehlo import dot_product_attention
    except ImportError:
        taken = set()
    else:
        taken = set(inspect.signature(dot_product_attention).parameters)
    if not {"q_seqlen", "kv_seqlen", "q_offsets", "kv_offsets", "scale"} <= taken:
        raise InputError(
            f"encoder.attention 'cudnn_offsets' needs a function inside JAX that JAX {jax.__version__} does not have; "
            "expected another kernel"
        )
    return dot_product_attention


def runs(segment_ids: jax.Array, most: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where the runs of equal ids in each row begin and how long they are.

    Args:
      segment_ids: int32[batch, length].
      most: runs that there is room for.

    Returns:
      offsets: int32[batch, most], first token of each run; -1 where there is none.
      lengths: int32[batch, most], tokens of each run; -1 where there is none.
      fits: bool[batch], whether the row has no more runs than that.
    """
    number = _run_numbers(segment_ids)
    lengths = jnp.sum(number[:, None, :] == jnp.arange(most)[None, :, None], axis=-1, dtype=jnp.int32)
    offsets = jnp.cumsum(lengths, axis=-1) - lengths
    there = lengths > 0
    return jnp.where(there, offsets, -1), jnp.where(there, lengths, -1), number[:, -1] < most


def _run_numbers(segment_ids: jax.Array) -> jax.Array:
    """int32[batch, length]: the number of each token's run, from 0."""
    begins = segment_ids[:, 1:] != segment_ids[:, :-1]
    return jnp.pad(jnp.cumsum(begins, axis=-1, dtype=jnp.int32), ((0, 0), (1, 0)))


def key_ranges(segment_ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The keys that each query sees, as the first one and the one behind the last: int32[batch, length] both."""
    number, place = _run_numbers(segment_ids), jnp.arange(segment_ids.shape[1], dtype=jnp.int32)
    begins = jnp.pad(number[:, 1:] != number[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    ends = jnp.pad(number[:, 1:] != number[:, :-1], ((0, 0), (0, 1)), constant_values=True)
    first = jax.lax.cummax(jnp.where(begins, place, 0), axis=1)
    behind = jax.lax.cummin(jnp.where(ends, place + 1, segment_ids.shape[1]), axis=1, reverse=True)
    return first, behind


def _tokamax(implementation: str):
    """One of tokamax's implementations, told for each query where its segment begins and ends.

    tokamax's public function takes a mask of length × length only, so this calls the one below it.
    """

    def run(query, key, value, segment_ids):
        try:
            from tokamax._src.ops.attention.api import IMPLEMENTATIONS
            from tokamax._src.ops.attention.base import Mask

            function = IMPLEMENTATIONS[implementation]
        except (ImportError, KeyError) as error:
            raise InputError(
                f"encoder.attention needs tokamax's {implementation!r} kernel ({error}); expected tokamax, which "
                "`pip install 'dnabert-jax[kernels]'` installs"
            ) from None
        first, behind = key_ranges(segment_ids)
        mask = Mask(k_start=first[:, None], k_end=behind[:, None])
        return function(query, key, value, mask=mask, logits_scale=query.shape[-1] ** -0.5)

    return run


def _pallas(query, key, value, segment_ids):
    return _pallas_on_one_device(query, key, value, segment_ids, jax.default_backend(), interpret=False)


def _pallas_on_one_device(query, key, value, segment_ids, backend, interpret):
    scale = query.shape[-1] ** -0.5
    if backend == "tpu":
        from jax.experimental.pallas.ops.tpu import flash_attention as tpu

        query, key, value = (x.transpose(0, 2, 1, 3) for x in (query, key, value))
        ids = tpu.SegmentIds(segment_ids, segment_ids)
        return tpu.flash_attention(query, key, value, segment_ids=ids, sm_scale=scale).transpose(0, 2, 1, 3)
    from jax.experimental.pallas.ops.gpu import attention as gpu

    return gpu.mha(query, key, value, segment_ids, sm_scale=scale, interpret=interpret)


_KERNELS_BY_DEVICE = {
    "cudnn_offsets": _cudnn_offsets,
    "tokamax": _tokamax("mosaic_gpu"),
    "tokamax_triton": _tokamax("triton"),
    "pallas": _pallas,
}
"""What runs on one device's rows and heads: (query, key, value, segment_ids) → out."""
