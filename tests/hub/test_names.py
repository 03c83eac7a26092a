"""The table of names: complete, without overlap, and the identity there and back."""

import jax
import numpy as np
import pytest

from dnabert_jax.hub import names
from tests import tiny
from tests.hub import models

CONFIGS = [models.config(head) for head in models.HEADS]


def by_head(config):
    return config.head


@pytest.mark.parametrize("config", CONFIGS, ids=by_head)
def test_there_and_back_is_the_identity(config):
    params = models.random_params(config)
    entries = names.table(config, pooler=False)
    models.assert_same(names.to_ours(names.to_theirs(params, entries), entries), params)


@pytest.mark.parametrize("config", CONFIGS, ids=by_head)
def test_every_number_is_in_one_tensor(config):
    """Numbers that are all different come out once each."""
    params = models.random_params(config)
    leaves, tree = jax.tree.flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])
    counted = [np.arange(end - leaf.size, end, dtype=np.float32).reshape(leaf.shape) for leaf, end in zip(leaves, ends)]
    tensors = names.to_theirs(jax.tree.unflatten(tree, counted), names.table(config, pooler=False))
    together = np.concatenate([tensor.ravel() for tensor in tensors.values()])
    np.testing.assert_array_equal(np.sort(together), np.arange(ends[-1]))


def test_a_bare_encoder_may_have_a_pooler():
    config = models.config("none")
    params = models.random_params(config, pooler=True)
    entries = names.table(config, pooler=True)
    assert {entry.name for entry in entries} - {each.name for each in names.table(config, pooler=False)} == {
        *names.POOLER
    }
    models.assert_same(names.to_ours(names.to_theirs(params, entries), entries), params)


def test_a_weight_is_the_transpose_of_a_kernel():
    config = models.config("single_label")
    params = models.random_params(config)
    tensors = names.to_theirs(params, names.table(config, pooler=False))
    qkv = params["encoder"]["layers"]["attention"]["qkv"]["kernel"]
    x = np.random.default_rng(0).normal(size=tiny.ENCODER.hidden).astype(np.float32)
    values = np.einsum("h,hnd->nd", x, qkv[1, :, 2]).ravel()
    np.testing.assert_allclose(tensors["bert.encoder.layer.1.attention.self.value.weight"] @ x, values, atol=1e-5)
    logits = x @ params["classifier"]["kernel"]
    np.testing.assert_allclose(tensors["classifier.weight"] @ x, logits, atol=1e-5)
