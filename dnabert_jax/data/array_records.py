"""Folders of ArrayRecord files that `tfds.builder_from_directory` opens, written without TensorFlow.

A split is a row of shards, each begun when the one before it is full, so that nothing but the example at hand is in
memory. Examples are proto buffers as TFDS's features serialise them, and `write_metadata` writes the JSON files beside
them that make the folder a dataset.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

VERSION = "1.0.0"
"""Of every dataset that is written; what a reader needs to know of the format stands in the metadata."""

_SHARD_BASES = 1 << 28

# Every example can be read alone (a group of one), and level 1 of zstd is no larger on bases than level 3.
_OPTIONS = "group_size:1,zstd:1"


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
        if self._shard is None or self._in_shard >= _SHARD_BASES:
            self._next_shard()
        with _write_errors():
            self._shard.write(self._features.serialize_example(example))
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
        template = tfds.core.ShardedFileTemplate(
            data_dir=self._folder, dataset_name=self._dataset, split=self._split, filetype_suffix="array_record"
        )
        count, sizes = len(self._lengths), {}
        for index in range(count):
            final = Path(template.sharded_filepath(shard_index=index, num_shards=count))
            self._unnamed(index).rename(final)
            sizes[final.name] = final.stat().st_size
        info = tfds.core.SplitInfo(
            name=self._split, shard_lengths=self._lengths, num_bytes=sum(sizes.values()), filename_template=template
        )
        return info, sizes

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


@contextlib.contextmanager
def _write_errors() -> Iterator[None]:
    """ArrayRecord tells of a full disk by RuntimeError; only the first part of its message is for people."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(str(error).split(";")[0]) from None
