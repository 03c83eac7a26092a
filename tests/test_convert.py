"""`dnabert convert`: from every form into every form, with the params bit for bit, and what it refuses."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy

from dnabert_jax import cli, convert, flags, hub, kmers, stored
from dnabert_jax.commands.models import convert as command
from dnabert_jax.errors import InputError
from dnabert_jax.training import pretrain
from tests import tiny
from tests.hub import models
from tests.training import runs


def converted(source, target, form, **options):
    return convert.convert(source, target, form, say=options.pop("say", pytest.fail), **options)


@pytest.mark.parametrize("head", ["masked_lm", "multi_label", "per_base"])
def test_there_and_back_is_the_identity(head, tmp_path):
    config = models.config(head)
    params = models.random_params(config)
    stored.write(tmp_path / "ours", config, params)
    line = converted(tmp_path / "ours", tmp_path / "theirs", "huggingface")
    assert f"head {head}, k = 3, " in line
    assert hub.is_model(tmp_path / "theirs")
    converted(tmp_path / "theirs", tmp_path / "again", "flax")
    found = stored.read(tmp_path / "again", pytest.fail)
    assert found.config == config
    models.assert_same(found.params, params)
    for name in (stored.MODEL, stored.PARAMS):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "ours" / name).read_bytes()


def test_a_pretraining_run(shards, tmp_path):
    config = runs.pretraining(shards, tmp_path / "run", steps=1)
    pretrain.run(config, runs.no_word)
    line = converted(tmp_path / "run", tmp_path / "theirs", "huggingface", say=lambda _: None)
    assert line.endswith(f"from {tmp_path / 'run'} (step 1)")
    found, params, origin = hub.read(tmp_path / "theirs", pytest.fail)
    assert origin == "BertForMaskedLM"
    assert found.encoder == dataclasses.replace(config.encoder, compute_dtype="float32")
    models.assert_same(params, stored.read(tmp_path / "run", pytest.fail).params)


def test_a_hub_id(tmp_path, monkeypatch):
    config = models.config("none")
    params = models.random_params(config)
    hub.write(tmp_path / "cache", config, params)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.model_info", lambda name, timeout: type("Info", (), {"siblings": []}))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(tmp_path / "cache"))
    assert "from someone/DNA_bert_3 (BertModel)" in converted("someone/DNA_bert_3", "ours", "flax")
    models.assert_same(stored.read("ours", pytest.fail).params, params)


def test_what_users_of_transformers_should_know_is_said(tmp_path):
    config = models.config("none")
    stored.write(tmp_path / "ours", config, models.random_params(config))
    said = []
    converted(tmp_path / "ours", tmp_path / "theirs", "huggingface", say=said.append)
    assert "add_pooling_layer=False" in said[0]


def put_permuted(folder):
    """A model whose vocabulary has another order, with a tensor too many; its config and params."""
    config = models.config("masked_lm")
    params = models.random_params(config)
    hub.write(folder, config, params)
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    order = np.arange(config.encoder.vocabulary_size)[::-1]
    tokens = kmers.vocabulary(config.encoder.k)
    (folder / "vocab.txt").write_text("".join(f"{tokens[i]}\n" for i in order))
    for name in ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias"):
        tensors[name] = np.ascontiguousarray(tensors[name][order])
    tensors["more"] = np.zeros(2, np.float32)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    return config, params


def test_permuted_vocabularies_and_tensors_left_over_take_their_flags(tmp_path, capsys):
    config, params = put_permuted(tmp_path / "theirs")
    arguments = [str(tmp_path / "theirs"), str(tmp_path / "ours"), "--to", "flax"]
    for more, words in ([], "--permute-vocabulary"), (["--permute-vocabulary"], "--lenient"):
        with pytest.raises(InputError, match=words):
            flags.call(command, [*arguments, *more], "dnabert convert")
        assert not (tmp_path / "ours").exists()
    capsys.readouterr()
    flags.call(command, [*arguments, "--permute-vocabulary", "--lenient"], "dnabert convert")
    out, err = capsys.readouterr()
    assert out.startswith(f"{tmp_path / 'ours'}: a converted model, head masked_lm, k = 3, ")
    assert len(out.splitlines()) == 1
    assert len(err.splitlines()) == 2
    found = stored.read(tmp_path / "ours", pytest.fail)
    assert found.config == config
    models.assert_same(found.params, params)


@pytest.mark.parametrize("form", ["huggingface", "flax"])
def test_only_a_model_is_replaced_and_only_if_asked_for(tmp_path, form):
    for seed in (0, 1):
        config = models.config("masked_lm")
        stored.write(tmp_path / f"model{seed}", config, models.random_params(config, seed=seed))
    target = tmp_path / "target"
    target.mkdir()
    converted(tmp_path / "model0", target, form)  # an empty folder is as good as none
    with pytest.raises(InputError, match=r"target: is not empty; expected a new folder, or --overwrite"):
        converted(tmp_path / "model1", target, form)
    converted(tmp_path / "model1", target, form, overwrite=True)
    models.assert_same(stored.read(target, pytest.fail).params, stored.read(tmp_path / "model1", pytest.fail).params)
    other = "flax" if form == "huggingface" else "huggingface"
    converted(tmp_path / "model0", target, other, overwrite=True)
    models.assert_same(stored.read(target, pytest.fail).params, stored.read(tmp_path / "model0", pytest.fail).params)
    (target / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"target: holds notes\.txt, which no conversion wrote"):
        converted(tmp_path / "model1", target, form, overwrite=True)
    assert (target / "notes.txt").read_text() == "mine"
    with pytest.raises(InputError, match=r"notes\.txt: Not a directory; expected a new folder"):
        converted(tmp_path / "model1", target / "notes.txt", form)


def test_what_has_no_hugging_face_form_leaves_nothing(tmp_path):
    config = models.config("masked_lm", dataclasses.replace(tiny.ENCODER, positions="rotary"))
    stored.write(tmp_path / "ours", config, models.random_params(config))
    with pytest.raises(InputError, match="no Hugging Face form"):
        converted(tmp_path / "ours", tmp_path / "theirs", "huggingface")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["ours"]


def test_what_is_no_model(tmp_path):
    with pytest.raises(InputError, match="is no model folder"):
        converted(tmp_path, tmp_path / "out", "flax")
    with pytest.raises(InputError, match="there is no such folder"):
        converted(tmp_path / "nowhere", tmp_path / "out", "flax")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(InputError, match="not BERT's"):
        converted(tmp_path, tmp_path / "out", "flax")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "SRC"),
        (["a", "b"], "--to"),
        (["a", "b", "--to", "onnx"], "onnx"),
        (["a", "b", "c", "--to", "flax"], "c"),
    ],
)
def test_bad_flags_take_one_line(arguments, words):
    with pytest.raises(InputError) as caught:
        cli.COMMANDS["convert"]("dnabert convert", arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
