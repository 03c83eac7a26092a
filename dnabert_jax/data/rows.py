"""Rows of tokens: the segments of an epoch, packed, in shuffled order, any of them at hand by its number."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from dnabert_jax import kmers
from dnabert_jax.config import DataConfig
from dnabert_jax.data import packing
from dnabert_jax.data.segments import Sampler, Segments
from dnabert_jax.data.shards import Split

Batch = dict[str, np.ndarray]
"""`tokens`, `segment_ids` and `positions`, int32[rows, row_length] each."""

_BORDERS = 2
"""[CLS] before and [SEP] behind the k-mers of a segment."""

_EPOCHS_KEPT = 2


@dataclass(frozen=True)
class _Epoch:
    segments: Segments
    order: np.ndarray  # segments from short to long
    rows: np.ndarray  # shuffled rows


class Rows:
    """The rows of every epoch; threads may take some at the same time.

    Packing sees lengths alone, and these are the same in every epoch, so it is done once; which of the segments of a
    length goes to which place is drawn for each epoch, and so is the order of the rows.

    Args:
      split: the bases.
      config: how they are sampled and whether they are packed.
      k: k-mer length.
      max_kmers: k-mers in a full segment.
      row_length: tokens of a row.
      seed: everything follows from it.

    Attributes:
      per_epoch: rows in an epoch.
      most_segments: segments in the row that has most.
    """

    def __init__(self, split: Split, config: DataConfig, *, k: int, max_kmers: int, row_length: int, seed: int) -> None:
        self._split, self._k, self._row_length, self._seed = split, k, row_length, seed
        self._sampler = Sampler(split, config, k, max_kmers, seed)
        lengths = np.sort(self._sampler.kmers) + _BORDERS
        packed = packing.pack(lengths, row_length) if config.pack else packing.one_a_row(lengths)
        self.per_epoch = packed.rows
        # The segments of row r, from left to right, are places[bounds[r]:bounds[r + 1]] in the order of lengths.
        self._places = np.lexsort((packed.offset, packed.row))
        self._bounds = np.searchsorted(packed.row[self._places], np.arange(packed.rows + 1))
        self.most_segments = int(np.diff(self._bounds).max(initial=1))
        self._offsets = packed.offset
        self._epochs: OrderedDict[int, _Epoch] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, numbers: np.ndarray) -> Batch:
        """Rows by their numbers, int64[rows], counted through all epochs: row n is of epoch `n // per_epoch`."""
        batch = {
            name: np.zeros((len(numbers), self._row_length), np.int32)
            for name in ("tokens", "segment_ids", "positions")
        }
        epochs, within = np.divmod(numbers, self.per_epoch)
        for epoch in np.unique(epochs):
            these = np.flatnonzero(epochs == epoch)
            self._fill(batch, these, self._epoch(int(epoch)), within[these])
        return batch

    def _epoch(self, number: int) -> _Epoch:
        with self._lock:
            if number not in self._epochs:
                segments = self._sampler.epoch(number)
                generator = np.random.default_rng([self._seed, 2, number])
                order = np.lexsort((generator.random(len(segments.kmers)), segments.kmers))
                self._epochs[number] = _Epoch(segments, order, generator.permutation(self.per_epoch))
                while len(self._epochs) > _EPOCHS_KEPT:
                    self._epochs.popitem(last=False)
            self._epochs.move_to_end(number)
            return self._epochs[number]

    def _fill(self, batch: Batch, into: np.ndarray, epoch: _Epoch, numbers: np.ndarray) -> None:
        """Writes rows `numbers` of an epoch into the places `into` of a batch."""
        rows = epoch.rows[numbers]
        counts = self._bounds[rows + 1] - self._bounds[rows]
        ranks = _ramps(counts)
        places = self._places[np.repeat(self._bounds[rows], counts) + ranks]
        row, offset, chosen = np.repeat(into, counts), self._offsets[places], epoch.order[places]
        good = epoch.segments.usable[chosen]
        row, offset, chosen, ranks = row[good], offset[good], chosen[good], ranks[good]
        if not len(chosen):
            return

        contig, start, lengths = (
            epoch.segments.contig[chosen],
            epoch.segments.start[chosen],
            epoch.segments.kmers[chosen],
        )
        bases = lengths + self._k - 1
        pieces = [
            self._split.read(*where) for where in zip(contig.tolist(), start.tolist(), bases.tolist(), strict=True)
        ]
        for index in np.flatnonzero(epoch.segments.flipped[chosen]):
            pieces[index] = kmers.reverse_complement(pieces[index])
        # All segments are tokenised as one; the k-mers across the joints are never picked.
        tokens = kmers.tokenize(np.concatenate(pieces), self._k)
        picked = np.repeat(np.cumsum(bases) - bases, lengths) + _ramps(lengths)

        width = lengths + _BORDERS
        positions = _ramps(width)
        places = np.repeat(row * self._row_length + offset, width) + positions
        batch["positions"].reshape(-1)[places] = positions
        batch["segment_ids"].reshape(-1)[places] = np.repeat(ranks + 1, width)
        flat = batch["tokens"].reshape(-1)
        begin = row * self._row_length + offset
        flat[begin] = kmers.CLS
        flat[begin + width - 1] = kmers.SEP
        flat[np.repeat(begin + 1, lengths) + _ramps(lengths)] = tokens[picked]


def _ramps(counts: np.ndarray) -> np.ndarray:
    """0..c-1 for each count c, one behind the other."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
