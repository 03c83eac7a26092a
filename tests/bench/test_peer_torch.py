"""The peer's step against ours: with the same params and without dropout both lose the same and step the same way."""

import dataclasses

import jax
import numpy as np
import pytest

from dnabert_jax import optim, sharding
from dnabert_jax.bench import peer
from dnabert_jax.config import DataConfig, MaskingConfig, ModelConfig, OptimizerConfig, PretrainConfig
from dnabert_jax.data import loader
from dnabert_jax.data import shards as datasets
from dnabert_jax.hub import names
from dnabert_jax.model.heads import initializer
from dnabert_jax.training import pretrain, state, step
from tests import tiny

torch = pytest.importorskip("torch", reason="needs PyTorch, which is in the interop extra")
pytest.importorskip("transformers", reason="needs transformers, which is in the interop extra")

from dnabert_jax.bench import peer_torch  # noqa: E402

# The first update of Adam is nearly the sign of the gradient, which rounding turns where it is nearly nothing; a large
# epsilon makes it smooth. The decay is large to be seen in a single step, and the norm small, so that it is clipped.
OPTIMIZER = OptimizerConfig(learning_rate=0.1, warmup_steps=0, epsilon=0.01, weight_decay=0.5, clip_norm=0.5)
CONFIG = PretrainConfig(
    seed=3,
    batch_size=4,
    row_length=64,
    encoder=tiny.without_dropout(),
    masking=MaskingConfig(rate=0.3, late_rate=0.3),
    data=DataConfig(pack=False),
    optimizer=OPTIMIZER,
)
EAGER = peer_torch.Variant("eager", "math")


@pytest.fixture(scope="module")
def split(shards):
    return datasets.open_split(str(shards), "train")


@pytest.fixture(scope="module")
def our_step(split):
    """The first step of a run: (tensors before, sums, tensors after), all under the checkpoint's names."""
    _, step_key = jax.random.split(jax.random.key(CONFIG.seed))
    init = initializer(ModelConfig(CONFIG.encoder, "masked_lm"))
    optimizer, schedule = optim.adamw(OPTIMIZER), optim.schedule(OPTIMIZER)
    loss = pretrain.masked_lm_loss(CONFIG)

    def loss_and_rows(params, batch, key):
        total, sums = loss(params, batch, key)
        return total, sums | {"rows": (batch.tokens, batch.segment_ids > 0, batch.original, batch.masked)}

    with sharding.use(sharding.make_mesh(CONFIG.mesh)) as mesh:
        like = state.layout(init, optimizer, step_key, mesh)
        run = step.make(
            loss_and_rows,
            pretrain.span_masking(CONFIG),
            optimizer,
            schedule,
            parts=1,
            key=step_key,
            mesh=mesh,
            shardings=state.shardings(like),
        )
        current = state.create(init, optimizer, jax.random.key(0), like)
        before = jax.device_get(current.params)
        batch = next(loader.Pretraining(split, CONFIG).batches())
        current, sums = jax.device_get(run(current, sharding.on_device(batch, mesh)))
    return _theirs(before), sums, _theirs(current.params)


def _theirs(params):
    return names.to_theirs(params, names.table(ModelConfig(CONFIG.encoder, "masked_lm"), pooler=False))


def _peer(tensors, **encoder):
    config = dataclasses.replace(CONFIG, encoder=dataclasses.replace(CONFIG.encoder, **encoder))
    found = peer_torch.Peer(config, "cpu")
    # Copies: PyTorch would go on in the arrays that other tests read.
    copied = {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}
    report = found.model.load_state_dict(copied, strict=False)
    assert not report.unexpected_keys
    assert set(report.missing_keys) <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}  # tied
    return found


@pytest.fixture(scope="module")
def rows(split):
    (found,) = peer.masked_rows(CONFIG, split, 1)
    return found


def _batch(of, rows):
    return of.tensors(input_ids=rows.tokens, attention_mask=rows.used, labels=rows.labels)


def test_the_peer_sees_the_tokens_masks_and_labels_of_our_step(our_step, rows):
    tokens, used, original, masked = our_step[1]["rows"]
    np.testing.assert_array_equal(rows.tokens, tokens)
    np.testing.assert_array_equal(rows.used, used)
    np.testing.assert_array_equal(rows.labels, np.where(masked, original, -100))
    assert 0 < masked.sum() < used.sum() < used.size


def test_a_step_of_the_peer_loses_and_learns_what_ours_does(our_step, rows):
    before, sums, after = our_step
    theirs = _peer(before)
    loss = theirs.step(EAGER)(_batch(theirs, rows), OPTIMIZER.learning_rate)
    assert loss == pytest.approx(float(sums["loss"] / sums["masked"]), rel=1e-5)
    assert sums["gradient_norm"] > OPTIMIZER.clip_norm
    found = theirs.model.state_dict()
    for name, expected in after.items():
        # Softmax does not see the bias of keys: its gradient is nothing but rounding errors.
        np.testing.assert_allclose(found[name].numpy(), expected, atol=2e-4, err_msg=name)
        assert name.endswith("key.bias") or np.abs(expected - before[name]).max() > 1e-3


def test_biases_and_layer_norms_do_not_decay(our_step):
    theirs = _peer(our_step[0])
    by_parameter = {id(parameter): name for name, parameter in theirs.model.named_parameters()}
    decays = {
        by_parameter[id(parameter)]: group["weight_decay"]
        for group in theirs.optimizer.param_groups
        for parameter in group["params"]
    }
    assert decays.keys() == set(by_parameter.values())
    for name, parameter in theirs.model.named_parameters():
        assert decays[name] == (OPTIMIZER.weight_decay if parameter.ndim == 2 else 0.0), name


def test_the_peer_drops_hidden_states_and_no_attention_probabilities():
    encoder = dataclasses.replace(CONFIG.encoder, hidden_dropout=0.1, layer_norm_epsilon=1e-7)
    model = peer_torch.bert(encoder)
    assert model.training
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} <= {0.0, 0.1}
    assert model.bert.encoder.layer[0].output.dropout.p == 0.1
    assert model.config.attention_probs_dropout_prob == 0.0
    assert {module.eps for module in model.modules() if isinstance(module, torch.nn.LayerNorm)} == {1e-7}


def test_every_kernel_either_computes_the_same_loss_or_refuses(our_step, rows):
    before, sums, _ = our_step
    theirs = _peer(before)
    losses, reasons = {}, {}
    for kernel in peer_torch.KERNELS:
        try:
            with theirs.computing(peer_torch.Variant("eager", kernel)), torch.no_grad():
                losses[kernel] = float(theirs.loss(_batch(theirs, rows)))
        except RuntimeError as error:
            reasons[kernel] = peer_torch.reason(error, [])
    assert "math" in losses
    assert list(losses.values()) == pytest.approx([float(sums["loss"] / sums["masked"])] * len(losses), rel=1e-5)
    assert not any("\n" in each for each in reasons.values())


def test_products_are_bfloat16_where_the_run_says_so(our_step, rows):
    for dtype in ("float32", "bfloat16"):
        theirs = _peer(our_step[0], compute_dtype=dtype)
        with theirs.computing(EAGER), torch.no_grad():
            logits = theirs.model(**_batch(theirs, rows)).logits
        assert str(logits.dtype) == f"torch.{dtype}"
        assert {parameter.dtype for parameter in theirs.model.parameters()} == {torch.float32}


def test_a_reason_is_one_line_with_what_attention_warned_of():
    error = RuntimeError("No available kernel. Aborting execution.\nmore")
    warned = [
        "Memory efficient kernel not used because: (Triggered internally at a.cpp:1.)",
        "Memory Efficient attention has been runtime disabled. (Triggered internally at a.h:2.)",
        "Flash Attention does not support non-null attn_mask. (Triggered internally at a.h:3.)",
        "another thing is deprecated",
    ]
    assert peer_torch.reason(error, warned) == (
        "No available kernel. Aborting execution.; Flash Attention does not support non-null attn_mask."
    )
    assert peer_torch.reason(RuntimeError(), []) == "RuntimeError"


@pytest.mark.slow
def test_a_compiled_step_loses_what_an_eager_one_does_by_the_kernel_that_was_asked_for(our_step, rows):
    def trained(mode, kernel):
        theirs = _peer(our_step[0])
        run = theirs.step(peer_torch.Variant(mode, kernel))
        batch = _batch(theirs, rows)
        losses = [run(batch, 1e-3) for _ in range(3)]
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            run(batch, OPTIMIZER.learning_rate)
        return losses, any("flash" in event.key for event in profile.key_averages())

    expected, _ = trained("eager", "math")
    # One after another, for a step that was compiled with another kernel could be taken for this one.
    for kernel in ("flash", "math"):
        losses, is_flash = trained("compiled", kernel)
        np.testing.assert_allclose(losses, expected, rtol=1e-3)
        assert is_flash == (kernel == "flash")
