"""Which bases become segments: the paper's two ways of sampling a genome, *cut* and *sample*.

A split is first reduced to stretches, which hold no run of N that a segment could not bear. The lengths of all segments
are drawn once, from the seed: half of them full, half uniform. Every epoch uses these same lengths: *cut* lays them end
to end in a new order, so that an epoch covers every base of a stretch exactly once; *sample* drops each of them at a
random place. So every epoch has the same number of segments of each length, and with that the same number of rows,
which is what lets any batch of any epoch be found without going through those before it.
"""

from dataclasses import dataclass

import numpy as np

from dnabert_jax import kmers
from dnabert_jax.config import DataConfig
from dnabert_jax.data.shards import Split
from dnabert_jax.errors import InputError

_SAMPLE_BASES = 256
"""*sample* draws one segment for this many bases, as DNABERT's scripts do."""

_TRIES = 1_000


@dataclass(frozen=True)
class Stretches:
    """Intervals of a split that segments may come from, in order; arrays of one entry each.

    Attributes:
      contig: int32, index into `Split.contigs`.
      start: int64, 0-based offset in the contig.
      length: int64, bases.
    """

    contig: np.ndarray
    start: np.ndarray
    length: np.ndarray


@dataclass(frozen=True)
class Segments:
    """The segments of one epoch; arrays of one entry each.

    Attributes:
      contig: int32, index into `Split.contigs`.
      start: int64, 0-based offset in the contig of the first base.
      kmers: int32, number of k-mers; a segment has `kmers + k - 1` bases.
      flipped: bool, whether it is read from the other strand.
      usable: bool, False where it holds too many N and is not to be produced.
    """

    contig: np.ndarray
    start: np.ndarray
    kmers: np.ndarray
    flipped: np.ndarray
    usable: np.ndarray


class UnknownBases:
    """Where the N of a split are, so that those of any interval can be counted."""

    def __init__(self, split: Split) -> None:
        self._origins = np.cumsum([0, *(contig.length for contig in split.contigs)])[:-1]
        starts, ends = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for contig, offset, bases in split.scan():
            edges = np.flatnonzero(np.diff(np.concatenate([[False], bases == kmers.N, [False]]).view(np.int8)))
            origin = self._origins[contig] + offset
            starts.append(edges[::2] + origin)
            ends.append(edges[1::2] + origin)
        start, end = np.concatenate(starts), np.concatenate(ends)
        # Runs that go on in the next chunk of the contig are one.
        first = np.ones(len(start), bool)
        first[1:] = (start[1:] != end[:-1]) | np.isin(start[1:], self._origins)
        last = np.append(first[1:], True)[: len(end)]
        self._start, self._end = start[first], end[last]
        self._before = np.cumsum(np.append(0, self._end - self._start))

    def runs(self) -> tuple[np.ndarray, np.ndarray]:
        """Starts and ends of the maximal runs, int64 each, in coordinates that count through all contigs."""
        return self._start, self._end

    def count(self, contig: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Number of N in each interval, int64."""
        begin = self._origins[contig] + start
        return self._below(begin + length) - self._below(begin)

    def _below(self, place: np.ndarray) -> np.ndarray:
        """Number of N before each place."""
        run = np.searchsorted(self._start, place, side="right") - 1
        if not len(self._start):
            return np.zeros(np.shape(place), np.int64)
        into = np.minimum(place - self._start[run], self._end[run] - self._start[run])
        return np.where(run < 0, 0, self._before[run] + into)


def stretches(split: Split, unknown: UnknownBases, longest_run: int, shortest: int) -> Stretches:
    """A split without its runs of more than `longest_run` N, and without what is then shorter than `shortest` bases."""
    run_start, run_end = unknown.runs()
    long = run_end - run_start > longest_run
    run_start, run_end = run_start[long], run_end[long]
    contig, start, length = [], [], []
    origin = 0
    for index, each in enumerate(split.contigs):
        inside = slice(np.searchsorted(run_start, origin), np.searchsorted(run_start, origin + each.length))
        begin = np.append(0, run_end[inside] - origin)
        end = np.append(run_start[inside] - origin, each.length)
        kept = end - begin >= shortest
        contig.append(np.full(int(kept.sum()), index, np.int32))
        start.append(begin[kept])
        length.append((end - begin)[kept])
        origin += each.length
    return Stretches(np.concatenate(contig), np.concatenate(start), np.concatenate(length))


class Sampler:
    """Draws the segments of any epoch.

    Args:
      split: the bases.
      config: method, lengths, largest share of N, reverse complement.
      k: k-mer length.
      max_kmers: k-mers in a full segment.
      seed: everything follows from it.

    Attributes:
      kmers: int32[segments], the lengths that every epoch uses.

    Raises:
      InputError: no stretch is long enough for the shortest segment.
    """

    def __init__(self, split: Split, config: DataConfig, k: int, max_kmers: int, seed: int) -> None:
        self._config, self._k, self._seed = config, k, seed
        self._shortest = config.min_kmers + k - 1
        self._unknown = UnknownBases(split)
        longest_run = self._shortest - 1 if config.max_unknown else 0
        self._stretches = stretches(split, self._unknown, longest_run, self._shortest)
        if not len(self._stretches.length):
            raise InputError(
                f"{config.path}: no stretch of {self._shortest} known bases, the shortest segment (data.min_kmers "
                f"{config.min_kmers}, k {k}); expected longer sequences"
            )
        generator = np.random.default_rng([seed, 0])
        if config.method == "cut":
            self.kmers, self._stretch = self._tiling(generator, max_kmers)
        else:
            count = max(int(self._stretches.length.sum()) // _SAMPLE_BASES, 1)
            most = int(min(max_kmers, self._stretches.length.max() - k + 1))
            self.kmers = np.minimum(self._lengths(generator, count, max_kmers), most)

    def epoch(self, number: int) -> Segments:
        """The segments of epoch `number` (0, 1, ...), in no particular order."""
        generator = np.random.default_rng([self._seed, 1, number])
        if self._config.method == "cut":
            lengths, contig, start = self._cut(generator)
        else:
            lengths, (contig, start) = self.kmers, self._sample(generator)
        flipped = np.zeros(len(lengths), bool)
        if self._config.reverse_complement:
            flipped = generator.random(len(lengths)) < 0.5
        return Segments(contig, start, lengths, flipped, self._bearable(contig, start, lengths))

    def _lengths(self, generator: np.random.Generator, count: int, max_kmers: int) -> np.ndarray:
        """The paper's lengths in k-mers, int32[count]: full with probability `full_share`, otherwise uniform."""
        uniform = generator.integers(self._config.min_kmers, max_kmers, count, endpoint=True)
        return np.where(generator.random(count) < self._config.full_share, max_kmers, uniform).astype(np.int32)

    def _tiling(self, generator: np.random.Generator, max_kmers: int) -> tuple[np.ndarray, np.ndarray]:
        """Lengths that fill every stretch exactly, and the stretch of each, int32 both."""
        overlap, longest = self._k - 1, max_kmers + self._k - 1
        tilings = [self._tile(generator, int(bases), longest, max_kmers) for bases in self._stretches.length]
        counts = [len(each) for each in tilings]
        return np.concatenate(tilings) - np.int32(overlap), np.repeat(np.arange(len(counts), dtype=np.int32), counts)

    def _tile(self, generator: np.random.Generator, bases: int, longest: int, max_kmers: int) -> np.ndarray:
        """Lengths in bases, int32, none shorter or longer than allowed, that add up to `bases`."""
        drawn: list[np.ndarray] = []
        left = bases
        while left > 0:
            more = self._lengths(generator, left // longest + 1, max_kmers) + np.int32(self._k - 1)
            drawn.append(more)
            left -= int(more.sum())
        lengths = np.concatenate(drawn)
        ends = np.cumsum(lengths)
        last = int(np.searchsorted(ends, bases))
        lengths = lengths[: last + 1].copy()
        lengths[last] -= ends[last] - bases
        if lengths[last] < self._shortest and last:
            # The rest is too short for a segment: it joins the one before, or takes bases from it.
            both = int(lengths[last - 1] + lengths[last])
            if both <= longest:
                return np.append(lengths[: last - 1], np.int32(both))
            if both < 2 * self._shortest:  # only where full and shortest lengths nearly agree; a few bases are left out
                return lengths[:last]
            lengths[last - 1], lengths[last] = both - self._shortest, self._shortest
        return lengths

    def _cut(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The lengths of each stretch in a new order, with the contig and start of each."""
        order = np.lexsort((generator.random(len(self.kmers)), self._stretch))
        lengths = self.kmers[order]
        bases = lengths.astype(np.int64) + self._k - 1
        begin = np.cumsum(bases) - bases
        first = np.searchsorted(self._stretch, np.arange(len(self._stretches.length)))
        within = begin - begin[first][self._stretch]
        return lengths, self._stretches.contig[self._stretch], self._stretches.start[self._stretch] + within

    def _sample(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Contig and start of each segment, uniform over all places where it fits."""
        contig, start = self._places(generator, self.kmers)
        for _ in range(_TRIES):
            again = np.flatnonzero(~self._bearable(contig, start, self.kmers))
            if not len(again):
                break
            contig[again], start[again] = self._places(generator, self.kmers[again])
        return contig, start

    def _places(self, generator: np.random.Generator, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        stretch = np.zeros(len(lengths), np.int64)
        offset = np.zeros(len(lengths), np.int64)
        draw = generator.random(len(lengths))
        for length in np.unique(lengths):
            these = np.flatnonzero(lengths == length)
            fits = np.maximum(self._stretches.length - (length + self._k - 1) + 1, 0)
            ends = np.cumsum(fits)
            place = (draw[these] * ends[-1]).astype(np.int64)
            chosen = np.searchsorted(ends, place, side="right")
            stretch[these], offset[these] = chosen, place - (ends - fits)[chosen]
        return self._stretches.contig[stretch], self._stretches.start[stretch] + offset

    def _bearable(self, contig: np.ndarray, start: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Whether each segment has no more N than allowed."""
        if not self._config.max_unknown:
            return np.ones(len(lengths), bool)  # stretches hold none
        bases = lengths.astype(np.int64) + self._k - 1
        return self._unknown.count(contig, start, bases) <= self._config.max_unknown * bases
