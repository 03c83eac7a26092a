"""What is taken over from another model is that model's, bit for bit; what is not is said."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from dnabert_jax.config import EncoderConfig, ModelConfig
from dnabert_jax.errors import InputError
from dnabert_jax.model.heads import initializer
from dnabert_jax.stored import Stored
from dnabert_jax.training import transfer
from tests import tiny
from tests.training import runs

TWO = ModelConfig(tiny.ENCODER, "single_label", ("0", "1"))
MASKED_LM = ModelConfig(tiny.ENCODER, "masked_lm")


def params_of(config: ModelConfig, seed: int) -> dict[str, Any]:
    return nn.unbox(jax.jit(initializer(config))(jax.random.key(seed)))


def taken(source: ModelConfig, config: ModelConfig) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], list[str]]:
    """Params of the source, of the run before, of the run after, and what was said."""
    there, here, said = jax.device_get(params_of(source, 1)), params_of(config, 2), []
    found = transfer.take_over(Stored(source, there, "step 7"), "other", config, here, said.append)
    assert jax.tree.structure(found) == jax.tree.structure(here)
    assert [x.shape for x in jax.tree.leaves(found)] == [x.shape for x in jax.tree.leaves(here)]
    return there, here, found, said


def same(a: Any, b: Any) -> None:
    runs.assert_same_bits(runs.arrays(a), runs.arrays(b))


def test_an_encoder_under_a_new_head():
    there, here, found, said = taken(MASKED_LM, TWO)
    same(found["encoder"], there["encoder"])
    same({name: found[name] for name in ("pooler", "classifier")}, {n: here[n] for n in ("pooler", "classifier")})
    encoder = sum(x.size for x in jax.tree.leaves(there["encoder"]))
    assert said[0].startswith("loaded from other (step 7): encoder (")
    assert f"{encoder:,} params" in said[0]
    assert said[1].startswith("new: classifier (2 arrays, 66 params), pooler")
    assert said[2] == "mlm_head of other is not taken: this model has none"


def test_pretraining_that_goes_on():
    there, _, found, said = taken(MASKED_LM, MASKED_LM)
    same(found, there)
    assert len(said) == 1


def test_the_same_classes_keep_their_classifier():
    there, _, found, _ = taken(TWO, TWO)
    same(found, there)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (dataclasses.replace(TWO, classes=("a", "b", "c")), "it has 2 (0, 1), the data 3 (a, b, c)"),
        (dataclasses.replace(TWO, classes=("1", "0")), "it has 2 (0, 1), the data 2 (1, 0)"),
        (dataclasses.replace(TWO, head="multi_label"), "it is one of single_label, this is multi_label"),
        (
            dataclasses.replace(TWO, join="concatenate", pieces=2),
            "it reads 1 pieces by mean, this one 2 by concatenate",
        ),
        (dataclasses.replace(TWO, pool="mean"), "it reads the pooled cls, this one the pooled mean"),
    ],
)
def test_other_outputs_get_a_new_classifier(config: ModelConfig, why: str):
    there, here, found, said = taken(TWO, config)
    same({name: found[name] for name in ("encoder", "pooler")}, {name: there[name] for name in ("encoder", "pooler")})
    same(found["classifier"], here["classifier"])
    assert said[0] == f"the classifier of other is not taken: {why}"


def test_positions_are_repeated_or_cut():
    longer = ModelConfig(dataclasses.replace(tiny.ENCODER, max_length=150), "masked_lm")
    there, _, found, said = taken(MASKED_LM, longer)
    table = there["encoder"]["embeddings"]["position"]
    expected = np.stack([table[row % 64] for row in range(150)])
    np.testing.assert_array_equal(found["encoder"]["embeddings"]["position"], expected)
    assert said[0] == "positions: 64 rows became 150, repeating them from the first"
    shorter = ModelConfig(dataclasses.replace(tiny.ENCODER, max_length=40), "masked_lm")
    there, _, found, said = taken(MASKED_LM, shorter)
    np.testing.assert_array_equal(
        found["encoder"]["embeddings"]["position"], there["encoder"]["embeddings"]["position"][:40]
    )
    assert said[0] == "positions: the first 40 of 64 rows are used"


def test_rotary_positions_need_no_fitting():
    rotary = dataclasses.replace(tiny.ENCODER, positions="rotary")
    longer = dataclasses.replace(rotary, max_length=150)
    there, _, found, said = taken(ModelConfig(rotary, "masked_lm"), ModelConfig(longer, "masked_lm"))
    same(found, there)
    assert len(said) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 4}, "encoder.k is 4, but the model in other has 3; expected"),
        ({"heads": 2}, "encoder.heads is 2, but the model in other has 4; expected"),
        (
            {"hidden": 64, "layers": 3},
            "encoder.layers is 3, but the model in other has 2 (and hidden differ); expected",
        ),
        ({"positions": "rotary"}, "encoder.positions is rotary, but the model in other has learned; expected"),
    ],
)
def test_another_encoder_is_an_error(changes: dict[str, Any], message: str):
    asked: EncoderConfig = dataclasses.replace(tiny.ENCODER, **changes)
    with pytest.raises(InputError) as caught:
        transfer.check_same_encoder(asked, Stored(MASKED_LM, {}, ""), "other")
    assert str(caught.value).startswith(message)


def test_what_does_not_make_another_model_may_differ():
    asked = dataclasses.replace(
        tiny.ENCODER, max_length=99, compute_dtype="bfloat16", hidden_dropout=0.0, remat="full", scan_layers=False
    )
    transfer.check_same_encoder(asked, Stored(MASKED_LM, {}, ""), "other")
