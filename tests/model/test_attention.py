"""Attention against a loop over queries, a packed row against its segments alone, and the choice of kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax import sharding
from dnabert_jax.config import MeshConfig
from dnabert_jax.errors import InputError
from dnabert_jax.model import attention as module
from dnabert_jax.model.attention import attention, choose_kernel

LENGTHS = (11, 7, 9)
LENGTH = 32


def packed() -> tuple[jax.Array, jax.Array]:
    qkv = jax.random.normal(jax.random.key(0), (1, LENGTH, 3, 2, 8))
    ids = np.zeros((1, LENGTH), np.int32)
    at = 0
    for number, length in enumerate(LENGTHS, start=1):
        ids[0, at : at + length] = number
        at += length
    return qkv, jnp.asarray(ids)


def slow(qkv: np.ndarray, ids: np.ndarray) -> np.ndarray:
    out = np.zeros(qkv.shape[:2] + qkv.shape[3:])
    for row, head, place in np.ndindex(qkv.shape[0], qkv.shape[3], qkv.shape[1]):
        seen = [other for other in range(qkv.shape[1]) if ids[row, other] == ids[row, place]]
        scores = np.array([qkv[row, place, 0, head] @ qkv[row, other, 1, head] for other in seen])
        weights = np.exp(scores / np.sqrt(qkv.shape[-1]))
        out[row, place, head] = sum(w * qkv[row, other, 2, head] for w, other in zip(weights / weights.sum(), seen))
    return out


def test_attention_is_the_slow_loop():
    qkv, ids = packed()
    np.testing.assert_allclose(attention(qkv, ids), slow(np.asarray(qkv), np.asarray(ids)), atol=1e-5)


def test_a_packed_row_is_its_segments_alone_in_outputs_and_gradients():
    qkv, ids = packed()
    weight = jax.random.normal(jax.random.key(1), (1, LENGTH, 2, 8))

    def loss(qkv, ids, weight):
        return jnp.sum(attention(qkv, ids) * weight)

    together, at = jax.grad(loss)(qkv, ids, weight), 0
    for length in LENGTHS:
        place = slice(at, at + length)
        own = jnp.ones((1, length), jnp.int32)
        np.testing.assert_allclose(attention(qkv[:, place], own), attention(qkv, ids)[:, place], atol=1e-5)
        alone = jax.grad(loss)(qkv[:, place], own, weight[:, place])
        np.testing.assert_allclose(together[:, place], alone, atol=1e-5)
        at += length


def test_the_fused_gpu_kernel_honours_segments():
    qkv = jax.random.normal(jax.random.key(0), (1, 128, 3, 1, 16))
    ids = jnp.asarray(np.repeat([1, 2, 0], [50, 60, 18])[None])
    fused = module._pallas(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], ids, "gpu", interpret=True)
    np.testing.assert_allclose(fused[:, :110], attention(qkv, ids)[:, :110], atol=1e-4)


def test_dropped_probabilities_keep_their_mean():
    qkv, ids = packed()
    keys = jax.random.split(jax.random.key(2), 2000)
    drop = jax.vmap(lambda key: attention(qkv, ids, dropout_rate=0.3, dropout_key=key))
    outs = drop(keys)
    assert float(jnp.std(outs, axis=0).max()) > 0.05
    np.testing.assert_allclose(outs.mean(0), attention(qkv, ids), atol=0.12)


def test_the_fused_kernel_runs_on_each_part_of_a_mesh():
    qkv = jax.random.normal(jax.random.key(0), (2, 128, 3, 2, 16))
    ids = jnp.ones((2, 128), jnp.int32)
    with sharding.use(sharding.make_mesh(MeshConfig(), jax.devices()[:1])):
        fused = jax.jit(lambda qkv: module._pallas(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], ids, "gpu", True))(qkv)
    np.testing.assert_allclose(fused, attention(qkv, ids), atol=1e-4)


@pytest.mark.parametrize(
    ("kernel", "backend", "dtype", "length", "head_dim", "drops", "chosen"),
    [
        ("auto", "cpu", jnp.bfloat16, 512, 64, False, "xla"),
        ("auto", "gpu", jnp.bfloat16, 512, 64, False, "cudnn"),
        ("auto", "gpu", jnp.bfloat16, 512, 64, True, "xla"),
        ("auto", "gpu", jnp.float32, 512, 64, False, "xla"),
        ("auto", "tpu", jnp.bfloat16, 512, 64, False, "pallas"),
        ("auto", "tpu", jnp.bfloat16, 100, 64, False, "xla"),
        ("auto", "gpu", jnp.bfloat16, 512, 20, False, "xla"),
        ("auto", "gpu", jnp.bfloat16, 512, 256, False, "xla"),
        ("xla", "tpu", jnp.bfloat16, 512, 64, True, "xla"),
        ("pallas", "gpu", jnp.float32, 256, 64, False, "pallas"),
    ],
)
def test_the_kernel_that_is_chosen(kernel, backend, dtype, length, head_dim, drops, chosen):
    assert choose_kernel(kernel, backend, jnp.dtype(dtype), length, head_dim, drops) == chosen


@pytest.mark.parametrize(
    ("kernel", "backend", "dtype", "length", "drops", "said"),
    [
        ("cudnn", "gpu", jnp.bfloat16, 512, True, "attention_dropout 0"),
        ("cudnn", "cpu", jnp.bfloat16, 512, False, "on a GPU"),
        ("cudnn", "gpu", jnp.float32, 512, False, "bfloat16"),
        ("pallas", "cpu", jnp.bfloat16, 512, False, "TPU or a GPU"),
        ("pallas", "tpu", jnp.bfloat16, 100, False, "multiple of 128"),
    ],
)
def test_kernels_that_cannot_run_are_refused(kernel, backend, dtype, length, drops, said):
    with pytest.raises(InputError, match=said):
        choose_kernel(kernel, backend, jnp.dtype(dtype), length, 64, drops)
