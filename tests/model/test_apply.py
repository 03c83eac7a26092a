"""The pure function against the modules that training uses."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax.config import ModelConfig
from dnabert_jax.model.apply import apply
from dnabert_jax.model.encoder import Encoder
from dnabert_jax.model.heads import MaskedLanguageModel, fine_tuned, initializer
from tests import tiny

LENGTH = 24


def _model(head: str, **others) -> tuple[ModelConfig, dict]:
    classes = () if head in ("none", "masked_lm") else ("a", "b", "c")
    config = ModelConfig(tiny.ENCODER, head, classes, **others)
    return config, nn.unbox(jax.jit(initializer(config))(jax.random.key(3)))


def _inputs(batch) -> tuple:
    return batch["tokens"], batch["segment_ids"], batch["positions"]


def _direct(config: ModelConfig):
    """The fine-tuned module as a jitted function of params and batch."""
    network = fine_tuned(config)
    return jax.jit(lambda params, batch: network.apply({"params": params}, *_inputs(batch), deterministic=True))


def _pieces(counts: list[list[int]]) -> dict[str, np.ndarray]:
    """Sequences of several rows: `counts[s]` has the k-mers of each piece of sequence s; 0 is no piece."""
    flat = tiny.rows([[count] if count else [] for count in itertools.chain(*counts)], LENGTH)
    return {name: rows.reshape(len(counts), -1, LENGTH) for name, rows in flat.items()}


def test_hidden_states_are_the_encoders():
    config, params = _model("none")
    batch = tiny.rows([[5, 9], [22], []], LENGTH)
    outputs = jax.jit(functools.partial(apply, config))(params, batch)
    encoder = Encoder(config.encoder)
    expected = jax.jit(lambda: encoder.apply({"params": params["encoder"]}, *_inputs(batch), deterministic=True))()
    np.testing.assert_allclose(outputs.hidden, expected, atol=1e-5)
    assert outputs.pooled is None
    assert outputs.logits is None


def test_a_pooler_without_a_head_is_used():
    config, params = _model("none")
    whole, with_pooler = _model("single_label")
    batch = tiny.rows([[5], [22]], LENGTH)
    outputs = jax.jit(functools.partial(apply, config))(
        {"encoder": params["encoder"], "pooler": with_pooler["pooler"]}, batch
    )
    network = fine_tuned(whole)
    expected = jax.jit(
        lambda params: network.apply({"params": params}, *_inputs(batch), deterministic=True, method="pooled")
    )({**with_pooler, "encoder": params["encoder"]})
    np.testing.assert_allclose(outputs.pooled, expected, atol=1e-5)


def test_masked_lm_logits_are_those_at_every_place():
    config, params = _model("masked_lm")
    batch = tiny.rows([[5, 9], [22]], LENGTH)
    outputs = jax.jit(functools.partial(apply, config))(params, batch)
    slots = np.broadcast_to(np.arange(LENGTH), (2, LENGTH))
    network = MaskedLanguageModel(config.encoder)
    expected = jax.jit(lambda: network.apply({"params": params}, *_inputs(batch), slots, deterministic=True))()
    assert outputs.logits.shape == (2, LENGTH, 4**3 + 5)
    np.testing.assert_allclose(outputs.logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("head", "join", "pieces", "pool"),
    [
        ("single_label", "mean", 1, "cls"),
        ("single_label", "concatenate", 3, "cls"),
        ("single_label", "concatenate", 3, "mean"),
        ("multi_label", "mean", 3, "cls"),
        ("regression", "concatenate", 1, "cls"),
        ("regression", "mean", 1, "mean"),
        ("per_base", "mean", 1, "cls"),
        ("per_base", "mean", 3, "cls"),
    ],
)
def test_logits_are_those_of_the_fine_tuned_module(head, join, pieces, pool):
    config, params = _model(head, join=join, pieces=pieces, pool=pool)
    batch = tiny.rows([[5], [22]], LENGTH) if pieces == 1 else _pieces([[22, 22, 4], [22, 1, 0], [7, 0, 0]])
    outputs = jax.jit(functools.partial(apply, config))(params, batch)
    expected = _direct(config)(params, batch)
    assert outputs.logits.dtype == jnp.float32
    np.testing.assert_allclose(outputs.logits, expected, atol=1e-5)
    assert (outputs.pooled is None) == (head == "per_base")


def test_the_mean_is_over_the_kmers_alone():
    config, params = _model("single_label", pool="mean")
    counts = [5, 22, LENGTH - 2]
    outputs = jax.jit(functools.partial(apply, config))(params, tiny.rows([[count] for count in counts], LENGTH))
    for row, count in enumerate(counts):
        mean = np.asarray(outputs.hidden[row, 1 : count + 1], np.float64).mean(axis=0)
        expected = np.tanh(mean @ params["pooler"]["kernel"] + params["pooler"]["bias"])
        np.testing.assert_allclose(outputs.pooled[row], expected, atol=1e-5)


def test_gradients_are_those_of_the_module():
    config, params = _model("single_label")
    batch = tiny.rows([[5], [22]], LENGTH)

    def ours(params):
        return apply(config, params, batch).logits[:, 1].sum()

    def direct(params):
        return _direct(config)(params, batch)[:, 1].sum()

    found, expected = jax.jit(jax.grad(ours))(params), jax.jit(jax.grad(direct))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)


def test_what_is_not_used_is_not_computed():
    """The decoder's product over the vocabulary is most of the arithmetic of a model this small."""
    config, params = _model("masked_lm")
    batch = tiny.rows([[5], [22]], LENGTH)

    def operations(function) -> str:
        return jax.jit(function).lower(params, batch).compile().as_text()

    vocabulary = f",{config.encoder.vocabulary_size}]"
    assert vocabulary in operations(lambda params, batch: apply(config, params, batch).logits)
    hidden_only = operations(lambda params, batch: apply(config, params, batch).hidden)
    assert f"f32[2,{LENGTH}{vocabulary}" not in hidden_only
    assert f"f32[{2 * LENGTH}{vocabulary}" not in hidden_only
