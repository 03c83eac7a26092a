"""The formula agrees with what XLA counts in the programs that it compiles, where there is nothing but useful work."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax import optim, sharding
from dnabert_jax.bench import flops
from dnabert_jax.config import EncoderConfig, MeshConfig, ModelConfig, OptimizerConfig, PretrainConfig
from dnabert_jax.masking import MaskedBatch
from dnabert_jax.model.encoder import Attention, FeedForward
from dnabert_jax.model.heads import SequenceClassifier, initializer
from dnabert_jax.training import state, step
from dnabert_jax.training.pretrain import masked_lm_loss

ROWS, LENGTH = 4, 128
ENCODER = EncoderConfig(
    k=4,
    layers=2,
    hidden=512,  # so large that nearly all of the work is products
    heads=4,
    intermediate=2048,
    max_length=LENGTH,
    hidden_dropout=0.0,  # XLA counts the integer arithmetic of its masks
    attention_dropout=0.0,
    compute_dtype="float32",
    attention="xla",
    scan_layers=False,  # XLA counts the body of a loop once
)
CONFIG = PretrainConfig(batch_size=ROWS, row_length=LENGTH, encoder=ENCODER)
FULL = np.full(ROWS, LENGTH)
CLOSE = 0.05


def test_the_forward_pass_of_the_masked_language_model():
    loss = masked_lm_loss(CONFIG)
    found = counted(lambda params, batch: loss(params, batch, jax.random.key(0))[0], params("masked_lm"), batch())
    assert flops.encoder(ENCODER, FULL) + flops.masked_lm_head(ENCODER, ROWS * LENGTH) == pytest.approx(
        found, rel=CLOSE
    )


def test_a_training_step_of_the_masked_language_model():
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    optimizer, key = optim.adamw(OptimizerConfig()), jax.random.key(0)
    with sharding.use(mesh):
        like = state.layout(initializer(ModelConfig(ENCODER, "masked_lm")), optimizer, key, mesh)
        program = step.make(
            masked_lm_loss(CONFIG),
            lambda batch, key, step: (batch, jnp.sum(batch.weights)),
            optimizer,
            optim.schedule(OptimizerConfig()),
            parts=1,
            key=key,
            mesh=mesh,
            shardings=state.shardings(like),
        )
        found = program.lower(like, batch()).compile().cost_analysis()["flops"]
    forward = flops.encoder(ENCODER, FULL) + flops.masked_lm_head(ENCODER, ROWS * LENGTH)
    assert flops.training(forward) == pytest.approx(found, rel=CLOSE)


def test_a_sequence_classifier():
    config = ModelConfig(ENCODER, "single_label", ("no", "yes"))
    model = SequenceClassifier(config)

    def logits(params, *rows):
        return model.apply({"params": params}, *rows, deterministic=True)

    found = counted(logits, params("single_label", config.classes), *[ints(ROWS, LENGTH)] * 3)
    assert flops.encoder(ENCODER, FULL) + flops.classifier_head(ENCODER, ROWS, 2) == pytest.approx(found, rel=CLOSE)


def test_the_attention_and_the_feed_forward_block_of_a_layer():
    states = jax.ShapeDtypeStruct((ROWS, LENGTH, ENCODER.hidden), jnp.float32)
    attention, feed_forward = Attention(ENCODER), FeedForward(ENCODER)

    def attend(params, x, segment_ids):
        return attention.apply(params, x, segment_ids, None, deterministic=True)

    def start(key, x, segment_ids):
        return attention.init(key, x, segment_ids, None, deterministic=True)

    attention_params = nn.unbox(jax.eval_shape(start, jax.random.key(0), states, ints(ROWS, LENGTH)))
    found = counted(attend, attention_params, states, ints(ROWS, LENGTH))
    assert of_one_layer(intermediate=0) == pytest.approx(found, rel=CLOSE)

    found = counted(feed_forward.apply, nn.unbox(jax.eval_shape(feed_forward.init, jax.random.key(0), states)), states)
    assert of_one_layer() - of_one_layer(intermediate=0) == pytest.approx(found, rel=CLOSE)


def test_the_heads_alone():
    h, v = ENCODER.hidden, ENCODER.vocabulary_size
    assert flops.masked_lm_head(ENCODER, 7) == products((7, h, h), (7, h, v))
    assert flops.classifier_head(ENCODER, 5, 3) == products((5, h, h), (5, h, 3))


def test_segments_count_by_themselves_and_padding_does_not():
    def slowly(lengths):
        h, f = ENCODER.hidden, ENCODER.intermediate
        a_head = h // ENCODER.heads
        return ENCODER.layers * sum(
            products((n, h, 3 * h), (n, h, h), (n, h, f), (n, f, h))
            + ENCODER.heads * products((n, a_head, n), (n, n, a_head))
            for n in lengths
        )

    for lengths in ([128], [100, 28], [3, 5, 7], []):
        assert flops.encoder(ENCODER, np.array(lengths, np.int32)) == slowly(lengths)
    assert flops.encoder(ENCODER, np.array([100, 0, 0])) == flops.encoder(ENCODER, np.array([100]))
    # 50,000 segments of 512 tokens: more than 32 bits hold on the way
    many = flops.encoder(ENCODER, np.full(50_000, 512, np.int32))
    assert many == pytest.approx(50_000 * flops.encoder(ENCODER, np.array([512])), rel=1e-12)


def test_how_a_layer_is_computed_changes_nothing():
    for other in ({"scan_layers": True}, {"remat": "full"}, {"positions": "rotary"}, {"heads": 8}):
        assert flops.encoder(dataclasses.replace(ENCODER, **other), FULL) == flops.encoder(ENCODER, FULL)


def products(*shapes: tuple[int, int, int]) -> int:
    return sum(2 * m * k * n for m, k, n in shapes)


def of_one_layer(**changed: int) -> float:
    """FLOPs of the encoder with one layer; `intermediate` 0 leaves the feed-forward block out."""
    config = dataclasses.replace(ENCODER, layers=1)
    for name, value in changed.items():
        object.__setattr__(config, name, value)  # past the validation, which wants more than 0
    return flops.encoder(config, FULL)


def counted(function, *arguments) -> float:
    """XLA's count for the compiled program."""
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


def ints(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def params(head: str, classes: tuple[str, ...] = ()):
    return nn.unbox(jax.eval_shape(initializer(ModelConfig(ENCODER, head, classes)), jax.random.key(0)))


def batch() -> MaskedBatch:
    """Rows without padding, of which every token is asked for and has its slot."""
    row = ints(ROWS, LENGTH)
    return MaskedBatch(
        tokens=row,
        segment_ids=row,
        positions=row,
        original=row,
        masked=jax.ShapeDtypeStruct(row.shape, jnp.bool_),
        slots=row,
        weights=jax.ShapeDtypeStruct(row.shape, jnp.float32),
        unplaced=ints(ROWS),
    )
