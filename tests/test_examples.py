"""The examples run, and do what they are an example of."""

import dataclasses
import importlib.util
from pathlib import Path

import flax.linen as nn
import jax

from dnabert_jax.config import ModelConfig
from dnabert_jax.loaded import Model
from dnabert_jax.model.heads import initializer
from tests import tiny

EXAMPLES = Path(__file__).parents[1] / "examples"


def _example(name: str):
    found = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_a_head_of_ones_own_learns():
    config = ModelConfig(dataclasses.replace(tiny.without_dropout(), max_length=128), "masked_lm")
    params = nn.unbox(jax.jit(initializer(config))(jax.random.key(0)))
    model = Model(config, params, "random")
    accuracy = _example("custom_head").train(model, steps=100)
    assert accuracy > 0.55  # of as many exons as other places
