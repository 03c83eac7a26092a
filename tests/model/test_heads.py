"""Making params."""

import dataclasses

import jax
import pytest

from dnabert_jax.config import ModelConfig
from dnabert_jax.model.heads import initializer
from tests import tiny


@pytest.mark.parametrize("kernel", ["pallas", "cudnn", "tokamax"])
def test_params_are_made_without_the_kernel_that_will_run(kernel):
    """A fused kernel takes rows in multiples of the devices that share them, and params are made with one row."""
    shapes = [
        jax.eval_shape(initializer(ModelConfig(encoder, "masked_lm")), jax.random.key(0))
        for encoder in (tiny.ENCODER, dataclasses.replace(tiny.ENCODER, attention=kernel))
    ]
    assert jax.tree.structure(shapes[0]) == jax.tree.structure(shapes[1])
    assert jax.tree.leaves(shapes[0]) == jax.tree.leaves(shapes[1])
