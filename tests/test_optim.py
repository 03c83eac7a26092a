"""The optimiser against the equations, step by step in NumPy."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnabert_jax import optim
from dnabert_jax.config import ModelConfig, OptimizerConfig
from dnabert_jax.model.heads import SequenceClassifier
from tests import tiny

CONFIG = OptimizerConfig(
    learning_rate=0.01, warmup_steps=4, decay_steps=12, beta1=0.9, beta2=0.98, weight_decay=0.1, clip_norm=1.0
)


@pytest.fixture(scope="module")
def params():
    model = SequenceClassifier(ModelConfig(tiny.ENCODER, "single_label", ("a", "b", "c")))
    row = jnp.zeros((1, 8), jnp.int32)
    init = jax.jit(lambda key: nn.unbox(model.init(key, row, row, row, deterministic=True)["params"]))
    return init(jax.random.key(0))


def _gradients(params, step: int, size: float):
    """Random gradients; the same for the same step."""
    generator = np.random.default_rng(step)
    return jax.tree.map(lambda x: jnp.asarray(size * generator.normal(size=x.shape), jnp.float32), params)


def _named(tree) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.0),
        (1, 4e-8),
        (5_000, 2e-4),
        (10_000, 4e-4),
        (105_000, 2e-4),
        (120_000, 4e-4 * 80_000 / 190_000),
        (199_999, 4e-4 / 190_000),
        (200_000, 0.0),
        (300_000, 0.0),
    ],
)
def test_the_papers_learning_rate(step, rate):
    assert float(optim.schedule(OptimizerConfig())(step)) == pytest.approx(rate, rel=1e-3, abs=1e-10)


def test_the_learning_rate_is_continuous_at_the_peak():
    found = [float(optim.schedule(CONFIG)(step)) for step in range(14)]
    expected = [0.01 * min(step / 4, max(12 - step, 0) / 8) for step in range(14)]
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_without_warm_up_the_peak_comes_first():
    schedule = optim.schedule(dataclasses.replace(CONFIG, warmup_steps=0))
    np.testing.assert_allclose([float(schedule(step)) for step in (0, 6, 12)], [0.01, 0.005, 0.0], atol=1e-8)


def test_warm_up_to_the_end():
    schedule = optim.schedule(dataclasses.replace(CONFIG, warmup_steps=12))
    np.testing.assert_allclose([float(schedule(step)) for step in (0, 6, 11)], [0.0, 0.005, 0.01 * 11 / 12], atol=1e-8)


def test_what_decays(params):
    decays = _named(optim.decays(params))
    undecayed = {name for name, decayed in decays.items() if not decayed}
    layer_norms = {name for name in decays if "layer_norm" in name}
    biases = {name for name in decays if name.endswith("bias")}
    assert len(layer_norms) == 6
    assert undecayed == layer_norms | biases
    assert {"encoder/embeddings/token", "encoder/embeddings/position", "classifier/kernel"} <= set(decays) - undecayed


@pytest.mark.parametrize("size", [1e-3, 1.0], ids=["below the clipping norm", "above the clipping norm"])
def test_adamw_is_that_of_the_equations(params, size):
    """Loshchilov and Hutter (2019), algorithm 2, after clipping by the norm over all arrays together."""
    optimizer = optim.adamw(CONFIG)
    state = optimizer.init(params)
    found = params
    slow = {name: value.astype(np.float64) for name, value in _named(params).items()}
    first = {name: np.zeros_like(value) for name, value in slow.items()}
    second = {name: np.zeros_like(value) for name, value in slow.items()}
    update = jax.jit(optimizer.update)
    clipped = False
    for step in range(6):
        gradients = _gradients(params, step, size)
        updates, state = update(gradients, state, found)
        found = optax.apply_updates(found, updates)

        g = {name: value.astype(np.float64) for name, value in _named(gradients).items()}
        norm = np.sqrt(sum((value**2).sum() for value in g.values()))
        clipped |= norm > CONFIG.clip_norm
        rate = 0.01 * min(step / 4, (12 - step) / 8)
        for name, value in g.items():
            value = value / max(norm / CONFIG.clip_norm, 1.0)
            first[name] = 0.9 * first[name] + 0.1 * value
            second[name] = 0.98 * second[name] + 0.02 * value**2
            direction = first[name] / (1 - 0.9 ** (step + 1))
            direction /= np.sqrt(second[name] / (1 - 0.98 ** (step + 1))) + CONFIG.epsilon
            decay = 0.0 if name.endswith(("bias", "scale")) else CONFIG.weight_decay
            slow[name] -= rate * (direction + decay * slow[name])
    assert clipped == (size == 1.0)
    for name, value in _named(found).items():
        np.testing.assert_allclose(value, slow[name], atol=2e-5, err_msg=name)


@pytest.mark.parametrize("size", [1e-3, 1.0], ids=["below the clipping norm", "above the clipping norm"])
@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (4, 8)], ids=["one step", "several steps"])
def test_adamw_is_that_of_pytorch(params, size, warmup, steps):
    """The same gradients through `torch.optim.AdamW` with two param groups, and torch's clipping before it."""
    torch = pytest.importorskip("torch", reason="needs PyTorch, which is in the interop extra")
    config = dataclasses.replace(CONFIG, warmup_steps=warmup)
    theirs = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, value in _named(params).items()}
    undecayed = {name for name in theirs if name.endswith(("bias", "scale"))}
    adamw = torch.optim.AdamW(
        [
            {"params": [theirs[name] for name in theirs if name not in undecayed], "weight_decay": config.weight_decay},
            {"params": [theirs[name] for name in theirs if name in undecayed], "weight_decay": 0.0},
        ],
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
    )
    optimizer = optim.adamw(config)
    update, ours, state = jax.jit(optimizer.update), params, optimizer.init(params)
    for step in range(steps):
        before, gradients = ours, _gradients(params, step, size)
        updates, state = update(gradients, state, ours)
        ours = optax.apply_updates(ours, updates)

        for name, value in _named(gradients).items():
            theirs[name].grad = torch.from_numpy(value.copy())
        torch.nn.utils.clip_grad_norm_(list(theirs.values()), config.clip_norm)
        rate = 0.01 * (step / warmup if step < warmup else (12 - step) / (12 - warmup))
        for group in adamw.param_groups:
            group["lr"] = rate
        adamw.step()
    assert not np.array_equal(before["classifier"]["kernel"], ours["classifier"]["kernel"])
    # A few units in the last place of params of up to 1.
    for name, value in _named(ours).items():
        np.testing.assert_allclose(value, theirs[name].detach().numpy(), rtol=1e-6, atol=5e-7, err_msg=name)


def test_without_gradients_only_the_decay_is_left(params):
    optimizer = optim.adamw(dataclasses.replace(CONFIG, warmup_steps=0))
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(optimizer.update)(zeros, optimizer.init(params), params)
    for name, update in _named(updates).items():
        decays = not name.endswith(("bias", "scale"))
        expected = -0.01 * CONFIG.weight_decay * _named(params)[name] if decays else np.zeros_like(update)
        np.testing.assert_allclose(update, expected, atol=1e-9, err_msg=name)


def test_frozen_params_stay_and_do_not_count(params):
    """The trained ones move as if the others did not exist."""
    trained = ("pooler", "classifier")
    optimizer = optim.adamw(CONFIG, trained)
    alone = optim.adamw(CONFIG)
    part = {name: params[name] for name in trained}
    state, alone_state = optimizer.init(params), alone.init(part)
    assert sum(x.size for x in jax.tree.leaves(state)) < 3 * sum(x.size for x in jax.tree.leaves(part))
    whole = params
    update, update_alone = jax.jit(optimizer.update), jax.jit(alone.update)
    for step in range(3):
        gradients = _gradients(params, step, 1.0)
        updates, state = update(gradients, state, whole)
        whole = optax.apply_updates(whole, updates)
        updates, alone_state = update_alone({name: gradients[name] for name in trained}, alone_state, part)
        part = optax.apply_updates(part, updates)
    for name, value in _named(params["encoder"]).items():
        np.testing.assert_array_equal(_named(whole["encoder"])[name], value, err_msg=name)
    for name, value in _named(part).items():
        np.testing.assert_allclose(_named(whole)[name], value, rtol=1e-6, atol=1e-7, err_msg=name)
        assert not np.array_equal(value, _named(params)[name]), name


def test_all_trained_is_as_none_named(params):
    gradients = _gradients(params, 0, 1.0)
    everything, named = optim.adamw(CONFIG), optim.adamw(CONFIG, tuple(params))
    a, _ = jax.jit(everything.update)(gradients, everything.init(params), params)
    b, _ = jax.jit(named.update)(gradients, named.init(params), params)
    for name, value in _named(a).items():
        np.testing.assert_allclose(value, _named(b)[name], rtol=1e-6, atol=1e-9, err_msg=name)
