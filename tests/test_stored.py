"""A model keeps its config and its params, bit for bit, in every form, and what is no model says so."""

import dataclasses
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
import safetensors.numpy

from dnabert_jax import hub, stored
from dnabert_jax.config import EncoderConfig, ModelConfig
from dnabert_jax.errors import InputError
from dnabert_jax.model.heads import initializer
from dnabert_jax.training import pretrain
from tests import tiny
from tests.training import runs

ROTARY = dataclasses.replace(tiny.ENCODER, positions="rotary")
HEADS = [
    ModelConfig(tiny.ENCODER, "none"),
    ModelConfig(tiny.ENCODER, "masked_lm"),
    ModelConfig(tiny.ENCODER, "single_label", ("no", "yes"), "concatenate", 3),
    ModelConfig(tiny.ENCODER, "multi_label", ("a", "b", "c")),
    ModelConfig(tiny.ENCODER, "regression", ("value",)),
    ModelConfig(tiny.ENCODER, "per_base", ("E", "I")),
    ModelConfig(ROTARY, "masked_lm"),
]


def random_params(config: ModelConfig, seed: int = 0):
    return jax.device_get(nn.unbox(jax.jit(initializer(config))(jax.random.key(seed))))


def assert_same(found, expected) -> None:
    runs.assert_same_bits(runs.arrays(found), runs.arrays(expected))


@pytest.mark.parametrize("config", HEADS, ids=lambda config: f"{config.head}-{config.encoder.positions}")
def test_a_converted_model_is_the_model(config: ModelConfig, tmp_path: Path):
    params = random_params(config)
    stored.write(tmp_path / "model", config, params)
    found = stored.read(tmp_path / "model", pytest.fail)
    assert found.config == config
    assert_same(found.params, params)
    assert sorted(each.name for each in (tmp_path / "model").iterdir()) == [stored.MODEL, stored.PARAMS]


def test_a_pooler_of_a_bare_encoder_is_kept(tmp_path: Path):
    config = ModelConfig(tiny.ENCODER)
    pooler = random_params(ModelConfig(tiny.ENCODER, "regression", ("value",)))["pooler"]
    params = {**random_params(config), "pooler": pooler}
    stored.write(tmp_path / "model", config, params)
    assert_same(stored.read(tmp_path / "model", pytest.fail).params, params)


def test_a_pretraining_run(shards: Path, tmp_path: Path):
    config = runs.pretraining(shards, tmp_path / "workdir", steps=2)
    pretrain.run(config, runs.no_word)
    found = stored.read(config.workdir, pytest.fail)
    assert found.config == ModelConfig(config.encoder, "masked_lm")
    assert found.origin == "step 2"
    last = {name: array for name, array in runs.final(config)[1].items() if name.startswith("['params']")}
    runs.assert_same_bits(runs.arrays({"params": found.params}), last)


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    config = ModelConfig(tiny.ENCODER, "per_base", ("E", "I"))
    stored.write(tmp_path / "model", config, random_params(config))
    return tmp_path / "model"


def refused(source: str | Path) -> str:
    with pytest.raises(InputError) as caught:
        stored.read(source, pytest.fail)
    message = str(caught.value)
    assert "\n" not in message
    assert "expected" in message
    return message


def test_what_is_no_model(tmp_path: Path, converted: Path):
    assert "is no model folder" in refused(tmp_path)
    assert "is empty" in refused("")
    (tmp_path / "config.json").write_text("{}")
    refused(tmp_path)
    refused(converted / stored.MODEL)


def test_damaged_converted_models(converted: Path):
    whole = (converted / stored.PARAMS).read_bytes()
    (converted / stored.PARAMS).write_bytes(whole[: len(whole) // 2])
    assert str(converted / stored.PARAMS) in refused(converted)
    (converted / stored.PARAMS).unlink()
    assert str(converted / stored.PARAMS) in refused(converted)
    (converted / stored.PARAMS).write_bytes(whole)
    text = (converted / stored.MODEL).read_text()
    (converted / stored.MODEL).write_text(text[:-20])
    assert str(converted / stored.MODEL) in refused(converted)
    (converted / stored.MODEL).write_text(text.replace('"hidden": 32', '"hidden": 16'))
    message = refused(converted)
    assert "(32, 2)" in message
    assert "(16, 2)" in message


def test_a_config_without_its_classes(converted: Path):
    text = (converted / stored.MODEL).read_text()
    (converted / stored.MODEL).write_text(text.replace('"head": "per_base"', '"head": "masked_lm"'))
    assert "classes" in refused(converted)


def test_a_place_that_may_not_be_looked_into():
    assert "cannot be read" in refused("x" * 300)


def test_half_precision_is_read_as_float32_and_clashing_names_are_named(converted: Path):
    arrays = safetensors.numpy.load_file(converted / stored.PARAMS)
    half = {name: array.astype(np.float16) for name, array in arrays.items()}
    safetensors.numpy.save_file(half, converted / stored.PARAMS)
    params = stored.read(converted, pytest.fail).params
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(params))
    safetensors.numpy.save_file({**arrays, "encoder": np.zeros(1, np.float32)}, converted / stored.PARAMS)
    assert "param encoder has shape (1,); expected none" in refused(converted)


def test_writing_replaces_whole_folders(converted: Path):
    config = ModelConfig(dataclasses.replace(tiny.ENCODER, layers=1), "masked_lm")
    params = random_params(config)
    stored.write(converted, config, params)
    assert_same(stored.read(converted, pytest.fail).params, params)


def test_hub_ids_and_folders_go_to_the_hub(monkeypatch: pytest.MonkeyPatch):
    asked = []
    config = ModelConfig(EncoderConfig(k=3))
    monkeypatch.setattr(hub, "read", lambda source, say: asked.append(source) or (config, {}, "BertModel"))
    assert stored.read("someone/some_model", pytest.fail) == stored.Stored(config, {}, "BertModel")
    assert asked == ["someone/some_model"]


def test_params_are_float32_on_the_host(converted: Path):
    params = stored.read(converted, pytest.fail).params
    assert all(isinstance(x, np.ndarray) and x.dtype == np.float32 for x in jax.tree.leaves(params))
