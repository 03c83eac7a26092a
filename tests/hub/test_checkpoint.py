"""Hugging Face folders as models and back: the same bits, every tensor accounted for, and errors that name them."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy

from dnabert_jax import hub, kmers, stored
from dnabert_jax.config import ModelConfig
from dnabert_jax.errors import InputError
from dnabert_jax.hub import checkpoint, names
from tests.hub import models

HIDDEN = models.config("none").encoder.hidden


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "model"


def put(folder, head="masked_lm", **options):
    """Writes a random model; its config and params."""
    config = models.config(head)
    params = models.random_params(config, **options)
    hub.write(folder, config, params)
    return config, params


def tensors_of(folder):
    return safetensors.numpy.load_file(folder / "model.safetensors")


def put_tensors(folder, tensors):
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")


def change_config(folder, **values):
    file = folder / "config.json"
    kept = {name: value for name, value in (json.loads(file.read_text()) | values).items() if value is not None}
    file.write_text(json.dumps(kept))


def refusal(folder, **options):
    with pytest.raises(InputError) as caught:
        hub.read(folder, pytest.fail, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.parametrize("head", models.HEADS)
def test_export_and_import_are_the_identity(folder, tmp_path, head):
    config, params = put(folder, head)
    found, arrays, origin = hub.read(folder, pytest.fail)
    assert found == config
    assert origin == models.ARCHITECTURES[head]
    models.assert_same(arrays, params)
    hub.write(tmp_path / "again", found, arrays)
    for file in folder.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
    assert sorted(each.name for each in folder.iterdir()) == sorted(hub.FILES)


def test_a_pooler_of_a_bare_encoder_is_kept(folder):
    config, params = put(folder, "none", pooler=True)
    assert "pooler.dense.weight" in tensors_of(folder)
    found, arrays, _ = hub.read(folder, pytest.fail)
    assert found == config
    models.assert_same(arrays, params)


def test_pieces_are_kept(folder):
    config = dataclasses.replace(models.config("single_label"), pieces=4)
    hub.write(folder, config, models.random_params(config))
    assert hub.read(folder, pytest.fail)[0] == config


def old_names(tensors):
    old = {}
    for name, tensor in tensors.items():
        name = name.replace(".LayerNorm.weight", ".LayerNorm.gamma").replace(".LayerNorm.bias", ".LayerNorm.beta")
        old[name] = tensor
    return old


def without_prefix(tensors):
    return {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}


def with_copies(tensors):
    buffers = {
        "bert.embeddings.position_ids": np.arange(64)[None],
        "bert.embeddings.token_type_ids": np.zeros((1, 64), np.int64),
    }
    decoder = {
        "cls.predictions.decoder.weight": tensors[names.WORD_EMBEDDINGS],
        "cls.predictions.decoder.bias": tensors[names.MLM_BIAS],
    }
    return tensors | buffers | decoder


def with_the_bias_in_the_decoder(tensors):
    tensors = dict(tensors)
    return tensors | {"cls.predictions.decoder.bias": tensors.pop(names.MLM_BIAS)}


@pytest.mark.parametrize("change", [old_names, without_prefix, with_copies, with_the_bias_in_the_decoder])
def test_other_names_of_the_same_tensors(folder, change):
    config, params = put(folder)
    put_tensors(folder, change(tensors_of(folder)))
    found, arrays, _ = hub.read(folder, pytest.fail)
    assert found == config
    models.assert_same(arrays, params)


def test_a_folder_of_dnaberts_time(folder):
    """gamma and beta, a pooler, a tied decoder without bias, an old config, and a pickle in the old format."""
    torch = pytest.importorskip("torch", reason="needs PyTorch, which is in the interop extra")
    config, params = put(folder)
    tensors = with_copies(old_names(tensors_of(folder)))
    del tensors["cls.predictions.decoder.bias"]
    for name, shape in zip(names.POOLER, ((HIDDEN, HIDDEN), (HIDDEN,))):
        tensors[name] = np.ones(shape, np.float32)
    (folder / "model.safetensors").unlink()
    kept = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    torch.save(kept, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    change_config(folder, architectures=None, model_type=None, num_labels=2, finetuning_task=None, split=10, rnn="lstm")
    said = []
    found, arrays, origin = hub.read(folder, said.append)
    assert (found, origin) == (config, "BertForMaskedLM")
    models.assert_same(arrays, params)
    assert len(said) == 1
    assert "bert.pooler.dense.weight, bert.pooler.dense.bias" in said[0]


def test_a_config_with_layers_beyond_measure(folder):
    put(folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"num_hidden_layers": 10**30}))
    assert "num_hidden_layers is 1" in refusal(folder)


def test_an_untied_decoder_is_kept(folder, tmp_path):
    config, params = put(folder)
    tensors = with_copies(tensors_of(folder))
    tensors[names.DECODER] = np.nextafter(tensors[names.DECODER], np.float32(9))
    put_tensors(folder, tensors)
    found, arrays, _ = hub.read(folder, pytest.fail)
    assert found == dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, tied_decoder=False))
    decoder = arrays["mlm_head"].pop("decoder")
    assert decoder.tobytes() == tensors[names.DECODER].tobytes()
    models.assert_same(arrays, params)
    arrays["mlm_head"]["decoder"] = decoder
    hub.write(tmp_path / "again", found, arrays)
    models.assert_same(hub.read(tmp_path / "again", pytest.fail)[1], arrays)
    stored.write(tmp_path / "converted", found, arrays)
    models.assert_same(stored.read(tmp_path / "converted", pytest.fail).params, arrays)


def test_two_biases_of_the_decoder_are_an_error_unless_asked_for(folder):
    _, params = put(folder)
    copy = "cls.predictions.decoder.bias"
    tensors = with_copies(tensors_of(folder))
    tensors[copy] = np.nextafter(tensors[copy], np.float32(9))
    put_tensors(folder, tensors)
    message = refusal(folder)
    assert f"tensor {copy} is not the same as" in message
    assert "--lenient" in message
    said = []
    models.assert_same(hub.read(folder, said.append, strict=False)[1], params)
    assert copy in said[0]


def test_what_is_left_over_is_named_and_an_error_unless_asked_for(folder):
    config, params = put(folder, "single_label")
    extra = {
        "bert.encoder.layer.2.output.dense.bias": np.zeros(HIDDEN, np.float32),
        "rnn.weight": np.zeros(2, np.float32),
    }
    put_tensors(folder, tensors_of(folder) | extra)
    message = refusal(folder)
    assert all(name in message for name in extra)
    said = []
    found, arrays, _ = hub.read(folder, said.append, strict=False)
    assert found == config
    models.assert_same(arrays, params)
    assert len(said) == 1
    assert all(name in said[0] for name in extra)


@pytest.mark.parametrize("strict", [True, False])
def test_what_is_missing_of_the_encoder_is_always_an_error(folder, strict):
    put(folder)
    lost = ["bert.encoder.layer.1.attention.self.key.bias", "bert.embeddings.LayerNorm.weight", names.MLM_BIAS]
    put_tensors(folder, {name: tensor for name, tensor in tensors_of(folder).items() if name not in lost})
    message = refusal(folder, strict=strict)
    assert "lacks tensors of BertForMaskedLM" in message
    assert all(name in message for name in lost)


@pytest.mark.parametrize(
    ("head", "lost", "with_pooler"),
    [
        ("masked_lm", {names.MLM_BIAS}, False),
        ("single_label", {"classifier.weight", "classifier.bias"}, True),
        ("single_label", {*names.POOLER}, False),
        ("per_base", {"classifier.weight"}, False),
    ],
)
def test_without_its_whole_head_a_model_is_a_bare_encoder_if_asked_for(folder, head, lost, with_pooler):
    config, params = put(folder, head)
    put_tensors(folder, {name: tensor for name, tensor in tensors_of(folder).items() if name not in lost})
    message = refusal(folder)
    assert all(name in message for name in lost)
    assert "--lenient" in message
    said = []
    found, arrays, origin = hub.read(folder, said.append, strict=False)
    assert found == ModelConfig(config.encoder)
    assert origin == "BertModel"
    models.assert_same(arrays, {name: params[name] for name in ("encoder", *["pooler"] * with_pooler)})
    assert "bare encoder" in said[0]


def test_half_a_pooler_is_missing_the_other_half(folder):
    put(folder, "none", pooler=True)
    put_tensors(folder, {name: tensor for name, tensor in tensors_of(folder).items() if name != "pooler.dense.bias"})
    assert "lacks tensors of BertModel: bert.pooler.dense.bias" in refusal(folder)


def test_a_tensor_under_two_names(folder):
    put(folder)
    tensors = tensors_of(folder)
    put_tensors(folder, tensors | old_names(tensors))
    assert "under two names" in refusal(folder)


def test_shapes_that_differ_are_both_named(folder):
    put(folder)
    change_config(folder, max_position_embeddings=48)
    message = refusal(folder)
    assert f"bert.embeddings.position_embeddings.weight has shape (64, {HIDDEN}); expected (48, {HIDDEN})" in message


def test_whole_numbers_are_no_weights(folder):
    put(folder)
    tensors = tensors_of(folder)
    put_tensors(folder, tensors | {names.MLM_BIAS: tensors[names.MLM_BIAS].astype(np.int32)})
    assert f"tensor {names.MLM_BIAS} holds int32; expected floating-point numbers" in refusal(folder)


def test_another_order_of_the_vocabulary_can_be_undone(folder):
    config, params = put(folder)
    order = np.random.default_rng(0).permutation(config.encoder.vocabulary_size)
    tokens = kmers.vocabulary(config.encoder.k)
    (folder / "vocab.txt").write_text("".join(f"{tokens[i]}\n" for i in order))
    tensors = tensors_of(folder)
    for name in (names.WORD_EMBEDDINGS, names.MLM_BIAS):
        tensors[name] = tensors[name][order]
    put_tensors(folder, with_copies(tensors))
    assert "--permute-vocabulary" in refusal(folder)
    said = []
    found, arrays, _ = hub.read(folder, said.append, permute=True)
    assert found == config
    models.assert_same(arrays, params)
    assert len(said) == 1


def test_a_config_that_is_not_berts(folder):
    put(folder)
    change_config(folder, model_type="gpt2")
    assert "is a config that is not BERT's: model_type is 'gpt2'" in refusal(folder)


def test_no_config(folder):
    put(folder)
    (folder / "config.json").unlink()
    assert "config.json: cannot be read" in refusal(folder)


def test_params_of_another_model_are_not_written(folder):
    config = models.config("single_label")
    params = models.random_params(config)
    wide = dataclasses.replace(config, classes=("a", "b"))
    with pytest.raises(InputError, match=r"param classifier/kernel has shape \(32, 3\); expected \(32, 2\)"):
        hub.write(folder, wide, params)
    with pytest.raises(InputError, match=r"param classifier/kernel has shape none; expected \(32, 3\)"):
        hub.write(folder, config, {name: tree for name, tree in params.items() if name != "classifier"})
    with pytest.raises(InputError, match=r"param pooler/\w+ has shape \(32.*\); expected none"):
        hub.write(folder, dataclasses.replace(config, head="per_base"), params)
    assert not folder.exists()


def test_what_users_of_transformers_should_know():
    bare = models.config("none")
    assert "add_pooling_layer=False" in checkpoint.caveats(bare, models.random_params(bare))[0]
    assert not checkpoint.caveats(bare, models.random_params(bare, pooler=True))
    pieces = dataclasses.replace(models.config("single_label"), pieces=3)
    assert "up to 3" in checkpoint.caveats(pieces, {})[0]
