"""The check of attention kernels: that it passes one that is right, and finds every way to be wrong that is put in."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax import loaded, sharding, stored
from dnabert_jax.config import FinetuneConfig, LabelledConfig, MeshConfig
from dnabert_jax.errors import InputError
from dnabert_jax.model import attention as kernels
from dnabert_jax.model import attention_check
from dnabert_jax.training import finetune, pretrain, workdir
from tests import tiny
from tests.training import runs

SHAPE = (64, 2, 16)
"""Tokens of a row, heads, and the width of a head."""

right = kernels.attention


@pytest.fixture(autouse=True)
def _fresh():
    attention_check._check_once.cache_clear()
    yield
    attention_check._check_once.cache_clear()


@pytest.fixture
def with_kernel(monkeypatch):
    """Puts something else in the place of `attention`, and lets every config choose it by the name of a fused one."""

    def put(function):
        monkeypatch.setattr(attention_check, "attention", function)
        monkeypatch.setattr(attention_check, "choose_kernel", lambda *facts: "cudnn")

    return put


def masked(qkv: jax.Array, mask: jax.Array) -> jax.Array:
    """Attention under any mask, bool[batch, query, key]."""
    query, key, value = (qkv[:, :, part].astype(jnp.float32) for part in range(3))
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * qkv.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(mask[:, None], scores, -1e30), axis=-1)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value).astype(qkv.dtype)


def same(segment_ids: jax.Array) -> jax.Array:
    return segment_ids[:, :, None] == segment_ids[:, None, :]


def blind(qkv, segment_ids, kernel, trains=False):
    return masked(qkv, jnp.ones_like(same(segment_ids)))


def sees_padding(qkv, segment_ids, kernel, trains=False):
    return masked(qkv, same(segment_ids) | (segment_ids == 0)[:, None, :])


def sees_one_key_more(qkv, segment_ids, kernel, trains=False):
    """The first token of the third segment sees the last of the second."""
    place = jnp.argmax(segment_ids == 3, axis=1)
    rows = jnp.arange(len(place))
    return masked(qkv, same(segment_ids).at[rows, place, place - 1].set(True))


@jax.custom_vjp
def _blind_backwards(qkv, segment_ids):
    return masked(qkv, same(segment_ids))


_blind_backwards.defvjp(
    lambda qkv, ids: (masked(qkv, same(ids)), (qkv, ids)),
    lambda kept, given: (jax.vjp(lambda qkv: blind(qkv, kept[1], ""), kept[0])[1](given)[0], None),
)


def nan_in_padding(qkv, segment_ids, kernel, trains=False):
    return jnp.where((segment_ids > 0)[..., None, None], right(qkv, segment_ids), jnp.nan)


WRONG = {
    "blind to segments": blind,
    "sees padding": sees_padding,
    "one key too many": sees_one_key_more,
    "blind in the gradient": lambda qkv, segment_ids, kernel, trains=False: _blind_backwards(qkv, segment_ids),
    "unscaled": lambda qkv, segment_ids, kernel, trains=False: right(
        qkv.at[:, :, 0].multiply(qkv.shape[-1] ** 0.5), segment_ids
    ),
    "NaN in padding": nan_in_padding,
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_xla_keeps_segments_apart(dtype):
    found = attention_check.check("xla", dtype, *SHAPE)
    assert found.agrees
    assert (found.kernel, found.dtype, found.failure) == ("xla", dtype, "")
    assert 0 < found.output_error < found.tolerance / 2
    assert 0 < found.gradient_error < found.tolerance / 2


@pytest.mark.parametrize("fault", WRONG)
def test_every_fault_is_found_at_the_looser_tolerance(fault, with_kernel):
    with_kernel(WRONG[fault])
    found = attention_check.check("cudnn", "bfloat16", *SHAPE)
    assert not found.agrees
    assert not found.failure
    assert max(found.output_error, found.gradient_error) > 1.5 * found.tolerance
    if fault == "blind in the gradient":
        assert found.output_error < found.tolerance
        assert attention_check.check("cudnn", "bfloat16", *SHAPE, gradients=False).agrees


def test_the_rows_that_are_checked():
    for length in (16, 64, 100, 512):
        ids = attention_check._inputs(length, 1, 8, "float32")[2]
        counts = [np.bincount(row[row > 0])[1:].tolist() for row in ids]
        assert len(counts[0]) >= 2
        assert len(counts[2]) == 1
        assert (ids[0] == 0).any()
        assert (ids[1] > 0).all()
        assert (ids[2] == 0).any()
        assert all(count % 2 for row in (counts[0], counts[1][:-1], counts[2]) for count in row)
        assert max(len(row) for row in counts) < kernels.RUNS
        assert all((np.diff(row[row > 0]) >= 0).all() for row in ids)


def test_on_a_mesh():
    with sharding.use(sharding.make_mesh(MeshConfig(), jax.devices()[:1])):
        assert attention_check.check("xla", "float32", *SHAPE).agrees


def test_all_that_can_be_chosen_on_a_cpu():
    found = attention_check.all_here(*SHAPE)
    assert [(each.kernel, each.dtype) for each in found] == [("xla", "float32"), ("xla", "bfloat16")]
    assert all(each.agrees for each in found)


def test_a_run_with_xla_is_not_checked(monkeypatch):
    monkeypatch.setattr(attention_check, "check", pytest.fail)
    attention_check.require(tiny.ENCODER, 64)


def test_a_run_is_checked_once(with_kernel, monkeypatch):
    with_kernel(right_by_any_name)
    asked = []
    checked = attention_check.check
    monkeypatch.setattr(
        attention_check,
        "check",
        lambda *shape, gradients: asked.append(gradients) or checked(*shape, gradients=gradients),
    )
    for _ in range(2):
        attention_check.require(tiny.ENCODER, 64)
        attention_check.require(tiny.ENCODER, 64, trains=False)
    assert asked == [True, False]


def right_by_any_name(qkv, segment_ids, kernel, trains=False):
    return right(qkv, segment_ids)


def test_a_run_with_a_kernel_that_mixes_segments_does_not_begin(with_kernel):
    with_kernel(blind)
    with pytest.raises(
        InputError, match=r"attention 'auto' \(here 'cudnn'\) does not keep .* in float32, 64 .* at most"
    ):
        attention_check.require(tiny.ENCODER, 64)


def test_a_kernel_that_fails_is_one_line(with_kernel):
    def fails(qkv, segment_ids, kernel, trains=False):
        raise NotImplementedError("\n  no kernel for this;\nand much more\n")

    with_kernel(fails)
    with pytest.raises(
        InputError, match=r"does not run on .*: NotImplementedError: no kernel for this; expected another"
    ):
        attention_check.require(dataclasses.replace(tiny.ENCODER, attention="cudnn"), 64)


def test_rows_of_more_segments_than_the_kernel_takes(with_kernel, monkeypatch):
    with_kernel(right_by_any_name)
    monkeypatch.setattr(attention_check, "choose_kernel", lambda *facts: "cudnn_offsets")
    attention_check.require(tiny.ENCODER, 64, segments=kernels.RUNS - 1)
    with pytest.raises(
        InputError, match=rf"at most {kernels.RUNS - 1} segments; one of these rows has {kernels.RUNS}; "
    ):
        attention_check.require(tiny.ENCODER, 64, segments=kernels.RUNS)


def test_every_run_begins_with_the_check(shards, tmp_path, with_kernel):
    with_kernel(blind)
    said = r"encoder\.attention 'auto' \(here 'cudnn'\) does not keep packed segments apart"
    with pytest.raises(InputError, match=said):
        pretrain.run(runs.pretraining(shards, tmp_path / "pretrained"), print)
    assert not (tmp_path / "pretrained" / workdir.CONFIG).exists()
    table = tmp_path / "labelled.tsv"
    table.write_text("sequence\tlabel\n" + "ACGTTGCAAC\ta\nTTGACGATCA\tb\n" * 4)
    config = FinetuneConfig(
        workdir=str(tmp_path / "fine-tuned"),
        encoder=tiny.FINETUNED,
        batch_size=4,
        data=LabelledConfig(train=str(table), validation=str(table)),
    )
    with pytest.raises(InputError, match=said):
        finetune.run(config, print)
    assert not (tmp_path / "fine-tuned" / workdir.CONFIG).exists()
    stored.write(tmp_path / "model", *tiny.model("masked_lm"))
    with pytest.raises(InputError, match=said):
        loaded.load(tmp_path / "model")
