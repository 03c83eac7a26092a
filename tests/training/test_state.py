"""The state of a run: what it holds at the start, and where each part of it lies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dnabert_jax import optim, sharding
from dnabert_jax.config import MeshConfig, OptimizerConfig
from dnabert_jax.model.heads import MaskedLanguageModel
from dnabert_jax.training import state
from tests import tiny

KEY = jax.random.key(3)


def _init(key):
    row = jnp.zeros((1, 64), jnp.int32)
    model = MaskedLanguageModel(tiny.ENCODER)
    return model.init(key, row, row, row, row[:, :1], deterministic=True)["params"]


@pytest.fixture(scope="module")
def mesh():
    with sharding.use(sharding.make_mesh(MeshConfig())) as mesh:
        yield mesh


def _shapes(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


@pytest.fixture(scope="module")
def made(mesh):
    optimizer = optim.adamw(OptimizerConfig())
    like = state.layout(_init, optimizer, KEY, mesh)
    return like, state.create(_init, optimizer, KEY, like)


def test_the_layout_is_that_of_what_is_made(made):
    like, found = made
    assert _shapes(like) == _shapes(found)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.sharding.is_equivalent_to(b.sharding, b.ndim), like, found))


def test_a_new_state_has_done_nothing(made):
    _, found = made
    assert int(found.step) == 0
    assert found.step.dtype == jnp.int32
    for leaf in jax.tree.leaves(found.optimizer):
        assert not np.asarray(leaf).any()


def test_the_params_are_float32_and_follow_from_the_key(made, mesh):
    like, found = made
    assert {leaf.dtype for leaf in jax.tree.leaves(found.params)} == {jnp.dtype("float32")}
    again = state.create(_init, optim.adamw(OptimizerConfig()), KEY, like)
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, found.params))
    other = state.create(_init, optim.adamw(OptimizerConfig()), jax.random.key(4), like)
    token = "encoder", "embeddings", "token"
    assert not np.array_equal(_at(other.params, token), _at(found.params, token))


def _at(tree, path):
    for name in path:
        tree = tree[name]
    return tree


def test_the_moments_lie_where_their_params_lie(made):
    like, _ = made
    params = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(like.params)}
    moments = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(like.optimizer):
        ends = [name for name in params if jax.tree_util.keystr(path).endswith(name)]
        if ends:
            assert leaf.shape == params[ends[0]].shape
            assert leaf.sharding == params[ends[0]].sharding
            moments += 1
    assert moments == 2 * len(params)


def test_the_logical_axes_become_those_of_the_mesh(made, mesh):
    like, _ = made
    layer = like.params["encoder"]["layers"]
    found = {
        "token": like.params["encoder"]["embeddings"]["token"],
        "qkv": layer["attention"]["qkv"]["kernel"],
        "up": layer["mlp"]["up"]["kernel"],
        "norm": layer["mlp_layer_norm"]["scale"],
    }
    expected = {
        "token": PartitionSpec(None, ("fsdp", "tensor")),
        "qkv": PartitionSpec(None, "fsdp", None, "tensor", None),
        "up": PartitionSpec(None, "fsdp", "tensor"),
        "norm": PartitionSpec(None, None),
    }
    for name, leaf in found.items():
        assert leaf.sharding.is_equivalent_to(NamedSharding(mesh, expected[name]), len(leaf.shape)), name
        assert leaf.sharding.spec == expected[name], name


def test_the_params_alone_have_the_same_layout(made, mesh):
    like, _ = made
    alone = state.parameter_layout(_init, KEY, mesh)
    assert _shapes(alone) == _shapes(like.params)
    assert state.shardings(alone) == state.shardings(like.params)


def test_a_layout_with_frozen_params(mesh):
    optimizer = optim.adamw(OptimizerConfig(), ("mlm_head",))
    like = state.layout(_init, optimizer, KEY, mesh)
    found = state.create(_init, optimizer, KEY, like)
    assert _shapes(like) == _shapes(found)
    head = sum(x.size for x in jax.tree.leaves(like.params["mlm_head"]))
    kept = sum(x.size for x in jax.tree.leaves(like.optimizer) if x.dtype == jnp.float32)
    assert kept == 2 * head


def test_parameter_count():
    """By hand: embeddings, two layers and the masked-LM head of the tiny encoder."""
    h, m, v = 32, 64, 4**3 + 5
    embeddings = (v + 64 + 2) * h + 2 * h
    layer = (h * 3 * h + 3 * h) + (h * h + h) + (h * m + m) + (m * h + h) + 4 * h
    head = h * h + h + 2 * h + v
    shapes = jax.eval_shape(_init, KEY)
    assert state.parameter_count(shapes) == embeddings + 2 * layer + head
