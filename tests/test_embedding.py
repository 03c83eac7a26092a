"""`dnabert embed`: what the model says, under the ids of the records, in both kinds of file."""

import dataclasses
import itertools
import os
import tracemalloc

import numpy as np
import pyarrow.parquet
import pytest

from dnabert_jax import cli, embedding, kmers, loaded, stored
from dnabert_jax.data.sequences import Sequence
from dnabert_jax.errors import InputError, RunStopped
from dnabert_jax.inference import embeddings
from tests import tiny

BASES = tiny.dna(40, 3, 64, 200, 17, 130)
NAMES = ["first", "s2", "the third one", "αβγ", "5", "last"]
LETTERS = [kmers.decode(bases) for bases in BASES]
SUFFIXES = [".npz", ".parquet"]


@pytest.fixture(scope="module")
def model() -> loaded.Model:
    return loaded.Model(*tiny.model("none"), "random", 4)


@pytest.fixture
def ready(model, monkeypatch):
    """Lets `embed` use a model that is there already, and compiled."""
    monkeypatch.setattr(
        loaded, "load", lambda source, *, batch_size, say: dataclasses.replace(model, batch_size=batch_size)
    )


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "in.tsv"
    rows = [f"{name}\t{letters}" for name, letters in zip(NAMES, LETTERS, strict=True)]
    path.write_text("\n".join(["id\tsequence", *rows]) + "\n", encoding="utf-8")
    return path


def _read(path) -> tuple[list[str], list[np.ndarray]]:
    """Ids, and of each the vector or the vectors of its k-mers."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:  # allow_pickle is False
            ids, found = arrays["ids"].tolist(), arrays["embeddings"]
            assert found.dtype == np.float32
            if "offsets" not in arrays:
                return ids, list(found)
            offsets = arrays["offsets"]
            assert offsets.dtype == np.int64
            assert offsets[-1] == len(found)
            return ids, [found[a:b] for a, b in itertools.pairwise(offsets)]
    read = pyarrow.parquet.read_table(path)
    assert read.column_names == ["id", "embedding"]
    return read["id"].to_pylist(), [np.array(each, np.float32) for each in read["embedding"].to_pylist()]


def _embed(input, output, **options) -> int:
    return embedding.embed("model", input, output, **{"batch_size": 4, "say": pytest.fail, **options})


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("options", "direct"),
    [
        ({}, {}),
        ({"pool": "cls"}, {"pool": "cls"}),
        ({"pool": "none"}, {"pool": None}),
        ({"join": "concatenate", "pieces": 4}, {"join": "concatenate", "pieces": 4}),
    ],
    ids=["mean", "cls", "none", "concatenate"],
)
def test_a_table_in_vectors_out(ready, model, table, tmp_path, suffix, options, direct):
    out = tmp_path / f"out{suffix}"
    assert _embed(table, out, **options) == len(NAMES)
    ids, found = _read(out)
    assert ids == NAMES
    for values, expected in zip(found, model.embed(LETTERS, **direct), strict=True):
        np.testing.assert_array_equal(values, expected)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.tsv", out.name]


def test_vectors_of_fixed_width_are_fixed_in_parquet(ready, table, tmp_path):
    _embed(table, tmp_path / "out.parquet")
    schema = pyarrow.parquet.read_schema(tmp_path / "out.parquet")
    assert str(schema.field("embedding").type).startswith("fixed_size_list<")
    assert schema.field("embedding").type.list_size == 32


@pytest.mark.parametrize("pool", ["mean", "none"])
def test_row_groups(ready, model, table, tmp_path, monkeypatch, pool):
    monkeypatch.setattr(embedding, "_ROW_GROUP", 33)
    out = tmp_path / "out.parquet"
    _embed(table, out, pool=pool)
    assert pyarrow.parquet.read_metadata(out).num_row_groups == (3 if pool == "mean" else 5)
    ids, found = _read(out)
    assert ids == NAMES
    for values, expected in zip(found, model.embed(LETTERS, None if pool == "none" else pool), strict=True):
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_fasta_and_bed(ready, model, tmp_path, suffix):
    fasta, bed, out = tmp_path / "in.fa", tmp_path / "in.bed", tmp_path / f"out{suffix}"
    fasta.write_text("".join(f">r{number}\n{letters}\n" for number, letters in enumerate(LETTERS)))
    assert _embed(fasta, out) == len(LETTERS)
    ids, found = _read(out)
    assert ids == [f"r{number}" for number in range(len(LETTERS))]
    np.testing.assert_array_equal(found, model.embed(LETTERS))
    bed.write_text("r3\t10\t90\tbackwards\t0\t-\nr0\t0\t40\n")
    _embed(bed, out, fasta=fasta)
    ids, found = _read(out)
    assert ids == ["backwards", "r0:0-40"]
    np.testing.assert_array_equal(found, model.embed([kmers.reverse_complement(BASES[3][10:90]), BASES[0]]))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_memory_does_not_grow_with_the_records(ready, tmp_path, monkeypatch, suffix):
    """Peak of what Python and NumPy hold for 2,000 and for 10,000 records."""
    width = 256
    monkeypatch.setattr(embedding, "_ROW_GROUP", 2**14)

    def peak(count: int) -> int:
        def vectors(*_, **__):
            for number in range(count):
                yield f"record{number:06}", np.full(width, number, np.float32)

        monkeypatch.setattr(embeddings, "embed", vectors)
        monkeypatch.setattr(embeddings, "width", lambda *_: width)
        tracemalloc.start()
        try:
            assert _embed("in.fa", tmp_path / f"out{suffix}") == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    few, many = peak(2000), peak(10_000)
    assert many - few < (10_000 - 2000) * width * 4 / 10
    ids, found = _read(tmp_path / f"out{suffix}")
    assert len(ids) == len(found) == 10_000


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("exists", [False, True], ids=["new output", "old output"])
def test_bad_input_leaves_no_output_and_the_old_one(ready, tmp_path, suffix, exists):
    file, out = tmp_path / "in.fa", tmp_path / f"out{suffix}"
    file.write_text(f">a\n{'ACGT' * 10}\n>b\nACGTTT\n>c\nACGTTT\n>d\nAC\n")
    if exists:
        out.write_text("old\n")
    with pytest.raises(InputError, match="record 'd': 2 bases; expected at least 3"):
        _embed(file, out, batch_size=1)
    assert sorted(each.name for each in tmp_path.iterdir()) == (["in.fa", out.name] if exists else ["in.fa"])
    assert not exists or out.read_text() == "old\n"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_fills_up_leaves_no_output(ready, table, tmp_path, monkeypatch, suffix):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunStopped, match=r"writing failed .No space left on device.; no output was left"):
        _embed(table, tmp_path / f"out{suffix}")
    assert [each.name for each in tmp_path.iterdir()] == ["in.tsv"]


@pytest.mark.parametrize(
    ("output", "options", "said"),
    [
        ("out.csv", {}, "ends in '.csv'; expected .npz or .parquet"),
        ("out", {}, "ends in 'nothing'; expected"),
        ("none/out.npz", {}, "cannot be written"),
        ("none/out.parquet", {}, "cannot be written"),
        ("folder.npz", {}, "is a folder; expected a file"),
        ("out.npz", {"pieces": 3}, "pieces is 3 with join 'mean'"),
        ("out.npz", {"join": "concatenate"}, "pieces is 0 with join 'concatenate'"),
        ("out.npz", {"join": "concatenate", "pieces": 2, "pool": "none"}, "without pooling"),
        (
            "out.npz",
            {"long": "error"},
            "record 'αβγ' has 200 bases; expected at most 64, the longest that the model reads",
        ),
        (
            "out.npz",
            {"join": "concatenate", "pieces": 3},
            "record 'αβγ' has 200 bases; expected at most 188, the pieces",
        ),
    ],
)
def test_what_cannot_be_done(ready, table, tmp_path, output, options, said):
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InputError, match=said):
        _embed(table, tmp_path / output, **options)
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["folder.npz", "in.tsv"]


def test_what_is_read_is_not_replaced(table, tmp_path):
    folder = tmp_path / "model"
    stored.write(folder, *tiny.model("none"))
    link = tmp_path / "link.npz"
    link.symlink_to(table)
    with pytest.raises(InputError, match="is the input; expected another file"):
        embedding.embed(folder, table, link, say=pytest.fail)
    inside = folder / "old.npz"
    inside.write_text("old")
    with pytest.raises(InputError, match="belongs to the model"):
        embedding.embed(folder, table, inside, say=pytest.fail)
    assert inside.read_text() == "old"


def test_the_command(table, tmp_path, capsys):
    folder, out = tmp_path / "model", tmp_path / "out.npz"
    stored.write(folder, *tiny.model("masked_lm"))
    arguments = ["embed", "--model", str(folder), "--input", str(table), "--output", str(out), "--pool", "cls"]
    assert cli._status(lambda: cli._dispatch("dnabert", cli.COMMANDS, arguments)) == 0
    assert capsys.readouterr() == ("", f"{out}: {len(NAMES)} records\n")
    assert _read(out)[0] == NAMES


def test_an_input_that_breaks_off_is_told_apart_from_the_output(ready, tmp_path, monkeypatch):
    def broken(*_, **__):
        yield Sequence("a", np.zeros(40, np.uint8))
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(embedding.records.sequences, "read", broken)
    with pytest.raises(InputError, match=r"in\.fa: cannot be read to its end .Input/output error"):
        _embed("in.fa", tmp_path / "out.npz", batch_size=1)
    assert list(tmp_path.iterdir()) == []
