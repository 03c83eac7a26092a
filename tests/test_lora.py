"""LoRA: where it starts, what it computes, what learns, and how its arrays lie on a mesh."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from dnabert_jax import lora, optim
from dnabert_jax.config import LoraConfig, ModelConfig, OptimizerConfig
from dnabert_jax.model.dense import Dense
from dnabert_jax.model.heads import SequenceClassifier
from dnabert_jax.training import state
from tests import tiny

ENCODER = tiny.without_dropout()
CONFIG = LoraConfig(rank=4, alpha=6.0)
ROWS = {name: jnp.asarray(value) for name, value in tiny.rows([[40], [12]], 48).items()}
INPUTS = (ROWS["tokens"], ROWS["segment_ids"], ROWS["positions"])
MODEL = SequenceClassifier(ModelConfig(ENCODER, "single_label", ("a", "b", "c")))
KERNELS = [("attention", "qkv"), ("attention", "output"), ("mlp", "up"), ("mlp", "down")]


def _init(key):
    return MODEL.init(key, *INPUTS, deterministic=True)["params"]


def _moved(params):
    """With B away from 0."""
    keys = iter(jax.random.split(jax.random.key(1), 8))
    return {**params, "lora": jax.tree.map(lambda x: 0.3 * jax.random.normal(next(keys), x.shape), params["lora"])}


@pytest.fixture(scope="module")
def fresh():
    return jax.jit(lambda key: nn.unbox(lora.with_adapters(_init, CONFIG)(key)))(jax.random.key(0))


@pytest.fixture(scope="module")
def params(fresh):
    return _moved(fresh)


def _equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_it_starts_from_the_model_that_it_adapts(fresh):
    alone = jax.jit(lambda key: nn.unbox(_init(key)))(jax.random.key(0))
    _equal({name: tree for name, tree in fresh.items() if name != "lora"}, alone)
    _equal(lora.merge(fresh, CONFIG), alone)
    for block, name in KERNELS:
        pair = fresh["lora"][block][name]
        assert not np.any(pair["b"])
        kernel = alone["encoder"]["layers"][block][name]["kernel"]
        inputs = ENCODER.intermediate if name == "down" else ENCODER.hidden
        assert float(jnp.std(pair["a"])) == pytest.approx(inputs**-0.5, rel=0.15)
        assert {pair["a"].dtype, pair["b"].dtype} == {kernel.dtype} == {jnp.dtype("float32")}


def test_adapters_are_drawn_apart(fresh):
    """No two have the same numbers, nor a layer those of another, nor queries those of keys."""
    columns = [np.asarray(fresh["lora"]["attention"]["qkv"]["a"])[i, :, j] for i in range(2) for j in range(3)]
    columns += [np.asarray(fresh["lora"]["mlp"]["up"]["a"])[i] for i in range(2)]
    for i, one in enumerate(columns):
        for other in columns[:i]:
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.5


def test_how_many_params():
    """Rank × (inputs + outputs) for each of the six matrices of each layer."""
    hidden, mlp = ENCODER.hidden, ENCODER.intermediate
    shapes = jax.eval_shape(lora.with_adapters(_init, CONFIG), jax.random.key(0))["lora"]
    expected = ENCODER.layers * CONFIG.rank * (4 * 2 * hidden + 2 * (hidden + mlp))
    assert state.parameter_count(shapes) == expected


def test_each_merged_matrix_is_base_and_adapter_side_by_side(params):
    """x W + alpha / rank (x A) B, for every layer and matrix by itself, in float64."""
    exact = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    merged = lora.merge(params, CONFIG)["encoder"]["layers"]
    generator = np.random.default_rng(0)
    for block, name in KERNELS:
        for layer in range(ENCODER.layers):
            kernel = exact["encoder"]["layers"][block][name]["kernel"][layer]
            found = np.asarray(merged[block][name]["kernel"][layer])
            a, b = (exact["lora"][block][name][which][layer] for which in "ab")
            if name == "qkv":
                matrices = [(kernel[:, j], found[:, j], a[:, j], b[j]) for j in range(3)]
            else:
                matrices = [(kernel, found, a, b)]
            for kernel, found, a, b in matrices:
                a, b = a.reshape(-1, CONFIG.rank), b.reshape(CONFIG.rank, -1)
                kernel, found = (each.reshape(len(a), -1) for each in (kernel, found))
                x = generator.normal(size=(5, len(a)))
                expected = x @ kernel + 6.0 / 4 * ((x @ a) @ b)
                np.testing.assert_allclose(x @ found, expected, atol=1e-5)
                assert np.abs(expected - x @ kernel).max() > 0.1


def test_the_merged_model_computes_what_adapters_beside_the_kernels_do():
    """In a model of one layer, by adding (x A) B to what each affine map gives."""
    model = SequenceClassifier(ModelConfig(dataclasses.replace(ENCODER, layers=1), "single_label", ("a", "b", "c")))
    init = lora.with_adapters(lambda key: model.init(key, *INPUTS, deterministic=True)["params"], CONFIG)
    params = _moved(jax.jit(lambda key: nn.unbox(init(key)))(jax.random.key(0)))
    base = {name: tree for name, tree in params.items() if name != "lora"}

    def beside(call, arguments, keywords, context):
        y = call(*arguments, **keywords)
        path = context.module.path
        if not isinstance(context.module, Dense) or "layers" not in path:
            return y
        (x,), (block, name) = arguments, path[-2:]
        a, b = (params["lora"][block][name][which][0] for which in "ab")
        if name == "output":
            x, a = x.reshape(*x.shape[:2], -1), a.reshape(-1, CONFIG.rank)
        if name == "qkv":
            change = jnp.stack([jnp.tensordot(x @ a[:, j], b[j], 1) for j in range(3)], axis=2)
        else:
            change = (x @ a) @ b
        return y + CONFIG.alpha / CONFIG.rank * change

    def forward(params):
        return model.apply({"params": params}, *INPUTS, deterministic=True)

    with nn.intercept_methods(beside):
        expected = forward(base)
    np.testing.assert_allclose(forward(lora.merge(params, CONFIG)), expected, atol=1e-4)
    assert float(jnp.abs(expected - forward(base)).max()) > 0.1


@pytest.mark.parametrize("block", ["attention", "mlp"])
def test_either_block_may_be_left_alone(block):
    config = dataclasses.replace(CONFIG, **{block: False})
    params = _moved(jax.jit(lambda key: nn.unbox(lora.with_adapters(_init, config)(key)))(jax.random.key(0)))
    other = "mlp" if block == "attention" else "attention"
    assert set(params["lora"]) == {other}
    merged = lora.merge(params, config)
    _equal(merged["encoder"]["layers"][block], params["encoder"]["layers"][block])
    kernels = [each["encoder"]["layers"][other] for each in (merged, params)]
    assert all(
        float(jnp.abs(kernels[0][name]["kernel"] - kernels[1][name]["kernel"]).max()) > 0.1 for name in kernels[1]
    )


def test_rank_0_is_no_lora_at_all(params):
    assert lora.with_adapters(_init, LoraConfig()) is _init
    base = {name: tree for name, tree in params.items() if name != "lora"}
    assert lora.merge(base, LoraConfig()) is base


def _loss(params, frozen):
    if frozen:
        params = {**params, "encoder": jax.lax.stop_gradient(params["encoder"])}
    logits = MODEL.apply({"params": lora.merge(params, CONFIG)}, *INPUTS, deterministic=True)
    return jnp.mean(logits**2)


@pytest.fixture(scope="module")
def gradients(params):
    """The loss and its gradients as in training."""
    return jax.jit(jax.value_and_grad(lambda params: _loss(params, True)))(params)


def test_gradients_of_a_frozen_encoder_reach_the_adapters_alone_and_whole(params, gradients):
    one, found = gradients
    other, everything = jax.jit(jax.value_and_grad(lambda params: _loss(params, False)))(params)
    np.testing.assert_allclose(one, other, rtol=1e-6)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(found["encoder"]))
    for name in ("lora", "pooler", "classifier"):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found[name], everything[name])
        assert all(np.any(leaf) for leaf in jax.tree.leaves(found[name]))


def test_the_optimiser_trains_them_as_kernels(params, gradients):
    """They decay, and the encoder stays as it is, bit for bit."""
    decays = optim.decays({"lora": params["lora"]})
    assert all(jax.tree.leaves(decays))
    trained = ("lora", "pooler", "classifier")
    optimizer = optim.adamw(OptimizerConfig(learning_rate=0.01, warmup_steps=0, decay_steps=10), trained)
    updates, _ = jax.jit(optimizer.update)(gradients[1], optimizer.init(params), params)
    new = optax.apply_updates(params, updates)
    _equal(new["encoder"], params["encoder"])
    assert all(np.any(leaf) for leaf in jax.tree.leaves(updates["lora"]))


def test_every_axis_of_an_adapter_has_the_name_that_it_has_in_the_kernel():
    boxed = jax.eval_shape(lora.with_adapters(_init, CONFIG), jax.random.key(0))
    names = jax.tree.map(tuple, nn.get_partition_spec(boxed["lora"]), is_leaf=lambda x: isinstance(x, PartitionSpec))
    assert names == {
        "attention": {
            "qkv": {"a": ("layers", "hidden", None, None), "b": ("layers", None, None, "heads", None)},
            "output": {"a": ("layers", "heads", None, None), "b": ("layers", None, "hidden")},
        },
        "mlp": {
            "up": {"a": ("layers", "hidden", None), "b": ("layers", None, "mlp")},
            "down": {"a": ("layers", "mlp", None), "b": ("layers", None, "hidden")},
        },
    }


def test_on_every_mesh_they_train_as_on_one_device():
    """With rotary positions, so that these too are computed on shards."""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "tests.mesh_lora"],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, *others = map(json.loads, done.stdout.splitlines())
    assert one["share"] == 1  # of an adapter, on each device
    assert one["moved"] > 1e-3
    assert len(others) == 2
    for found in others:
        assert found["share"] == 1 / 2
        assert found["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert found["apart"] < 1e-4
