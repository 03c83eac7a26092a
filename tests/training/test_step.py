"""The training step: accumulation changes nothing, keys follow the step, and the old state is given away."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax import masking, optim, sharding
from dnabert_jax.config import MaskingConfig, MeshConfig, OptimizerConfig
from dnabert_jax.model.heads import MaskedLanguageModel
from dnabert_jax.objectives import masked_lm
from dnabert_jax.training import state, step
from tests import tiny

MASKING = MaskingConfig(rate=0.3, late_rate=0.3)
OPTIMIZER = OptimizerConfig(learning_rate=0.05, warmup_steps=0, decay_steps=10, clip_norm=0.5)
# Rows of very different length, so that a mean of means over parts is not the mean over the batch.
BATCH = {
    name: jnp.asarray(value)
    for name, value in tiny.rows([[60], [5], [20, 20], [5, 5], [58], [6], [40], [7, 9]], 64).items()
}
KEY = jax.random.key(1)  # also what `make_step` takes for its seed


def _model_loss(config):
    model = MaskedLanguageModel(config)

    def loss(params, batch, key):
        inputs = (batch.tokens, batch.segment_ids, batch.positions, batch.slots)
        logits = model.apply({"params": params}, *inputs, deterministic=False, rngs={"dropout": key})
        return masked_lm.loss(logits, batch, config.k)

    return loss


def _prepare(batch, key, number):
    masked = masking.mask(key, batch, MASKING, k=3, step=number)
    return masked, jnp.sum(masked.weights)


def _init(key):
    row = jnp.zeros((1, 64), jnp.int32)
    return MaskedLanguageModel(tiny.ENCODER).init(key, row, row, row, row[:, :1], deterministic=True)["params"]


@pytest.fixture(scope="module")
def mesh():
    with sharding.use(sharding.make_mesh(MeshConfig())) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def training(mesh):
    """(make a state, make a step) for the tiny masked-LM model without dropout."""
    optimizer = optim.adamw(OPTIMIZER)
    like = state.layout(_init, optimizer, KEY, mesh)
    loss = _model_loss(tiny.without_dropout())

    def make_step(parts, seed=1):
        return step.make(
            loss,
            _prepare,
            optimizer,
            optim.schedule(OPTIMIZER),
            parts=parts,
            key=jax.random.key(seed),
            mesh=mesh,
            shardings=state.shardings(like),
        )

    start = jax.device_get(state.create(_init, optimizer, KEY, like))
    return lambda: jax.device_put(start, state.shardings(like)), functools.cache(make_step)


@pytest.fixture(scope="module")
def whole(training):
    """Two steps on the batch in one part: (states on the host, sums)."""
    return _two_steps(training, 1)


def _two_steps(training, parts):
    make_state, make_step = training
    current, run = make_state(), make_step(parts)
    states, sums = [], []
    for _ in range(2):
        current, found = run(current, BATCH)
        states.append(jax.device_get(current))
        sums.append(jax.device_get(found))
    return states, sums


def _assert_close(found, expected, tolerance):
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=jax.tree_util.keystr(path))


def _linear_loss(params, batch, key):
    """Σ w·(x·p)² over rows: its gradient can be written down."""
    fit = batch["x"] @ params["p"]
    total = jnp.sum(batch["w"] * fit**2)
    return total, {"loss": total, "rows": jnp.sum(batch["w"])}


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_accumulated_gradients_are_those_of_the_whole_batch(parts):
    generator = np.random.default_rng(0)
    x, w, p = generator.normal(size=(8, 5)), generator.integers(0, 3, 8).astype(float), generator.normal(size=5)
    batch = {"x": jnp.asarray(x, jnp.float32), "w": jnp.asarray(w, jnp.float32)}
    gradients, sums = step.accumulate(_linear_loss, {"p": jnp.asarray(p, jnp.float32)}, batch, parts, KEY)
    np.testing.assert_allclose(gradients["p"], 2 * (w * (x @ p)) @ x, rtol=1e-5)
    assert float(sums["loss"]) == pytest.approx(float((w * (x @ p) ** 2).sum()), rel=1e-5)
    assert float(sums["rows"]) == w.sum()


def test_each_part_has_a_key_of_its_own_and_every_row_once():
    def loss(params, batch, key):
        drawn = jax.random.uniform(key)
        return params * drawn, {"keys": drawn, "squares": drawn**2, "rows": jnp.sum(2.0**batch)}

    gradient, sums = jax.jit(lambda: step.accumulate(loss, 1.0, jnp.arange(8), 4, KEY))()
    drawn = [float(jax.random.uniform(jax.random.fold_in(KEY, part))) for part in range(4)]
    assert len(set(drawn)) == 4
    assert float(gradient) == pytest.approx(sum(drawn), rel=1e-6)
    assert float(sums["squares"]) == pytest.approx(sum(each**2 for each in drawn), rel=1e-6)
    assert float(sums["rows"]) == 255


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_trains_as_one_big_batch(training, whole, parts):
    """Weighted by the masked tokens of the whole batch: parts with few of them do not count for more."""
    states, sums = _two_steps(training, parts)
    for found, expected in zip(sums, whole[1]):
        assert set(found) == set(expected)
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=2e-4, err_msg=name)
        assert found["masked"] == expected["masked"]
    # Moments, not params: AdamW's first steps divide a gradient by its own size, however near to nothing it is.
    _assert_close(states[0].optimizer, whole[0][0].optimizer, 2e-5)


def test_the_step_is_that_of_the_mean_loss_over_masked_tokens(training, whole):
    """The same by hand, from the loss of the whole batch divided by its number of masked tokens."""
    make_state, _ = training
    start = make_state()
    prepare_key, loss_key = jax.random.split(jax.random.fold_in(KEY, 0))
    masked, weight = jax.jit(_prepare)(BATCH, prepare_key, 0)
    loss = _model_loss(tiny.without_dropout())
    mean = jax.jit(jax.value_and_grad(lambda params: loss(params, masked, loss_key)[0] / weight))
    value, gradients = mean(start.params)
    sums = whole[1][0]
    assert float(weight) == sums["masked"] > 20
    assert sums["loss"] / sums["masked"] == pytest.approx(float(value), rel=1e-5)
    norm = np.sqrt(sum((np.asarray(g, np.float64) ** 2).sum() for g in jax.tree.leaves(gradients)))
    assert sums["gradient_norm"] == pytest.approx(norm, rel=1e-4)
    assert sums["gradient_norm"] > OPTIMIZER.clip_norm  # reported as it is, before clipping
    scale = OPTIMIZER.clip_norm / norm
    first_moment = whole[0][0].optimizer[1][0].mu
    _assert_close(first_moment, jax.tree.map(lambda g: (1 - OPTIMIZER.beta1) * scale * np.asarray(g), gradients), 1e-6)


def test_steps_are_counted_and_their_learning_rate_reported(whole):
    states, sums = whole
    assert [int(each.step) for each in states] == [1, 2]
    np.testing.assert_allclose([each["learning_rate"] for each in sums], [0.05, 0.045], rtol=1e-6)


def test_each_step_masks_anew_from_its_number_alone(training, whole):
    """A run that begins at step 1 draws what an uninterrupted one draws there; nothing is carried."""
    make_state, make_step = training
    states, sums = whole
    assert sums[0]["masked"] != sums[1]["masked"]
    resumed = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), states[0], make_state())
    after, found = make_step(1)(resumed, BATCH)
    assert jax.tree.all(jax.tree.map(np.array_equal, jax.device_get(after), states[1]))
    assert jax.tree.all(jax.tree.map(np.array_equal, jax.device_get(found), sums[1]))


def test_another_key_masks_otherwise(training, whole):
    make_state, make_step = training
    _, sums = make_step(1, 2)(make_state(), BATCH)
    assert float(sums["loss"]) != whole[1][0]["loss"]


def test_the_old_state_is_given_away(training):
    make_state, make_step = training
    old = make_state()
    new, _ = make_step(1)(old, BATCH)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old.params))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(new))


def test_a_batch_without_a_masked_token_leaves_no_nan(training):
    make_state, make_step = training
    empty = jax.tree.map(jnp.zeros_like, BATCH)
    new, sums = make_step(1)(make_state(), empty)
    assert float(sums["masked"]) == 0
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves((new, sums)))
