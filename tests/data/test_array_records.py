"""Shards without a genome in them: bounds, names, and what TFDS reads back."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from dnabert_jax.data import array_records

FEATURES = tfds.features.FeaturesDict(
    {"name": tfds.features.Text(), "bases": tfds.features.Tensor(shape=(None,), dtype=np.uint8, encoding="bytes")}
)
EXAMPLES = [{"name": f"é{i}", "bases": np.arange(i % 5, dtype=np.uint8)} for i in range(23)]


def test_examples_come_back_in_order_from_several_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(array_records, "_SHARD_BASES", 10)
    writer = array_records.SplitWriter(tmp_path, "toy", "train", FEATURES)
    for example in EXAMPLES:
        writer.write(example, example["bases"].size)
    info, sizes = writer.finish()
    assert info.shard_lengths == [5, 5, 5, 5, 3]
    assert sizes == {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    array_records.write_metadata(tmp_path, FEATURES, [info], "A toy.", {"answer": 42})
    builder = tfds.builder_from_directory(str(tmp_path))
    assert (builder.name, str(builder.version), builder.info.metadata["answer"]) == ("toy", "1.0.0", 42)
    found = builder.as_data_source("train")
    assert [(each["name"].decode(), each["bases"].tolist()) for each in found] == [
        (each["name"], each["bases"].tolist()) for each in EXAMPLES
    ]


def test_a_file_that_cannot_be_written_is_an_os_error(tmp_path):
    writer = array_records.SplitWriter(tmp_path / "missing", "toy", "train", FEATURES)

    def write_all():
        writer.write(EXAMPLES[3], 3)
        writer.finish()

    with pytest.raises(OSError):
        write_all()
    writer.abandon()
