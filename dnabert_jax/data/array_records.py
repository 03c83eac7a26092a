"""Folders of ArrayRecord files that `tfds.builder_from_directory` opens, written without TensorFlow.

A split is a row of shards, each begun when the one before it is full, so that nothing but the example at hand is in
memory. What goes into which shard follows from the examples alone: shards that are written one by one, each on a
machine of its own, are those of one writer. Examples are proto buffers as TFDS's features serialise them, and
`write_metadata` writes the JSON files beside them that make the folder a dataset.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

VERSION = "1.0.0"
"""Of every dataset that is written; what a reader needs to know of the format stands in the metadata."""

_SHARD_BASES = 1 << 28

# Every example can be read alone (a group of one), and level 1 of zstd is no larger on bases than level 3.
_OPTIONS = "group_size:1,zstd:1"


def is_full(bases: int) -> bool:
    """Whether a shard that holds so many bases takes no other example."""
    return bases >= _SHARD_BASES


def shard_names(dataset: str, split: str, count: int) -> list[str]:
    """Names of the files of a split, in order."""
    template = _template(Path(), dataset, split)
    return [Path(template.sharded_filepath(shard_index=index, num_shards=count)).name for index in range(count)]


def split_info(
    folder: Path, dataset: str, split: str, lengths: Sequence[int]
) -> tuple[tfds.core.SplitInfo, dict[str, int]]:
    """What TFDS keeps of a split whose files are in the folder, and the bytes of each file by name.

    Args:
      folder: where the files are, under their `shard_names`.
      dataset: name of the dataset.
      split: name of the split.
      lengths: examples in each file.
    """
    sizes = {name: (folder / name).stat().st_size for name in shard_names(dataset, split, len(lengths))}
    info = tfds.core.SplitInfo(
        name=split,
        shard_lengths=list(lengths),
        num_bytes=sum(sizes.values()),
        filename_template=_template(folder, dataset, split),
    )
    return info, sizes


def write_shard(path: Path, features: tfds.features.FeaturesDict, examples: Iterable[Mapping[str, Any]]) -> int:
    """Writes one file of a split and counts its examples.

    Raises:
      OSError: it cannot be written.
    """
    with _write_errors():
        shard = ArrayRecordWriter(str(path), _OPTIONS)
    count = 0
    try:
        for example in examples:
            with _write_errors():
                shard.write(_serialised(features, example))
            count += 1
    except BaseException:
        with contextlib.suppress(RuntimeError):
            shard.close()
        raise
    with _write_errors():
        shard.close()
    return count


def read_shard(path: Path, features: tfds.features.FeaturesDict) -> Iterator[dict[str, Any]]:
    """The examples of one file, in order.

    Raises:
      OSError: it cannot be read, or is damaged.
    """
    try:
        shard = ArrayRecordReader(str(path))
        try:
            for _ in range(shard.num_records()):
                yield features.deserialize_example_np(shard.read())
        finally:
            shard.close()
    except (RuntimeError, IndexError) as error:
        raise OSError(str(error).split(";")[0]) from None


class SplitWriter:
    """Writes the examples of one split into shards.

    Args:
      folder: an existing folder.
      dataset: name of the dataset.
      split: name of the split.
      features: of the dataset.
    """

    def __init__(self, folder: Path, dataset: str, split: str, features: tfds.features.FeaturesDict) -> None:
        self._folder, self._dataset, self._split, self._features = folder, dataset, split, features
        self._shard: ArrayRecordWriter | None = None
        self._lengths: list[int] = []  # in examples
        self._in_shard = 0  # bases

    def write(self, example: Mapping[str, Any], bases: int) -> None:
        """Appends an example that holds so many bases.

        Raises:
          OSError: a file cannot be written, here as in `finish`.
        """
        if self._shard is None or is_full(self._in_shard):
            self._next_shard()
        with _write_errors():
            self._shard.write(_serialised(self._features, example))
        self._lengths[-1] += 1
        self._in_shard += bases

    def abandon(self) -> None:
        """Closes the file that is open, if any; the shards are of no use."""
        with contextlib.suppress(OSError):
            self._close_shard()

    def finish(self) -> tuple[tfds.core.SplitInfo, dict[str, int]]:
        """Ends the last shard and gives all of them their names.

        Returns:
          What TFDS keeps of the split, and the bytes of each file by name.
        """
        self._close_shard()
        names = shard_names(self._dataset, self._split, len(self._lengths))
        for index, name in enumerate(names):
            self._unnamed(index).rename(self._folder / name)
        return split_info(self._folder, self._dataset, self._split, self._lengths)

    def _next_shard(self) -> None:
        self._close_shard()
        with _write_errors():
            self._shard = ArrayRecordWriter(str(self._unnamed(len(self._lengths))), _OPTIONS)
        self._lengths.append(0)
        self._in_shard = 0

    def _close_shard(self) -> None:
        if self._shard is not None:
            shard, self._shard = self._shard, None
            with _write_errors():
                shard.close()

    def _unnamed(self, index: int) -> Path:
        """A shard has the number of shards in its name, which is not known before the end."""
        return self._folder / f"{self._split}.{index}"


def write_metadata(
    folder: Path,
    features: tfds.features.FeaturesDict,
    splits: list[tfds.core.SplitInfo],
    description: str,
    metadata: Mapping[str, Any],
) -> None:
    """Makes a folder of finished shards a TFDS dataset; `metadata` becomes its `metadata.json`."""
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features,
        split_infos=splits,
        version=VERSION,
        check_data=False,  # would need TensorFlow
        description=description,
        metadata=tfds.core.MetadataDict(metadata),
    )


def _template(folder: Path, dataset: str, split: str) -> tfds.core.ShardedFileTemplate:
    return tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=dataset, split=split, filetype_suffix="array_record"
    )


def _serialised(features: tfds.features.FeaturesDict, example: Mapping[str, Any]) -> bytes:
    """An example as the bytes that it always has: TFDS leaves it to chance in which order its fields stand."""
    stored = tf_example_pb2.Example.FromString(features.serialize_example(example))
    return stored.SerializeToString(deterministic=True)


@contextlib.contextmanager
def _write_errors() -> Iterator[None]:
    """ArrayRecord tells of a full disk by RuntimeError; only the first part of its message is for people."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(str(error).split(";")[0]) from None
