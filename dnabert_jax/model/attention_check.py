"""Whether an attention kernel keeps packed segments apart: outputs and gradients against each segment alone.

A fused kernel that ignores segment ids raises no error; the run only learns from sequences that look at each other. So
before a run takes such a kernel, and before `dnabert bench` times one, it computes a few packed rows of random numbers
of that run's shape. The truth is computed by NumPy in float64, one segment at a time, and shares no code with a kernel.

The error of an array is the largest over its tokens of ‖found - true‖ / (root mean square of ‖true‖ in the token's
segment), so that one query that sees one key too many stands out. Gradients that reach padding count too, and so does
anything that is not finite, wherever it is: a NaN in padding would be one in every param's gradient.
"""

import functools
import math
from dataclasses import dataclass
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np

from dnabert_jax.config import AttentionKernel, EncoderConfig
from dnabert_jax.errors import InputError
from dnabert_jax.model.attention import RUNS, attention, choose_kernel

TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}
"""Largest error by dtype. float32 is checked with products of float32's own precision: what an accelerator's faster
ones round off is not the kernel's doing. In bfloat16 probabilities and results are rounded to 8 bits."""


@dataclass(frozen=True)
class Agreement:
    """How a kernel's packed rows compare with their segments alone.

    Attributes:
      kernel: never `auto`.
      dtype: of queries, keys and values.
      output_error, gradient_error: as the module says; None where there is none, because the kernel failed or
        gradients were not asked for.
      tolerance: the largest error that passes.
      agrees: whether both are within it.
      failure: one line where the kernel did not run at all, otherwise empty.
    """

    kernel: str
    dtype: str
    output_error: float | None
    gradient_error: float | None
    tolerance: float
    agrees: bool
    failure: str = ""


def check(kernel: str, dtype: str, length: int, heads: int, head_dim: int, *, gradients: bool = True) -> Agreement:
    """Computes packed rows by a kernel, on the mesh in use where there is one, and compares them with the truth.

    Args:
      kernel: as `attention` takes it, but not `auto`.
      dtype: `float32` or `bfloat16`.
      length: tokens of a row, at least 16.
      heads, head_dim: of the queries.
      gradients: False leaves the backward pass out, which a model that is only read does not need.
    """
    qkv, cotangents, segment_ids = _inputs(length, heads, head_dim, dtype)
    tolerance = TOLERANCES[dtype]

    def both(qkv, cotangents, segment_ids):
        out, backward = jax.vjp(lambda qkv: attention(qkv, segment_ids, kernel=kernel, trains=True), qkv)
        return out, backward(cotangents)[0]

    def forward(qkv, cotangents, segment_ids):
        return attention(qkv, segment_ids, kernel=kernel), None

    whole = None if jax.sharding.get_abstract_mesh().empty else jax.sharding.PartitionSpec()
    program = jax.jit(both if gradients else forward, out_shardings=whole)
    try:
        with jax.default_matmul_precision("highest" if dtype == "float32" else None):
            found = jax.device_get(program(qkv, cotangents, segment_ids))
    except Exception as error:  # a kernel may fail in any way: while traced, compiled or run
        return Agreement(kernel, dtype, None, None, tolerance, False, _one_line(error))
    expected = _truth(*(np.asarray(x, np.float64) for x in (qkv, cotangents)), segment_ids)
    output = _error(found[0], expected[0], segment_ids)
    gradient = _error(found[1], expected[1], segment_ids, in_padding=True) if gradients else None
    return Agreement(kernel, dtype, output, gradient, tolerance, max(output, gradient or 0.0) <= tolerance)


@functools.cache
def _check_once(kernel: str, dtype: str, length: int, heads: int, head_dim: int, gradients: bool, rows: int):
    """`check`, once a process for everything that it depends on; `rows` stands for the mesh."""
    return check(kernel, dtype, length, heads, head_dim, gradients=gradients)


def require(encoder: EncoderConfig, length: int, *, trains: bool = True, segments: int = 1) -> None:
    """Checks the fused kernels that a run is about to take; where XLA computes attention there is nothing to do.

    Args:
      encoder: of the run.
      length: tokens of a row.
      trains: False where the model is only read, without dropout and gradients.
      segments: most segments in a row of the run.

    Raises:
      InputError: a kernel was named that cannot run here, or the kernel that would run fails, mixes segments, or takes
        fewer segments in a row.
    """
    heads, head_dim = encoder.heads, encoder.hidden // encoder.heads
    facts = (encoder.attention, jax.default_backend(), jnp.dtype(encoder.compute_dtype), length, head_dim)
    gradients = {choose_kernel(*facts, False): False}
    if trains:
        gradients[choose_kernel(*facts, encoder.attention_dropout > 0)] = True
    for kernel in gradients.keys() - {"xla"}:
        _require_room(kernel, segments)
        shape = (length, heads, head_dim)
        found = _check_once(kernel, encoder.compute_dtype, *shape, gradients[kernel], _rows())
        asked = f"encoder.attention {encoder.attention!r}"
        if encoder.attention != kernel:
            asked += f" (here {kernel!r})"
        if found.failure:
            raise InputError(
                f"{asked} does not run on {_device()}: {found.failure}; expected another one, such as 'xla'"
            )
        if not found.agrees:
            raise InputError(
                f"{asked} does not keep packed segments apart on {_device()}, in {found.dtype}, {length} tokens a row: "
                f"error {_shown(found.output_error)} in outputs and {_shown(found.gradient_error)} in gradients; "
                f"expected at most {found.tolerance:g}, as 'xla' has"
            )


def all_here(length: int, heads: int, head_dim: int) -> list[Agreement]:
    """Checks every kernel that the rules allow on this device, in float32 and in bfloat16.

    Those that fail all the same are among them, with the `failure`: such as one whose package is not installed.
    """
    found = []
    for dtype in TOLERANCES:
        for kernel in get_args(AttentionKernel):
            if kernel == "auto":
                continue
            try:
                choose_kernel(kernel, jax.default_backend(), jnp.dtype(dtype), length, head_dim, False)
            except InputError:
                continue
            found.append(check(kernel, dtype, length, heads, head_dim))
    return found


def _rows() -> int:
    """Rows of a check: a few of each layout, that the devices which share a batch can divide."""
    mesh = jax.sharding.get_abstract_mesh()
    shares = 1 if mesh.empty else mesh.shape["data"] * mesh.shape["fsdp"]
    return shares * math.ceil(_LAYOUTS / shares)


_LAYOUTS = 3
_SHARES = (0.13, 0.31, 0.07, 0.22, 0.11)
"""Lengths of a row's segments as shares of the row."""


def _layout(length: int, number: int) -> np.ndarray:
    """int32[length], the segment ids of a row: packed with padding, packed without, or one segment and padding."""
    odd = [max(7, int(share * length)) | 1 for share in _SHARES]
    lengths = (odd, odd[::-1], [int(0.4 * length) | 1])[number % _LAYOUTS]
    ids, at = np.zeros(length, np.int32), 0
    for segment, tokens in enumerate(lengths, start=1):
        if at + tokens > length:
            break
        ids[at : at + tokens] = segment
        at += tokens
    if number % _LAYOUTS == 1:
        ids[at:] = ids[at - 1] + 1
    return ids


def _inputs(length: int, heads: int, head_dim: int, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """qkv, the cotangents of the outputs (0 in padding, whose outputs nobody reads), and segment ids."""
    generator = np.random.default_rng(0)
    segment_ids = np.stack([_layout(length, number) for number in range(_rows())])
    shape = (*segment_ids.shape, 3, heads, head_dim)
    qkv = generator.standard_normal(shape, np.float32)
    # All scores of the second segment of a row are far below 0, down where exp(-score) leaves float32. A kernel that
    # fills the last block of keys with zeros and does not mask them well has infinities there, as one had.
    second = segment_ids == 2
    away = np.float32(math.sqrt(110 / math.sqrt(head_dim)))
    query, key = qkv[:, :, 0], qkv[:, :, 1]
    query[second] += away
    key[second] -= away + key[second].mean(-1, keepdims=True)  # the same for all keys, so that no softmax is sharper
    cotangents = generator.standard_normal((*segment_ids.shape, heads, head_dim), np.float32)
    cotangents[segment_ids == 0] = 0
    kind = jnp.dtype(dtype)
    return qkv.astype(kind), cotangents.astype(kind), segment_ids


def _truth(qkv: np.ndarray, cotangents: np.ndarray, segment_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and gradients, float64 in the shapes of `cotangents` and `qkv`; 0 in padding.

    With probabilities P = softmax(s q kᵀ) and outputs o = P v, the chain rule gives for the cotangents g of o:
    dv = Pᵀ g, dS = P ⊙ (g vᵀ - rowsum(g ⊙ o)), dq = s dS k, dk = s dSᵀ q.
    """
    outs, grads = np.zeros(cotangents.shape), np.zeros(qkv.shape)
    scale = qkv.shape[-1] ** -0.5
    for row, ids in enumerate(segment_ids):
        for segment in range(1, ids.max() + 1):
            here = ids == segment
            query, key, value = qkv[row, here].transpose(1, 2, 0, 3)  # [heads, tokens, head_dim] each
            given = cotangents[row, here].transpose(1, 0, 2)
            scores = scale * query @ key.transpose(0, 2, 1)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            out = weights @ value
            slopes = weights * (given @ value.transpose(0, 2, 1) - (given * out).sum(-1, keepdims=True))
            found = scale * slopes @ key, scale * slopes.transpose(0, 2, 1) @ query, weights.transpose(0, 2, 1) @ given
            outs[row, here] = out.transpose(1, 0, 2)
            grads[row, here] = np.stack(found).transpose(2, 0, 1, 3)
    return outs, grads


def _error(found: np.ndarray, expected: np.ndarray, segment_ids: np.ndarray, in_padding: bool = False) -> float:
    """The error as the module says; the larger one of queries', keys' and values' for the gradient."""
    found = np.asarray(found, np.float64)
    if not np.isfinite(found).all():
        return math.inf
    parts = 3 if found.ndim == 5 else 1
    shape = (*segment_ids.shape, parts, -1)
    off = np.linalg.norm((found - expected).reshape(shape), axis=-1)
    sizes = np.linalg.norm(expected.reshape(shape), axis=-1)
    largest = 0.0
    for row, ids in enumerate(segment_ids):
        for segment in range(0 if in_padding else 1, ids.max() + 1):
            here = ids == segment
            if not here.any():
                continue
            size = np.sqrt(np.mean(sizes[row, here if segment else ids > 0] ** 2, axis=0))
            largest = max(largest, float((off[row, here] / size).max()))
    return largest


def _device() -> str:
    return jax.devices()[0].device_kind


def _shown(error: float | None) -> str:
    return "none" if error is None else f"{error:.2g}"


def _one_line(error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"[:300].rstrip(".;: ")


def _require_room(kernel: str, segments: int) -> None:
    if kernel == "cudnn_offsets" and segments >= RUNS:
        raise InputError(
            f"encoder.attention 'cudnn_offsets' takes rows of at most {RUNS - 1} segments; one of these rows has "
            f"{segments}; expected another kernel, or longer segments (data.min_kmers)"
        )
