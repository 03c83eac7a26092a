"""Attention against a loop over queries, a packed row against its segments alone, and the choice of kernel."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax import sharding
from dnabert_jax.config import MeshConfig
from dnabert_jax.errors import InputError
from dnabert_jax.model import attention as module
from dnabert_jax.model import attention_check
from dnabert_jax.model.attention import attention, choose_kernel

attend = jax.jit(attention)

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
    np.testing.assert_allclose(attend(qkv, ids), slow(np.asarray(qkv), np.asarray(ids)), atol=1e-5)


def test_rows_one_after_another_are_the_slow_loop(monkeypatch):
    monkeypatch.setattr(module, "_CACHED_SCORES", 0)
    qkv = jax.random.normal(jax.random.key(0), (19, 6, 3, 2, 8))
    ids = np.sort(np.random.default_rng(0).integers(0, 3, (19, 6)))
    np.testing.assert_allclose(jax.jit(lambda *x: attention(*x))(qkv, ids), slow(np.asarray(qkv), ids), atol=1e-5)


def test_a_packed_row_is_its_segments_alone_in_outputs_and_gradients():
    qkv, ids = packed()
    weight = jax.random.normal(jax.random.key(1), (1, LENGTH, 2, 8))

    def loss(qkv, ids, weight):
        return jnp.sum(attention(qkv, ids) * weight)

    gradient = jax.jit(jax.grad(loss))
    together, at = gradient(qkv, ids, weight), 0
    for length in LENGTHS:
        place = slice(at, at + length)
        own = jnp.ones((1, length), jnp.int32)
        np.testing.assert_allclose(attend(qkv[:, place], own), attend(qkv, ids)[:, place], atol=1e-5)
        alone = gradient(qkv[:, place], own, weight[:, place])
        np.testing.assert_allclose(together[:, place], alone, atol=1e-5)
        at += length


@pytest.mark.parametrize("scores_in_cache", [0, 2**20])
def test_gradients_by_hand_are_those_of_autodiff(scores_in_cache, monkeypatch):
    monkeypatch.setattr(module, "_CACHED_SCORES", scores_in_cache)
    qkv, weight = (jax.random.normal(jax.random.key(n), (3, 10, *shape)) for n, shape in ((0, (3, 2, 8)), (1, (2, 8))))
    ids = np.sort(np.random.default_rng(0).integers(0, 3, (3, 10)))

    def gradients(trains):
        return jax.jit(jax.grad(lambda qkv: jnp.sum(attention(qkv, ids, trains=trains) * weight)))(qkv)

    np.testing.assert_allclose(gradients(True), gradients(False), atol=1e-5)


def test_the_fused_gpu_kernel_honours_segments():
    qkv = jax.random.normal(jax.random.key(0), (1, 128, 3, 1, 16))
    ids = jnp.asarray(np.repeat([1, 2, 0], [50, 60, 18])[None])
    fused = module._pallas_on_one_device(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], ids, "gpu", interpret=True)
    np.testing.assert_allclose(fused[:, :110], attend(qkv, ids)[:, :110], atol=1e-4)


def test_dropped_probabilities_keep_their_mean():
    qkv, ids = packed()
    keys = jax.random.split(jax.random.key(2), 2000)
    drop = jax.jit(jax.vmap(lambda key: attention(qkv, ids, dropout_rate=0.3, dropout_key=key)))
    outs = drop(keys)
    assert float(jnp.std(outs, axis=0).max()) > 0.05
    np.testing.assert_allclose(outs.mean(0), attend(qkv, ids), atol=0.12)


def test_the_fused_gpu_kernel_passes_the_check_on_each_part_of_a_mesh(monkeypatch):
    kernel = functools.partial(module._pallas_on_one_device, backend="gpu", interpret=True)
    monkeypatch.setitem(module._KERNELS_BY_DEVICE, "pallas", kernel)
    monkeypatch.setattr(module, "choose_kernel", lambda *facts: "pallas")
    with sharding.use(sharding.make_mesh(MeshConfig(), jax.devices()[:1])):
        found = attention_check.check("pallas", "float32", 128, 1, 16)
    assert found.agrees, found


def runs_by_hand(ids: np.ndarray) -> list[tuple[int, int]]:
    """First token and number of tokens of each run of one id."""
    found = [[0, 0]]
    for place, each in enumerate(ids):
        if place and each != ids[place - 1]:
            found.append([place, 0])
        found[-1][1] += 1
    return [tuple(run) for run in found]


def test_runs_of_one_id():
    ids = np.random.default_rng(0).integers(0, 3, (200, 8)).repeat(3, axis=1)[:, :20].astype(np.int32)
    ids[0] = 0
    offsets, lengths, fits = map(np.asarray, jax.jit(module.runs, static_argnums=1)(ids, 5))
    first, behind = map(np.asarray, jax.jit(module.key_ranges)(ids))
    assert 20 < fits.sum() < 180
    for row, each in enumerate(ids):
        expected = runs_by_hand(each)
        assert fits[row] == (len(expected) <= 5)
        kept = (expected + 5 * [(-1, -1)])[:5]
        assert list(zip(offsets[row], lengths[row])) == kept
        for begin, count in expected:
            assert (first[row, begin : begin + count] == begin).all()
            assert (behind[row, begin : begin + count] == begin + count).all()


def packed_by_hand(query, key, value, *, q_seqlen, kv_seqlen, q_offsets, kv_offsets, scale):
    """What the comments of JAX's cuDNN function say that it does with offsets and lengths; -1 is no segment."""
    place = jnp.arange(query.shape[1])

    def within(offsets, lengths):  # bool[batch, segment, token]
        begin, end = offsets[:, :-1, None], offsets[:, :-1, None] + lengths[..., None]
        return (begin >= 0) & (place >= begin) & (place < end)

    of_query, of_key = within(q_offsets, q_seqlen), within(kv_offsets, kv_seqlen)
    sees = jnp.einsum("bsq,bsk->bqk", of_query.astype(int), of_key.astype(int)) > 0
    scores = scale * jnp.einsum("bqhd,bkhd->bhqk", query, key)
    weights = jax.nn.softmax(jnp.where(sees[:, None], scores, -1e30), axis=-1)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


@pytest.fixture
def cudnn_offsets(monkeypatch):
    monkeypatch.setattr(module, "_cudnn_packed", lambda: packed_by_hand)
    monkeypatch.setattr(module, "choose_kernel", lambda *facts: "cudnn_offsets")


def test_cudnn_is_given_the_segments_as_it_takes_them(cudnn_offsets):
    found = attention_check.check("cudnn_offsets", "float32", 64, 2, 16)
    assert found.agrees, found


def test_a_row_of_more_segments_than_cudnn_is_told_of_is_not_a_number(cudnn_offsets):
    qkv = jax.random.normal(jax.random.key(0), (2, 32, 3, 1, 8))
    ids = np.zeros((2, 32), np.int32)
    ids[0] = np.arange(32) // 4 + 1
    ids[1] = np.arange(32) // 3 + 1
    out = jax.jit(attention)(qkv, ids)
    np.testing.assert_allclose(out[0], slow(np.asarray(qkv[:1]), ids[:1])[0], atol=1e-5)
    assert jnp.isnan(out[1]).all()


def test_the_function_inside_jax_that_takes_offsets():
    assert callable(module._cudnn_packed())


def test_a_version_of_jax_without_it(monkeypatch):
    monkeypatch.setattr(
        "jax._src.cudnn.fused_attention_stablehlo.dot_product_attention", lambda query, key, value: query
    )
    with pytest.raises(InputError, match=r"'cudnn_offsets' needs a function inside JAX that JAX .* does not have"):
        module._cudnn_packed()


@pytest.mark.parametrize("implementation", ["xla", "xla_chunked"])
def test_tokamax_is_given_the_segments_as_it_takes_them(implementation, monkeypatch):
    pytest.importorskip("tokamax", reason="an optional package, for Python 3.12 on: pip install 'dnabert-jax[kernels]'")
    monkeypatch.setitem(module._KERNELS_BY_DEVICE, "tokamax", module._tokamax(implementation))
    monkeypatch.setattr(module, "choose_kernel", lambda *facts: "tokamax")
    with sharding.use(sharding.make_mesh(MeshConfig(), jax.devices()[:1])):
        found = attention_check.check("tokamax", "float32", 64, 2, 16)
    assert found.agrees, found


def test_tokamax_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokamax._src.ops.attention.api", None)
    qkv, ids = packed()
    with pytest.raises(InputError, match=r"tokamax's 'triton' kernel .*; expected tokamax, which `pip install"):
        module._tokamax("triton")(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], ids)


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
        ("cudnn", "gpu", jnp.bfloat16, 512, 256, False, "cudnn"),
        ("cudnn_offsets", "gpu", jnp.bfloat16, 511, 64, False, "cudnn_offsets"),
        ("tokamax", "gpu", jnp.bfloat16, 500, 20, False, "tokamax"),
        ("tokamax_triton", "gpu", jnp.float32, 500, 20, False, "tokamax_triton"),
    ],
)
def test_the_kernel_that_is_chosen(kernel, backend, dtype, length, head_dim, drops, chosen):
    assert choose_kernel(kernel, backend, jnp.dtype(dtype), length, head_dim, drops) == chosen


@pytest.mark.parametrize(
    ("kernel", "backend", "dtype", "length", "head_dim", "drops", "said"),
    [
        ("cudnn", "gpu", jnp.bfloat16, 512, 64, True, "attention_dropout 0"),
        ("tokamax", "gpu", jnp.bfloat16, 512, 64, True, "attention_dropout 0"),
        ("cudnn", "cpu", jnp.bfloat16, 512, 64, False, "on a GPU"),
        ("cudnn", "gpu", jnp.float32, 512, 64, False, "bfloat16"),
        ("cudnn", "gpu", jnp.bfloat16, 511, 64, False, "an even number of tokens; this row has 511"),
        ("cudnn", "gpu", jnp.bfloat16, 512, 20, False, "a multiple of 8, at most 256; this is 20"),
        ("cudnn_offsets", "gpu", jnp.bfloat16, 512, 264, False, "a multiple of 8, at most 256; this is 264"),
        ("cudnn_offsets", "tpu", jnp.bfloat16, 512, 64, False, "on a GPU"),
        ("tokamax", "gpu", jnp.float32, 512, 64, False, "bfloat16"),
        ("tokamax_triton", "cpu", jnp.float32, 512, 64, False, "on a GPU"),
        ("pallas", "cpu", jnp.bfloat16, 512, 64, False, "TPU or a GPU"),
        ("pallas", "tpu", jnp.bfloat16, 100, 64, False, "multiple of 128"),
    ],
)
def test_kernels_that_cannot_run_are_refused(kernel, backend, dtype, length, head_dim, drops, said):
    with pytest.raises(InputError, match=said):
        choose_kernel(kernel, backend, jnp.dtype(dtype), length, head_dim, drops)
