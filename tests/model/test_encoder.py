"""The encoder and its heads against BERT's equations written out in NumPy and SciPy, one segment at a time."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf, softmax

from dnabert_jax.config import ModelConfig
from dnabert_jax.model.heads import MaskedLanguageModel, SequenceClassifier
from tests import tiny

CONFIG = tiny.without_dropout()
SEGMENTS = [[20, 11, 9], [46], [3, 2]]


def _layer_norm(x, params):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-12) * params["scale"] + params["bias"]


def _gelu(x):
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def reference_encoder(params, tokens, config, turn=None):
    """BERT on one segment: float64[length, hidden]. `turn` is what rotary positions do to a head's queries and keys."""
    embeddings = params["embeddings"]
    x = embeddings["token"][tokens] + embeddings["type"][0]
    if turn is None:
        x = x + embeddings["position"][np.arange(len(tokens))]
    x = _layer_norm(x, embeddings["layer_norm"])
    for i in range(config.layers):
        layer = jax.tree.map(lambda p, i=i: p[i], params["layers"])
        heads = []
        kernel, bias = layer["attention"]["qkv"]["kernel"], layer["attention"]["qkv"]["bias"]
        for head in range(config.heads):
            query, key, value = (x @ kernel[:, j, head] + bias[j, head] for j in range(3))
            if turn is not None:
                query, key = turn(query), turn(key)
            heads.append(softmax(query @ key.T / np.sqrt(query.shape[-1]), axis=-1) @ value)
        output = layer["attention"]["output"]
        attended = np.concatenate(heads, -1) @ output["kernel"].reshape(config.hidden, -1) + output["bias"]
        x = _layer_norm(x + attended, layer["attention_layer_norm"])
        inner = _gelu(x @ layer["mlp"]["up"]["kernel"] + layer["mlp"]["up"]["bias"])
        fed = inner @ layer["mlp"]["down"]["kernel"] + layer["mlp"]["down"]["bias"]
        x = _layer_norm(x + fed, layer["mlp_layer_norm"])
    return x


def jitter(params):
    """Moves every param, so that biases and scales count."""
    leaves, tree = jax.tree.flatten(nn.unbox(params))
    keys = jax.random.split(jax.random.key(7), len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys)]
    return jax.tree.unflatten(tree, moved)


def _rows():
    return {name: jnp.asarray(value) for name, value in tiny.rows(SEGMENTS, 64).items()}


def _mlm(config=CONFIG):
    rows = _rows()
    slots = jnp.broadcast_to(jnp.arange(64), (3, 64))
    inputs = (rows["tokens"], rows["segment_ids"], rows["positions"], slots)
    model = MaskedLanguageModel(config)
    params = jitter(MaskedLanguageModel(CONFIG).init(jax.random.key(0), *inputs, deterministic=True)["params"])
    return model, params, inputs


def test_mlm_logits_of_packed_rows_are_berts_of_each_segment():
    model, params, inputs = _mlm()
    logits = np.asarray(model.apply({"params": params}, *inputs, deterministic=True))
    exact = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    head = exact["mlm_head"]
    for row, counts in enumerate(SEGMENTS):
        at = 0
        for count in counts:
            place = slice(at, at + count + 2)
            hidden = reference_encoder(exact["encoder"], np.asarray(inputs[0][row, place]), CONFIG)
            x = _gelu(hidden @ head["transform"]["kernel"] + head["transform"]["bias"])
            x = _layer_norm(x, head["layer_norm"])
            expected = x @ exact["encoder"]["embeddings"]["token"].T + head["bias"]
            np.testing.assert_allclose(logits[row, place], expected, atol=2e-3, rtol=1e-3)
            at += count + 2


def test_classifier_logits_are_berts():
    rows = {name: jnp.asarray(value) for name, value in tiny.rows([[40], [12]], 48).items()}
    inputs = (rows["tokens"], rows["segment_ids"], rows["positions"])
    model = SequenceClassifier(ModelConfig(CONFIG, "single_label", ("a", "b", "c")), dropout=0.1)
    params = jitter(model.init(jax.random.key(0), *inputs, deterministic=True)["params"])
    logits = np.asarray(model.apply({"params": params}, *inputs, deterministic=True))
    exact = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    for row, count in enumerate((40, 12)):
        hidden = reference_encoder(exact["encoder"], np.asarray(inputs[0][row, : count + 2]), CONFIG)
        pooled = np.tanh(hidden[0] @ exact["pooler"]["kernel"] + exact["pooler"]["bias"])
        expected = pooled @ exact["classifier"]["kernel"] + exact["classifier"]["bias"]
        np.testing.assert_allclose(logits[row], expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("remat", ["none", "full", "dots_saveable"])
@pytest.mark.parametrize("scan", [True, False], ids=["scanned", "unrolled"])
def test_remat_and_unrolling_change_nothing(remat, scan):
    dropping = dataclasses.replace(CONFIG, hidden_dropout=0.1, attention_dropout=0.1)

    def gradients(config):
        model, params, inputs = _mlm(config)

        def loss(params):
            rngs = {"dropout": jax.random.key(3)}
            return jnp.mean(model.apply({"params": params}, *inputs, deterministic=False, rngs=rngs) ** 2)

        return jax.jit(jax.value_and_grad(loss))(params)

    (expected, there), (found, here) = (
        gradients(dropping),
        gradients(dataclasses.replace(dropping, remat=remat, scan_layers=scan)),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-3), here, there)


def test_bfloat16_compute_keeps_float32_params_and_stays_near():
    model, params, inputs = _mlm()
    exact = model.apply({"params": params}, *inputs, deterministic=True)
    half = MaskedLanguageModel(dataclasses.replace(CONFIG, compute_dtype="bfloat16"))
    made = half.init(jax.random.key(0), *inputs, deterministic=True)["params"]
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {jnp.dtype("float32")}
    rough = half.apply({"params": params}, *inputs, deterministic=True)
    assert rough.dtype == jnp.float32
    used = np.asarray(inputs[1]) > 0
    correlation = np.corrcoef(np.asarray(exact)[used].ravel(), np.asarray(rough)[used].ravel())[0, 1]
    assert correlation > 0.999


def test_dropout_is_off_when_deterministic_and_on_otherwise():
    model, params, inputs = _mlm(tiny.ENCODER)
    quiet = model.apply({"params": params}, *inputs, deterministic=True)
    same = _mlm()[0].apply({"params": params}, *inputs, deterministic=True)
    np.testing.assert_array_equal(quiet, same)
    loud = model.apply({"params": params}, *inputs, deterministic=False, rngs={"dropout": jax.random.key(0)})
    assert float(jnp.abs(loud - quiet).max()) > 0.1
