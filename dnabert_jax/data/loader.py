"""Batches for the devices: Grain pipelines over batch numbers.

Batch i is a function of the config, the seed and i alone. So the number of the next batch is the whole position of the
input, reading can begin anywhere, and threads read ahead without changing anything.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import grain
import numpy as np

from dnabert_jax import kmers
from dnabert_jax.config import PretrainConfig
from dnabert_jax.data.labelled import Examples
from dnabert_jax.data.pieces import split as into_pieces
from dnabert_jax.data.rows import Batch, Rows
from dnabert_jax.data.shards import Split
from dnabert_jax.errors import InputError

_ENDLESS = 2**48
_READ = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
_EVALUATION_SEED = 0


class Pretraining:
    """The training rows of a pretraining run.

    Args:
      split: the training bases.
      config: of the run.

    Attributes:
      identity: JSON of the bases, the rows of an epoch and the seed. With the config it decides every batch, so a
        run that finds another one when it resumes would read other data.
      most_segments: segments in the row that has most.

    Raises:
      InputError: the split is too small for a segment, or `data.epochs` of it too small for a batch.
    """

    def __init__(self, split: Split, config: PretrainConfig) -> None:
        self._rows = _rows(split, config, config.seed)
        self.most_segments = self._rows.most_segments
        self._batch_size = config.batch_size
        self._stop = _ENDLESS
        if config.data.epochs:
            self._stop = self._rows.per_epoch * config.data.epochs // config.batch_size
            if not self._stop:
                raise InputError(
                    f"{config.data.path}: {self._rows.per_epoch * config.data.epochs} rows in all (data.epochs is "
                    f"{config.data.epochs}), less than a batch of {config.batch_size}; expected a smaller batch_size "
                    "or more epochs"
                )
        self.identity: dict[str, Any] = {
            "bases": split.fingerprint,
            "rows_per_epoch": self._rows.per_epoch,
            "seed": config.seed,
        }

    def batches(self, start: int = 0, rows: np.ndarray | None = None) -> grain.DatasetIterator:
        """Batches `start`, `start + 1`, ...; an epoch may end within one. The last, incomplete one is left out.

        Args:
          start: number of the first batch.
          rows: int[n], numbers of those rows of every batch that are read; all by default.

        Returns:
          Iterator of Batch, int32[n, row_length]; `close` ends its threads early.
        """
        rows = np.arange(self._batch_size) if rows is None else rows

        def batch(number: int) -> Batch:
            return self._rows.take(number * self._batch_size + rows)

        return iter(grain.MapDataset.range(start, self._stop).map(batch).to_iter_dataset(_READ))


def evaluation_batches(
    split: Split, config: PretrainConfig, batch_size: int, count: int, rows: np.ndarray | None = None
) -> list[Batch]:
    """The held-out rows of a run, the same each time: cut, not flipped, independent of the run's seed.

    Args:
      split: the validation bases.
      config: lengths and packing as for training.
      batch_size: rows of each batch; the last is filled up with empty rows.
      count: rows in all; fewer where the split has no more.
      rows: int[n], numbers of those rows of every batch that are read, in order; all by default.

    Returns:
      Batches of int32[n, row_length].
    """
    held_out = _rows(split, config, _EVALUATION_SEED, method="cut", reverse_complement=False)
    rows = np.arange(batch_size) if rows is None else rows
    wanted = min(count, held_out.per_epoch)
    batches = []
    for first in range(0, wanted, batch_size):
        there = rows[first + rows < wanted]
        batch = held_out.take(first + there)
        missing = len(rows) - len(there)
        batches.append({name: np.pad(value, ((0, missing), (0, 0))) for name, value in batch.items()})
    return batches


def labelled_batches(
    examples: Examples,
    *,
    batch_size: int,
    k: int,
    length: int,
    pieces: int = 1,
    shuffle: bool = False,
    reverse_complement: bool = False,
    seed: int = 0,
    epoch: int = 0,
    start_batch: int = 0,
    rows: np.ndarray | None = None,
) -> grain.DatasetIterator:
    """One pass over labelled sequences, one a row.

    Args:
      examples: sequences of at most `pieces * (length - 2)` k-mers.
      batch_size: rows; the last batch is filled up with copies of its first row that weigh nothing.
      k: k-mer length.
      length: tokens of a row; with several pieces the longest that the model reads.
      pieces: rows of each sequence.
      shuffle: in an order that follows from `seed` and `epoch`; otherwise in file order.
      reverse_complement: read each sequence from either strand with probability one half; the labels of its bases turn
        with it.
      seed, epoch: of the order and the strands.
      start_batch: number of the first batch.
      rows: int[n], numbers of those rows of every batch that are read; all by default.

    Returns:
      Iterator of `tokens`, `segment_ids` and `positions`, as `sequence_batch` has them; `labels`: int32[n],
      float32[n, classes or values] or, per base, int32[n, pieces * (length - 2) + k - 1] with -1 for bases without a
      label or past the end of their sequence; and `weights`: float32[n], 0 for rows that only fill. `close` ends its
      threads early.
    """
    count = len(examples.labels)
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(count) if shuffle else np.arange(count)
    flipped = generator.random(count) < 0.5 if reverse_complement else np.zeros(count, bool)
    read = np.arange(batch_size) if rows is None else rows

    def batch(number: int) -> dict[str, np.ndarray]:
        these = order[number * batch_size : (number + 1) * batch_size]
        weights = np.zeros(batch_size, np.float32)
        weights[: len(these)] = 1
        these = np.append(these, np.full(batch_size - len(these), these[0]))[read]
        sequences = [
            kmers.reverse_complement(examples.sequences[i]) if flipped[i] else examples.sequences[i] for i in these
        ]
        encoded = sequence_batch(sequences, k=k, length=length, pieces=pieces)
        if examples.target == "per_base":
            labels = np.full((len(read), pieces * (length - 2) + k - 1), -1, np.int32)
            for row, i in enumerate(these):
                of_bases = examples.labels[i]
                labels[row, : len(of_bases)] = of_bases[::-1] if flipped[i] else of_bases
        else:
            labels = examples.labels[these]
        return {**encoded, "labels": labels, "weights": weights[read]}

    batches = -(-count // batch_size)
    return iter(grain.MapDataset.range(start_batch, batches).map(batch).to_iter_dataset(_READ))


def sequence_batch(sequences: Sequence[np.ndarray], *, k: int, length: int, pieces: int = 1) -> Batch:
    """Sequences as rows of one segment each, or split into several such rows.

    Args:
      sequences: uint8[n_i] of bases, each of 1 to `pieces * (length - 2)` k-mers.
      k: k-mer length.
      length: tokens of a row; with several pieces the longest that the model reads, as all pieces but a sequence's last
        are full.
      pieces: rows of each sequence. Those that a sequence does not need are empty, their `segment_ids` 0.

    Returns:
      Batch of int32[len(sequences), length], or int32[len(sequences), pieces, length] with several pieces.
    """
    shape = (len(sequences), pieces, length)
    batch = {name: np.zeros(shape, np.int32) for name in ("tokens", "segment_ids", "positions")}
    for number, bases in enumerate(sequences):
        for row, piece in enumerate(into_pieces(bases, k, length - 2)):
            tokens = kmers.tokenize(piece, k)
            end = len(tokens) + 2
            batch["tokens"][number, row, 0] = kmers.CLS
            batch["tokens"][number, row, 1 : end - 1] = tokens
            batch["tokens"][number, row, end - 1] = kmers.SEP
            batch["segment_ids"][number, row, :end] = 1
            batch["positions"][number, row, :end] = np.arange(end)
    return batch if pieces > 1 else {name: value[:, 0] for name, value in batch.items()}


def _rows(split: Split, config: PretrainConfig, seed: int, **changes: Any) -> Rows:
    return Rows(
        split,
        dataclasses.replace(config.data, **changes),
        k=config.encoder.k,
        max_kmers=config.encoder.max_kmers,
        row_length=config.row_length,
        seed=seed,
    )
