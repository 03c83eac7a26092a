"""The parts of a step run at the step's shapes, and what they take adds up to it."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax.bench import breakdown
from dnabert_jax.bench.choices import Choices
from dnabert_jax.bench.workloads import QUICK, workloads
from dnabert_jax.model import rotary
from dnabert_jax.model.encoder import Layer
from tests import tiny


def workload(name: str, **changed):
    found = workloads(QUICK)[name]
    encoder = dataclasses.replace(found.encoder, k=3, hidden=32, heads=2, intermediate=64, max_length=64, layers=3)
    return dataclasses.replace(found, encoder=encoder, row_length=64, **changed)


def test_the_parts_and_the_rest_are_the_step():
    found = breakdown.measure(workload("pretrain-base-512"), Choices(compute_dtype="float32"), 2, 3.0, 0.25)
    assert tuple(found) == breakdown.PARTS
    assert sum(found.values()) == pytest.approx(3000.0)
    assert found.pop("input_wait") == 250.0
    assert math.isfinite(found.pop("rest"))
    assert min(found.values()) > 0


@pytest.mark.parametrize(
    ("name", "once"),
    [("finetune-base-128", {"embedding", "head", "optimizer"}), ("predict-base-512", {"embedding", "head"})],
)
def test_parts_of_a_layer_count_once_for_each_and_others_once(monkeypatch, name, once):
    monkeypatch.setattr(breakdown, "_seconds", lambda run: jax.block_until_ready(run()) and 0.01)
    found = breakdown.measure(workload(name), Choices(compute_dtype="bfloat16"), 2, 1.0, 0.0)
    expected = dict.fromkeys(breakdown.PARTS, 0.0) | dict.fromkeys(once, 10.0) | {"attention": 30.0, "mlp": 30.0}
    expected["rest"] = 1000.0 - sum(expected.values())
    assert found == pytest.approx(expected)


def test_rows_are_packed_as_the_workload_has_them():
    rows = {
        pack: jax.tree.map(np.asarray, breakdown._batch(workload("pretrain-base-512", pack=pack), 32))
        for pack in (True, False)
    }
    assert rows[False]["segment_ids"].max() == 1
    assert rows[True]["segment_ids"].max() > 1
    for batch in rows.values():
        there = batch["segment_ids"] > 0
        assert batch["tokens"].shape == (32, 64)
        assert there.any(axis=1).all()
        assert (batch["tokens"][~there] == 0).all()
        assert (batch["tokens"][batch["positions"] > 1] > 2).all()
        assert batch["positions"].max() < 64
    assert (rows[True]["segment_ids"] > 0).mean() > 0.9 > (rows[False]["segment_ids"] > 0).mean()
    full = breakdown._batch(workload("finetune-base-128"), 4)
    assert (np.asarray(full["segment_ids"]) == 1).all()


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_the_two_halves_are_a_layer(positions):
    encoder = dataclasses.replace(tiny.without_dropout(), positions=positions)
    rows = {name: jnp.asarray(value) for name, value in tiny.rows([[20, 30], [50]], 64).items()}
    x = jax.random.normal(jax.random.key(0), (2, 64, encoder.hidden))
    rotation = None
    if positions == "rotary":
        rotation = rotary.rotation(rows["positions"], encoder.hidden // encoder.heads, encoder.rotary_base)
    layer = Layer(encoder, deterministic=True)

    @jax.jit
    def both(key):
        params = nn.unbox(layer.init(key, x, rows["segment_ids"], rotation))["params"]
        whole, _ = layer.apply({"params": params}, x, rows["segment_ids"], rotation)
        half, _ = breakdown._attention(encoder, training=True)(params, x, rows, key)
        return whole, breakdown._mlp(encoder, training=True)(params, half, rows, key)[0]

    whole, halves = both(jax.random.key(1))
    np.testing.assert_allclose(halves, whole, atol=1e-5)


def test_what_is_timed_has_the_gradients_of_params_and_inputs():
    run = breakdown._both_ways(lambda params, x, rows, key: (jnp.sum(params * x**2), {"rows": rows}))
    output, others, gradients = run(jnp.float32(3.0), jnp.array([1.0, 2.0]), 7, jax.random.key(0))
    assert output == 15.0
    assert others == {"rows": 7}
    assert gradients[0] == 5.0
    np.testing.assert_array_equal(gradients[1], [6.0, 12.0])
