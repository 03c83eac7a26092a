"""The folder of examples: its rows, what a summary says, and nothing half-written when the disk is full."""

from pathlib import Path

import pytest

from dnabert_jax import kmers
from dnabert_jax.errors import RunStopped
from dnabert_jax.tasks import splice_dataset
from dnabert_jax.tasks.splice_dataset import ACCEPTOR, DONOR, NEITHER, Example, Options, Summary

EXAMPLES = [
    Example("20", 104, "+", DONOR, 0, kmers.encode("ACGGGTAA").tobytes()),
    Example("20", 204, "-", NEITHER, 2, kmers.encode("ACAGTTAA").tobytes()),
    Example("X", 14, "-", ACCEPTOR, 0, kmers.encode("CCAGTTAA").tobytes()),
]
OPTIONS = Options("genome.fa", "exons.gtf", window=8)


def summary():
    made = Summary(
        sites={"donor": 2, "acceptor": 1}, split_regions={"train": ("20",), "validation": (), "test": ("X",)}
    )
    made.examples["train"] |= {"donor": 1, "acceptor": 1200}
    made.dropped["repeated"] = 3
    return made


def test_rows(tmp_path):
    splice_dataset.write(tmp_path / "a" / "out", EXAMPLES, OPTIONS, summary())
    folder = tmp_path / "a" / "out"
    assert sorted(each.name for each in folder.iterdir()) == ["README.md", "test.tsv", "train.tsv"]
    assert (folder / "train.tsv").read_text() == (
        "id\trecord\tstart\tend\tstrand\tlabel\tsequence\n"
        "20:100-108(+)\t20\t100\t108\t+\tdonor\tACGGGTAA\n"
        "X:10-18(-)\tX\t10\t18\t-\tacceptor\tCCAGTTAA\n"
    )
    assert (folder / "test.tsv").read_text().splitlines()[1] == "20:200-208(-)\t20\t200\t208\t-\tneither\tACAGTTAA"
    assert "| validation | 0 | 0 | 0 | no file |" in (folder / "README.md").read_text()


def test_a_summary_in_words():
    made = summary()
    assert str(made) == "train: 1 donor, 1,200 acceptor, 0 neither\ndropped sites: 3 repeated"
    made.dropped["repeated"], made.missing_negatives = 0, 7
    assert str(made).splitlines()[1:] == ["dropped sites: none", "negatives that genes were too short to give: 7"]


def test_a_full_disk_leaves_the_earlier_result(tmp_path, monkeypatch):
    out = tmp_path / "out"
    splice_dataset.write(out, EXAMPLES, OPTIONS, summary())
    before = {each.name: each.read_bytes() for each in out.iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunStopped, match="out: cannot be written"):
        splice_dataset.write(out, EXAMPLES[:1], OPTIONS, summary())
    assert {each.name: each.read_bytes() for each in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]
