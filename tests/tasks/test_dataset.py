"""The folder of a task: splits kept apart against a slow comparison of all pairs, and what is written, read back."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert_jax import kmers
from dnabert_jax.data import labelled
from dnabert_jax.errors import InputError, RunStopped
from dnabert_jax.tasks import dataset
from dnabert_jax.tasks.dataset import Example, Place, Separation

CLASSES = ("yes", "no")
WHERE = {"train": ("20:1-500",), "test": ("20:501-900", "X:1-100")}


def example(letters, *, label="yes", split=0, kind="peak", place=None, id=""):
    return Example(label, split, kmers.encode(letters).tobytes(), kind, place, id or letters)


EXAMPLES = [
    example("ACGGGTAA", place=Place("20", 100, 108, "+"), id="20:100-108(+)"),
    example("ACAGTTAN", split=2, place=Place("20", 600, 608, "-"), id="20:600-608(-)"),
    example("ACGTTGCAAG", label="no", kind="shuffle", id="shuffle of 20:100-108(+)"),
    example("CCCCCC", label="no", kind="window", split=2, place=Place("X", 10, 16, "."), id="X:10-16(.)"),
]


def write(out, examples=EXAMPLES, **changed):
    values = {
        "task": "toy",
        "classes": CLASSES,
        "examples": examples,
        "readme": "# Toy\n\nMade by hand.\n",
        "separation": Separation(3, 2, 1),
        "where": WHERE,
    }
    dataset.write(out, **values | changed)


def flipped(sequence):
    return kmers.reverse_complement(np.frombuffer(sequence, np.uint8)).tobytes()


def test_names_of_places():
    assert dataset.name(Place("HLA:1", 3, 17, "-")) == "HLA:1:3-17(-)"


def test_of_identical_sequences_the_first_stays():
    given = [
        example("ACGGT", split=2),
        example("ACGGT", split=2),
        example("ACGGT", split=0),
        example("ACCGT", split=1),  # the reverse complement
        example("ACGTT", split=0),
        example("AACGT", split=0),
    ]
    kept, separation = dataset.distinct(given)
    assert kept == [given[0], given[4]]
    assert separation == Separation(repeated=2, across_splits=2)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 40), st.integers(1, 9), st.integers(0, 2), st.booleans()),
        max_size=15,
    )
)
def test_windows_that_overlap_are_not_in_two_splits(found):
    # The reverse complement of a 5-mer with A or C in the middle has T or G there.
    letters = [each for each in map(kmers.decode, kmers.kmer_bases(5)) if each[2] in "AC"]
    examples = [
        example(sequence, split=split, place=Place(record, start, start + size, "+-"[minus]))
        for (record, start, size, split, minus), sequence in zip(found, letters)
    ]

    def meet(one, other):
        same = one.place.record == other.place.record and one.split != other.split
        return same and one.place.start < other.place.end and other.place.start < one.place.end

    apart = [each for each in examples if each.split == 2]
    apart += [each for each in examples if each.split == 1 and not any(meet(each, other) for other in apart)]
    apart += [each for each in examples if each.split == 0 and not any(meet(each, other) for other in apart)]
    kept, separation = dataset.distinct(examples)
    assert kept == [each for each in examples if each in apart]
    assert separation == Separation(overlapping=len(examples) - len(apart))


def test_rows(tmp_path):
    out = tmp_path / "a" / "out"
    write(out)
    assert sorted(each.name for each in out.iterdir()) == ["README.md", "test.tsv", "tfds", "train.tsv"]
    assert (out / "train.tsv").read_text() == (
        "id\trecord\tstart\tend\tstrand\tlabel\tkind\tsplit\tsequence\n"
        "20:100-108(+)\t20\t100\t108\t+\tyes\tpeak\ttrain\tACGGGTAA\n"
        "shuffle of 20:100-108(+)\t\t\t\t\tno\tshuffle\ttrain\tACGTTGCAAG\n"
    )
    assert (out / "test.tsv").read_text().splitlines()[2] == "X:10-16(.)\tX\t10\t16\t.\tno\twindow\ttest\tCCCCCC"
    read = labelled.read(out / "test.tsv", k=3, max_kmers=510)
    assert (read.ids, read.classes) == (("20:600-608(-)", "X:10-16(.)"), ("no", "yes"))


def test_tfds_reads_the_same_as_the_table(tmp_path):
    write(tmp_path / "out")
    builder = tfds.builder_from_directory(str(tmp_path / "out" / "tfds"))
    assert builder.name == "toy"
    assert builder.info.features["label"].names == list(CLASSES)
    assert set(builder.info.splits) == {"train", "test"}
    for split in ("train", "test"):
        table = pd.read_csv(tmp_path / "out" / f"{split}.tsv", sep="\t", dtype=str, keep_default_na=False)
        source = builder.as_data_source(split)
        assert len(source) == len(table) == builder.info.splits[split].num_examples
        for found, row in zip(source, table.itertuples()):
            assert [found[key].decode() for key in ("id", "record", "strand", "kind")] == [
                row.id,
                row.record,
                row.strand,
                row.kind,
            ]
            assert (found["start"], found["end"]) == (int(row.start or -1), int(row.end or -1))
            assert CLASSES[found["label"]] == row.label
            assert kmers.decode(found["bases"]) == row.sequence


def test_the_readme(tmp_path):
    write(tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert text.startswith("# Toy\n\nMade by hand.\n\n## What there is\n")
    assert "| yes | peak | 1 | 0 | 1 |\n| no | shuffle | 1 | 0 | 0 |\n| no | window | 0 | 0 | 1 |" in text
    assert "| all | | 2 | 0 | 2 |" in text
    assert "| train | 20:1-500 |\n| test | 20:501-900, X:1-100 |" in text
    assert "| left out: the sequence occurred before in the same split | 3 |" in text
    assert "| left out: the sequence occurred before in another split | 2 |" in text
    assert "| left out: windows that overlapped one of another split | 1 |" in text
    assert "identical sequences in two splits | 0 |" in text
    assert "windows that overlap one of another split | 0 |" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"examples": EXAMPLES[:3]}, "^no example of class no for test in 20:501-900, X:1-100; expected"),
        ({"where": {**WHERE, "validation": ()}}, "^no example of class yes for validation; expected"),
        ({"classes": (*CLASSES, "perhaps")}, "^no example of class perhaps for train in 20:1-500; expected"),
    ],
)
def test_an_empty_class(tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path / "out", **changed)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "more",
    [
        example("ACGGGTAA", split=2),
        Example("no", 2, flipped(EXAMPLES[0].sequence), "peak", None, "x"),
        example("GGGGG", split=2, place=Place("20", 107, 112, "-")),
    ],
)
def test_what_is_in_two_splits_is_not_written(tmp_path, more):
    with pytest.raises(ValueError, match="in two splits; expected none"):
        write(tmp_path / "out", [*EXAMPLES, more])
    assert not list(tmp_path.iterdir())


def test_the_same_examples_give_the_same_files(tmp_path):
    write(tmp_path / "one")
    write(tmp_path / "two")
    one, two = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("one", "two")
    )
    assert one == two
    assert Counter(path.suffix for path in one)[".tsv"] == 2


def test_only_an_earlier_result_is_replaced_and_only_when_asked(tmp_path):
    out = tmp_path / "out"
    dataset.require_free(out, overwrite=False)
    write(out)
    dataset.require_free(out, overwrite=True)
    with pytest.raises(InputError, match="already holds files; expected a new folder, or --overwrite"):
        dataset.require_free(out, overwrite=False)
    (out / "tfds" / "dataset_info.json").unlink()
    with pytest.raises(InputError, match="holds tfds, which is not of this task"):
        dataset.require_free(out, overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a file; expected a folder to make"):
        dataset.require_free(tmp_path / "file", overwrite=True)


def test_a_full_disk_leaves_the_earlier_result(tmp_path, monkeypatch):
    out = tmp_path / "out"
    write(out)
    before = {path: path.read_bytes() for path in out.rglob("*.*")}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunStopped, match="out: cannot be written"):
        write(out, EXAMPLES, readme="# Other")
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_bar_in_the_name_of_a_record_ends_no_column(tmp_path):
    write(tmp_path / "out", where={"train": ("gi|17|ref:1-500",), "test": ("20:501-900",)})
    assert "| train | gi\\|17\\|ref:1-500 |\n" in (tmp_path / "out" / "README.md").read_text()
