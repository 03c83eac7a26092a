"""`dnabert build --beam-runner`: byte for byte what the build in one process makes, and the same line when it fails.

Tests of a pipeline need Apache Beam, which is an extra.
"""

import gzip
import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from dnabert_jax import cli, kmers
from dnabert_jax.data import array_records, beam_build, build, pipelines
from dnabert_jax.errors import InputError, RunStopped

HERE = ("direct_running_mode=in_memory",)


def with_beam(test):
    missing = importlib.util.find_spec("apache_beam") is None
    return pytest.mark.slow(pytest.mark.skipif(missing, reason="Apache Beam (the extra `beam`) is not installed")(test))


def silent(*_):
    pass


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_genome(folder):
    """Three files with records of many lengths; one is empty, and one compressed."""
    rng = np.random.default_rng(5)
    paths = []
    for index, lengths in enumerate([(900, 5, 130), (0, 64), (2_000, 11, 12)]):
        text = "".join(
            f">chr{index}_{place} of {length}\n{kmers.decode(rng.integers(0, 5, length, dtype=np.uint8))}\n"
            for place, length in enumerate(lengths)
        )
        paths.append(folder / f"{index}.fa")
        paths[-1].write_bytes(gzip.compress(text.encode()) if index == 2 else text.encode())
    return paths


@with_beam
@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "assembly": "toy1",
            "exclude": ["chr1_1"],
            "validation": ["chr0_0:101-650", "2_0:1-7", "chr2_0:1500-2000", "chr0_2"],
            "min_length": 1,
        },
    ],
    ids=["all", "selected"],
)
def test_the_same_bytes_as_in_one_process(tmp_path, monkeypatch, options):
    monkeypatch.setattr(array_records, "_SHARD_BASES", 300)
    paths, said, seen = write_genome(tmp_path), [], []
    alone = build.build(paths, tmp_path / "alone", chunk=64, say=said.append, **options)
    here = list(said)
    together = beam_build.build(
        paths,
        tmp_path / "together",
        runner="DirectRunner",
        options=HERE,
        chunk=64,
        say=said.append,
        progress=seen.append,
        **options,
    )
    assert said == here + here
    assert len(list((tmp_path / "alone").glob("*train*"))) > 3
    assert files(tmp_path / "together") == files(tmp_path / "alone")
    assert str(together).split(": ", 1)[1] == str(alone).split(": ", 1)[1]
    assert [each.bases for each in seen] == sorted(each.bases for each in seen)
    assert (seen[-1].bases, seen[-1].total) == (alone.bases, alone.bases)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["0.fa", "1.fa", "2.fa", "alone", "together"]


@with_beam
def test_many_processes_make_the_same_bytes(tmp_path):
    """Through the command, which starts workers that know nothing of this process."""
    paths = write_genome(tmp_path)
    build.build(paths, tmp_path / "alone", validation=["chr0_0:101-650"], say=silent)
    flags = ["--fasta", *map(str, paths), "--out", str(tmp_path / "together"), "--validation", "chr0_0:101-650"]
    options = ["direct_running_mode=multi_processing", "direct_num_workers=2"]
    command = [sys.executable, "-m", "dnabert_jax", "build", *flags, "--beam-runner", "DirectRunner"]
    ended = subprocess.run(
        [*command, "--beam-options", *options], capture_output=True, text=True, timeout=600, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert all(line.startswith("building: ") for line in ended.stderr.splitlines())  # that there is on a slow machine
    assert ended.stdout.startswith(f"{tmp_path / 'together'}: 5 records")
    assert files(tmp_path / "together") == files(tmp_path / "alone")


GOOD = b">a\nACGTACGTACGT\n>b\nGGGGGGGGGGGG\n"


@with_beam
@pytest.mark.parametrize(
    ("contents", "options"),
    [
        pytest.param([GOOD, b""], {}, id="empty"),
        pytest.param([GOOD, b">c\nMKVLLLLLLLLLL\n", b"hello"], {}, id="protein"),
        pytest.param([GOOD, b">b\nACGTACGTACGT\n"], {}, id="twice"),
        pytest.param([gzip.compress(GOOD)[:-10]], {}, id="cut-short"),
        pytest.param([b">a\nACGT\n"], {}, id="all-short"),
        pytest.param([b">a\nACGT\n"], {"exclude": ["a"]}, id="all-short-and-excluded"),
        pytest.param([GOOD], {"include": ["c"]}, id="include"),
        pytest.param([GOOD], {"validation": ["a:5-13"]}, id="past-the-end"),
        pytest.param([GOOD], {"validation": ["a", "b"]}, id="nothing-to-train-on"),
        pytest.param([], {}, id="no-file"),
        pytest.param([GOOD], {"chunk": 0}, id="chunk"),
    ],
)
def test_bad_input_is_the_same_line_and_leaves_nothing(tmp_path, contents, options):
    paths = [tmp_path / f"{index}.fa" for index in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    lines = []
    for make in (build.build, lambda *a, **k: beam_build.build(*a, runner="DirectRunner", options=HERE, **k)):
        with pytest.raises(InputError) as caught:
            make(paths, tmp_path / "out", say=silent, **options)
        lines.append(str(caught.value))
        assert sorted(tmp_path.iterdir()) == paths
    assert lines[0] == lines[1]


@with_beam
def test_what_is_at_out_stays_unless_told_otherwise(tmp_path):
    path, out = tmp_path / "a.fa", tmp_path / "out"
    path.write_bytes(GOOD)
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    for overwrite, part in ((False, "exists already"), (True, "not a dataset")):
        with pytest.raises(InputError, match=part):
            beam_build.build([path], out, runner="DirectRunner", options=HERE, overwrite=overwrite)
    assert [each.name for each in out.iterdir()] == ["thesis.txt"]


class _FullDisk:
    """An ArrayRecordWriter that meets a full disk as the real one does."""

    def __init__(self, path, options):
        pass

    def write(self, example):
        raise RuntimeError("write() failed: No space left on device; writing x; at byte 4194304")

    def close(self):
        raise RuntimeError("write() failed: No space left on device; writing x")


@with_beam
def test_a_worker_with_a_full_disk_stops_the_build(tmp_path, monkeypatch):
    path, out = tmp_path / "a.fa", tmp_path / "out"
    path.write_bytes(GOOD)
    monkeypatch.setattr(array_records, "ArrayRecordWriter", _FullDisk)
    with pytest.raises(RunStopped) as caught:
        beam_build.build([path], out, runner="DirectRunner", options=HERE)
    assert str(caught.value).startswith(f"{out}: cannot be written (write() failed: No space left on device)")
    assert list(tmp_path.iterdir()) == [path]


@with_beam
def test_a_file_that_changes_between_the_pipelines(tmp_path, monkeypatch):
    path = tmp_path / "a.fa"
    path.write_bytes(GOOD)
    run = pipelines.Pipeline.run

    def then_change(*arguments):
        run(*arguments)
        path.write_bytes(GOOD[:20])

    monkeypatch.setattr(pipelines.Pipeline, "run", then_change)
    with pytest.raises(InputError) as caught:
        beam_build.build([path], tmp_path / "out", runner="DirectRunner", options=HERE)
    assert str(caught.value) == f"{path}: has changed while it was read; expected a file that stays as it is"
    assert list(tmp_path.iterdir()) == [path]


@with_beam
def test_workers_that_write_elsewhere(tmp_path, monkeypatch):
    path = tmp_path / "a.fa"
    path.write_bytes(GOOD)
    monkeypatch.setattr(pipelines.Pipeline, "run", silent)
    with pytest.raises(RunStopped, match="the workers wrote nothing there"):
        beam_build.build([path], tmp_path / "out", runner="DirectRunner", options=HERE)
    assert list(tmp_path.iterdir()) == [path]


def test_options_without_a_runner(tmp_path, capsys):
    flags = ["--fasta", "a.fa", "--out", str(tmp_path / "out"), "--beam-options", "direct_num_workers=2"]
    assert cli._status(lambda: cli._dispatch("dnabert", cli.COMMANDS, ["build", *flags])) == 2
    assert capsys.readouterr().err == "error: --beam-options without --beam-runner; expected both, or neither\n"
