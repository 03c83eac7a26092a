"""Which paths are folders, which are on an object store, and what is said of those that cannot be reached."""

import importlib.util
from pathlib import Path

import pytest

from dnabert_jax import cli, convert, places
from dnabert_jax.errors import InputError
from dnabert_jax.experiment import Training
from dnabert_jax.report import finished
from dnabert_jax.training import workdir


@pytest.mark.parametrize("path", ["here/w", "/there/w", "w", Path("here/w"), "a:b", "~x"])
def test_a_path_without_a_scheme_is_a_path(path):
    assert not places.is_remote(path)
    assert places.place(path) == Path(path)
    assert type(places.place(path)) is type(Path("w"))


@pytest.mark.parametrize("address", ["http://bucket/w", "file:///there/w", "az://bucket/w", "GS://bucket/w", "://w"])
def test_another_scheme_is_refused(address):
    with pytest.raises(InputError, match=r"expected a folder, gs://\.\.\. or s3://\.\.\."):
        places.place(address)


@pytest.mark.parametrize("address", ["gs://", "s3:///w"])
def test_an_address_without_a_bucket_is_refused(address):
    with pytest.raises(InputError, match="names no bucket"):
        places.place(address)


@pytest.mark.parametrize(("path", "meant"), [("gs:/bucket/w", "gs://bucket/w"), (Path("s3://b/w"), "s3://b/w")])
def test_an_address_that_lost_a_slash_is_no_folder(path, meant):
    with pytest.raises(InputError, match=f"expected {meant}$"):
        places.place(path)


@pytest.mark.parametrize(("address", "package"), [("gs://bucket/w", "gcsfs"), ("s3://bucket/w", "s3fs")])
def test_a_missing_package_is_one_line_and_status_2(address, package, monkeypatch, capsys):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else there(name))
    monkeypatch.setattr("sys.argv", ["dnabert", "train", "demo", "--workdir", address, "--data.path", "shards"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert address in lines[0]
    assert "pip install 'dnabert-jax[" in lines[0]


def test_what_takes_a_local_folder_says_so():
    for call in (
        lambda: finished.read("s3://bucket/w"),
        lambda: Training(recipe="splice", workdir="gs://bucket/w"),
        lambda: convert.convert("model", "s3://bucket/m", "flax", say=print),
    ):
        with pytest.raises(InputError, match="local folder"):
            call()


def test_nobody_holds_a_folder_by_name(tmp_path):
    with workdir.lock(tmp_path):
        assert workdir.holder(tmp_path) == ""
