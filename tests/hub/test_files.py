"""Folders, hub ids and the files in them: what is read, with and without PyTorch, and what is damaged."""

import functools
import json
import os
import pickle
import sys
from types import SimpleNamespace

import huggingface_hub
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import filter_repo_objects

from dnabert_jax.errors import InputError
from dnabert_jax.hub import files

TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.linspace(-1, 1, 5, dtype=np.float32),
    "ids": np.arange(4),
}


def assert_read(folder, expected=TENSORS, say=pytest.fail):
    found = files.read_tensors(folder, say)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name], tensor)


def refusal(folder):
    with pytest.raises(InputError) as caught:
        files.read_tensors(folder, pytest.fail)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_safetensors(tmp_path):
    safetensors.numpy.save_file(TENSORS, tmp_path / "model.safetensors")
    assert_read(tmp_path)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_precisions_are_read_as_float32_and_said(tmp_path, kind):
    given = {name: tensor.astype(kind) for name, tensor in TENSORS.items() if name != "ids"}
    safetensors.numpy.save_file(given, tmp_path / "model.safetensors")
    said = []
    assert_read(tmp_path, {name: tensor.astype(np.float32) for name, tensor in given.items()}, said.append)
    assert len(said) == 1
    assert np.dtype(kind).name in said[0]


def sharded(folder, write, first, second, index):
    write({"a": TENSORS["a"]}, folder / first)
    write({"b": TENSORS["b"], "ids": TENSORS["ids"]}, folder / second)
    (folder / index).write_text(json.dumps({"weight_map": {"a": first, "b": second, "ids": second}}))


def test_safetensors_in_several_files(tmp_path):
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json")
    sharded(tmp_path, safetensors.numpy.save_file, *names)
    assert_read(tmp_path)
    (tmp_path / names[1]).unlink()
    assert f"{names[1]}: is missing" in refusal(tmp_path)
    (tmp_path / names[2]).write_text("{}")
    assert "no weight_map" in refusal(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.99])
def test_safetensors_cut_short(tmp_path, share):
    file = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(TENSORS, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    assert "expected a whole safetensors file" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json"])
def test_a_pointer_of_git_lfs(tmp_path, name):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    assert "pointer of Git LFS" in refusal(tmp_path)


def test_no_weights(tmp_path):
    assert "holds no weights; expected model.safetensors or pytorch_model.bin" in refusal(tmp_path)


def save_pickle(tensors, file, **options):
    torch = pytest.importorskip("torch", reason="needs PyTorch, which is in the interop extra")
    torch.save({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, file, **options)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles(tmp_path, zipped):
    file = tmp_path / "pytorch_model.bin"
    save_pickle(TENSORS, file, _use_new_zipfile_serialization=zipped)
    assert_read(tmp_path)
    whole = file.read_bytes()
    for length in (0, 1, 10, 200, len(whole) // 2, len(whole) - 3):
        file.write_bytes(whole[:length])
        assert "expected a whole file with nothing but tensors" in refusal(tmp_path)
    file.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "pointer of Git LFS" in refusal(tmp_path)


def test_pickles_in_several_files(tmp_path):
    names = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "pytorch_model.bin.index.json")
    sharded(tmp_path, save_pickle, *names)
    assert_read(tmp_path)


def test_half_precision_in_a_pickle(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch, which is in the interop extra")
    torch.save({"a": torch.arange(3).to(torch.bfloat16)}, tmp_path / "pytorch_model.bin")
    said = []
    assert_read(tmp_path, {"a": np.arange(3, dtype=np.float32)}, said.append)
    assert "bfloat16" in said[0]


class Harmful:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_a_program_is_refused_unrun(tmp_path, zipped):
    torch = pytest.importorskip("torch", reason="needs PyTorch, which is in the interop extra")
    made = tmp_path / "made"
    if zipped:
        torch.save({"a": Harmful(made)}, tmp_path / "pytorch_model.bin")
    else:
        (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Harmful(made)}, protocol=2))
    assert "it holds posix.mkdir" in refusal(tmp_path)
    assert not made.exists()


def test_a_pickle_of_something_else(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch, which is in the interop extra")
    torch.save({"model": {"a": torch.zeros(2)}, "epoch": 3}, tmp_path / "pytorch_model.bin")
    assert "is no dict of tensors" in refusal(tmp_path)


def test_without_pytorch_a_pickle_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert "`interop` extra" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("model.safetensors", "", True),
        ("pytorch_model.bin", "", True),
        ("config.json", '{"model_type": "gpt2"}', True),
        ("config.json", '{"hidden_size": 768}', True),
        ("config.json", '{"workdir": "runs/a", "encoder": {}}', False),
        ("config.json", "[1]", False),
        ("config.json", "{", False),
        ("model.json", "{}", False),
    ],
)
def test_what_is_meant_as_a_model(tmp_path, name, content, expected):
    assert not files.is_model(tmp_path)
    (tmp_path / name).write_text(content)
    assert files.is_model(tmp_path) == expected
    assert not files.is_model(tmp_path / name)


def test_json_that_is_none(tmp_path):
    file = tmp_path / "config.json"
    with pytest.raises(InputError, match=r"config\.json: cannot be read"):
        files.read_json(file)
    for content, words in ((b"{", "is no JSON"), (b"\xff", "is no JSON"), (b"3", "no JSON object")):
        file.write_bytes(content)
        with pytest.raises(InputError, match=words):
            files.read_json(file)


def test_a_folder_is_itself(tmp_path):
    assert files.locate(tmp_path) == tmp_path
    (tmp_path / "model.zip").touch()
    with pytest.raises(InputError, match="is no folder"):
        files.locate(tmp_path / "model.zip")


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "./a/b", "/a/b", "a/", "../a", "-a/b", "a b/c"])
def test_what_is_neither_a_folder_nor_a_hub_id(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="there is no such folder; expected one, or a hub id"):
        files.locate(name)


class Hub:
    """Stands in for the hub: one model, whose files are copied to where a cache would be."""

    def __init__(self, monkeypatch, folder, names):
        self.folder, self.names, self.asked = folder, names, []
        monkeypatch.setattr(huggingface_hub, "model_info", self.model_info)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot_download)

    def model_info(self, name, timeout):
        assert name == "someone/DNA_bert_3"
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=each) for each in self.names])

    def snapshot_download(self, name, allow_patterns, local_files_only):
        assert not local_files_only
        self.asked = list(filter_repo_objects(self.names, allow_patterns=allow_patterns))
        for each in self.asked:
            (self.folder / each).touch()
        return str(self.folder)


ALSO_THERE = ["README.md", "optimizer.pt", "training_args.bin", "flax_model.msgpack", "old/pytorch_model.bin"]


@pytest.mark.parametrize(
    ("names", "fetched"),
    [
        (["config.json", "pytorch_model.bin", "vocab.txt"], ["config.json", "pytorch_model.bin", "vocab.txt"]),
        (["config.json", "model.safetensors", "pytorch_model.bin"], ["config.json", "model.safetensors"]),
        (
            ["config.json", "model-00001-of-00001.safetensors", "model.safetensors.index.json", "tokenizer.json"],
            ["config.json", "model-00001-of-00001.safetensors", "model.safetensors.index.json", "tokenizer.json"],
        ),
    ],
    ids=["pickle", "both", "sharded"],
)
def test_of_a_hub_model_one_form_of_the_weights_is_fetched(monkeypatch, tmp_path, names, fetched):
    monkeypatch.chdir(tmp_path)
    hub = Hub(monkeypatch, tmp_path, [*names, *ALSO_THERE])
    assert files.locate("someone/DNA_bert_3") == tmp_path
    assert sorted(hub.asked) == fetched


@pytest.fixture
def unplugged(monkeypatch, tmp_path):
    """No network, and an empty cache, whose folder is given."""

    def no_route(name, timeout):
        raise ConnectionError("no route to host")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "model_info", no_route)
    with_cache = functools.partial(huggingface_hub.snapshot_download, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", with_cache)
    return tmp_path / "cache"


def test_a_hub_id_without_a_network(unplugged):
    with pytest.raises(InputError, match=r"^someone/DNA_bert_3: .* the hub cannot be reached; expected a folder, or"):
        files.locate("someone/DNA_bert_3")


def test_a_hub_id_without_a_network_that_is_in_the_cache(unplugged):
    snapshot = unplugged / "models--someone--DNA_bert_3/snapshots/0123456789012345678901234567890123456789"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text(snapshot.name)
    assert files.locate("someone/DNA_bert_3").samefile(snapshot)


def test_a_hub_id_that_there_is_not(monkeypatch, tmp_path):
    def not_found(name, timeout):
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "model_info", not_found)
    with pytest.raises(InputError, match="no model of this name on the hub"):
        files.locate("someone/DNA_bert_3")
