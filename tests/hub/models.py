"""Random models of every head, made from the shapes of the model itself."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from dnabert_jax.config import EncoderConfig, ModelConfig
from dnabert_jax.model.heads import initializer
from tests import tiny

HEADS = {
    "none": (),
    "masked_lm": (),
    "single_label": ("donor", "acceptor", "neither"),
    "multi_label": ("a", "b"),
    "regression": ("expression",),
    "per_base": ("exon", "intron"),
}
"""Names of the outputs for each head."""

ARCHITECTURES = {
    "none": "BertModel",
    "masked_lm": "BertForMaskedLM",
    "single_label": "BertForSequenceClassification",
    "multi_label": "BertForSequenceClassification",
    "regression": "BertForSequenceClassification",
    "per_base": "BertForTokenClassification",
}


def config(head: str, encoder: EncoderConfig = tiny.ENCODER, **more: Any) -> ModelConfig:
    return ModelConfig(dataclasses.replace(encoder, **more), head, HEADS[head])


def random_params(config: ModelConfig, *, pooler: bool = False, deviation: float = 0.1, seed: int = 0) -> Any:
    """Params that a trained model could have: nothing is 0 or 1. A bare encoder may have a pooler beside it."""
    generator = np.random.default_rng(seed)
    shapes = nn.unbox(jax.eval_shape(initializer(config), jax.random.key(0)))
    if pooler:
        with_pooler = dataclasses.replace(config, head="regression", classes=("value",))
        shapes = {**shapes, "pooler": nn.unbox(jax.eval_shape(initializer(with_pooler), jax.random.key(0)))["pooler"]}

    def draw(path: tuple, leaf: Any) -> np.ndarray:
        middle = 1.0 if path[-1].key == "scale" else 0.0
        return generator.normal(middle, deviation, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def assert_same(found: Any, expected: Any) -> None:
    """The same arrays under the same names, bit for bit."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        assert a.dtype == b.dtype == np.float32
        assert a.shape == b.shape
        assert a.tobytes() == np.ascontiguousarray(b).tobytes()
