"""The writer of shards by itself: what is in the files, and what it says of them."""

import dataclasses
import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnabert_jax.data import array_records, genome
from dnabert_jax.errors import InputError

CONTIGS = [("a", 0, [0, 1, 2, 3, 4, 4, 0]), ("a", 20, [3]), ("b", 5, [2, 2, 4])]


def _written(folder, chunk=3):
    writer, counts = genome.SplitWriter(folder, "train", chunk), []
    for record, start, bases in CONTIGS:
        writer.write(record, start, np.array(bases, np.uint8), counts.append)
    return *writer.finish(), counts


def test_every_chunk_is_one_example(tmp_path):
    info, contents, counts = _written(tmp_path)
    assert counts == [3, 3, 1, 1, 3]
    assert info.shard_lengths == [5]
    (path,) = tmp_path.iterdir()
    assert contents.shards == {"genome-train.array_record-00000-of-00001": path.stat().st_size}
    examples = [genome.FEATURES.deserialize_example_np(raw) for raw in ArrayRecordReader(str(path)).read_all()]
    assert [(each["record"].decode(), int(each["start"]), each["bases"].tolist()) for each in examples] == [
        ("a", 0, [0, 1, 2]),
        ("a", 3, [3, 4, 4]),
        ("a", 6, [0]),
        ("a", 20, [3]),
        ("b", 5, [2, 2, 4]),
    ]


def test_contents_are_counted(tmp_path):
    _, contents, _ = _written(tmp_path)
    assert contents.bases == 11
    assert contents.unknown == 3
    assert contents.intervals == [("a", 0, 7), ("a", 20, 21), ("b", 5, 8)]


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_the_fingerprint_is_what_it_says(tmp_path, chunk):
    _, contents, _ = _written(tmp_path, chunk)
    expected = hashlib.blake2b(digest_size=16)
    for record, start, bases in CONTIGS:
        expected.update(json.dumps([record, start, start + len(bases)]).encode() + bytes(bases))
    assert contents.fingerprint == expected.hexdigest()


def test_a_base_takes_a_byte_before_compression():
    bases = np.full(1000, 3, np.uint8)
    assert len(genome.FEATURES.serialize_example({"bases": bases, "record": "a", "start": 0})) < 1100


def test_metadata_come_back_as_they_went(tmp_path):
    info, contents, _ = _written(tmp_path)
    metadata = genome.Metadata(
        assembly="toy",
        chunk=3,
        bases=11,
        unknown=3,
        skipped_records=0,
        skipped_bases=0,
        sources=[genome.Source("é.fa", 12, "00")],
        records=[genome.RecordSize("a", 8, 2), genome.RecordSize("b", 3, 1)],
        splits={"train": contents},
    )
    genome.write_metadata(tmp_path, [info], metadata)
    assert genome.read_metadata(tmp_path) == json.loads(json.dumps(dataclasses.asdict(metadata)))
    builder = tfds.builder_from_directory(str(tmp_path))
    assert (builder.name, str(builder.version)) == (genome.NAME, array_records.VERSION)
    assert builder.info.splits["train"].num_examples == 5
    assert builder.info.metadata["assembly"] == "toy"


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "metadata.json").write_text(json.dumps({"format": "another"}))
    with pytest.raises(InputError, match="not a dataset"):
        genome.read_metadata(tmp_path)


def test_a_file_that_cannot_be_written_is_an_os_error(tmp_path):
    writer = genome.SplitWriter(tmp_path / "missing", "train", 10)

    def write_all():
        writer.write("a", 0, np.zeros(5, np.uint8), lambda bases: None)
        writer.finish()

    with pytest.raises(OSError):
        write_all()
    writer.abandon()


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6), chunk=st.integers(1, 20), shard=st.integers(1, 70))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shards_that_are_written_one_by_one_are_those_of_one_writer(tmp_path, monkeypatch, lengths, chunk, shard):
    monkeypatch.setattr(array_records, "_SHARD_BASES", shard)
    rng = np.random.default_rng(len(lengths))
    contigs = [(f"chr{number}", 7 * number, rng.integers(0, 5, n, dtype=np.uint8)) for number, n in enumerate(lengths)]
    with tempfile.TemporaryDirectory(dir=tmp_path) as one, tempfile.TemporaryDirectory(dir=tmp_path) as many:
        writer = genome.SplitWriter(Path(one), "train", chunk)
        for name, start, bases in contigs:
            writer.write(name, start, bases, lambda _: None)
        info, contents = writer.finish()

        intervals = [(name, start, start + bases.size) for name, start, bases in contigs]
        plan = genome.plan_shards(intervals, chunk)
        names, counts = array_records.shard_names(genome.NAME, "train", len(plan)), []
        starts = {name: (start, bases) for name, start, bases in contigs}

        def read(name, at, end):
            start, bases = starts[name]
            return name, at, bases[at - start : end - start]

        for file, stretches in zip(names, plan, strict=True):
            counts.append(genome.write_shard(Path(many, file), (read(*each) for each in stretches), chunk))
        assert counts == info.shard_lengths
        assert genome.read_back(Path(many), "train", intervals, len(plan)) == contents
        assert [Path(many, file).read_bytes() for file in names] == [Path(one, file).read_bytes() for file in names]
        with pytest.raises(OSError, match="do not hold"):
            genome.read_back(Path(many), "train", [*intervals, ("more", 0, 5)], len(plan))
