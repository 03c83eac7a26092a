"""What `dnabert scan` does: slides a promoter model over a genome, and calls where it sees promoters.

The paper scans in windows of 1,001 bases (Ji et al. 2021, after PromID). The model reads less than that, 300 or 500
bases, so it is slid inside: the score of a window is the largest of the scores of the *reads* that fit into it. Both
lie on one grid, so neighbouring windows share nearly all of their reads, and each read is computed once.

A window's score stands for the bases at its centre, as many as there are from one window to the next. So the scores
tile the genome, and a called region is a run of tiles at or above the threshold. It is not the union of the windows,
because a single read that scores high lifts all windows that hold it: their union is 1,700 bases long, most of them
farther than 500 bases from any TSS that the read could have seen.
"""

import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

import numpy as np

from dnabert_jax import kmers, loaded, results, stored
from dnabert_jax.config import FinetuneConfig
from dnabert_jax.data import regions, sequences, text
from dnabert_jax.data.build import Progress
from dnabert_jax.data.fasta import IndexedFasta
from dnabert_jax.data.regions import Region
from dnabert_jax.errors import InputError
from dnabert_jax.evaluation import calls
from dnabert_jax.inference import predictions
from dnabert_jax.loaded import Model
from dnabert_jax.prediction import longest
from dnabert_jax.tasks import tss as sites
from dnabert_jax.training import workdir

Score = Literal["max", "mean"]
Strand = Literal["both", "+", "-"]

_BLOCK = 1 << 20
"""Bases of a record that are in memory at once."""


@dataclass(frozen=True)
class Grid:
    """Where windows begin, and the reads inside them."""

    length: int
    """Bases of a read, what the model was trained on."""
    window: int = 1001
    """Bases of a window."""
    stride: int = 100
    """Bases from one window to the next."""
    step: int = 50
    """Bases from one read to the next."""

    def __post_init__(self) -> None:
        if self.window < 1:
            raise InputError(f"window is {self.window}; expected 1 base or more")
        if not 1 <= self.length <= self.window:
            raise InputError(f"length is {self.length}; expected 1 to {self.window}, the bases of a window")
        if not 1 <= self.stride <= self.window:
            raise InputError(f"stride is {self.stride}; expected 1 to {self.window}, the bases of a window")
        if self.step < 1 or self.stride % self.step:
            raise InputError(
                f"step is {self.step}; expected a divisor of the stride, {self.stride}, so that windows share reads"
            )

    @property
    def reads(self) -> int:
        """Reads in a window."""
        return (self.window - self.length) // self.step + 1

    @property
    def fresh(self) -> int:
        """Reads from the beginning of one window to that of the next."""
        return self.stride // self.step

    @property
    def centre(self) -> int:
        """Bases from the beginning of a window to that of its tile."""
        return self.window // 2 - self.stride // 2


class Scores(NamedTuple):
    """Consecutive windows of one record."""

    record: str
    start: int
    """Of the first window."""
    values: np.ndarray
    """float32[strands, windows]."""


@dataclass(frozen=True)
class Call:
    """A called region: 0-based, half-open, with the largest score of its windows."""

    record: str
    start: int
    end: int
    strand: str
    score: float


@dataclass
class Summary:
    """What a scan found."""

    windows: int = 0
    """With a score, of both strands together."""
    called: list[Call] = field(default_factory=list)
    counts: calls.Counts | None = None
    """Against TSSs, where some were given."""

    def __str__(self) -> str:
        """A line, and a table of figures where there are TSSs to compare with."""
        lines = [f"{self.windows:,} windows scored, {len(self.called):,} regions called"]
        if self.counts:
            rows = [(name.replace("_", " "), value) for name, value in self.counts.figures().items()]
            width = max(len(name) for name, _ in rows)
            lines += [f"{name:{width}}  {_shown(value)}" for name, value in rows]
        return "\n".join(lines)


def scan(
    model: str | Path,
    fasta: str | Path,
    out: str | Path,
    *,
    named: Sequence[str] = (),
    cls: str = "",
    length: int = 0,
    window: int = 1001,
    stride: int = 100,
    step: int = 50,
    score: Score = "max",
    threshold: float = 0.5,
    strand: Strand = "both",
    tss: str | Path = "",
    allow_mismatch: bool = False,
    batch_size: int = 64,
    progress: Callable[[Progress], None] = lambda _: None,
    say: Callable[[str], None] = regions.note,
) -> Summary:
    """Scans a genome and writes what was called, the scores, and how well they meet the TSSs.

    Written are `OUT.bed` (BED6, the score a thousand times the largest probability), for each strand
    `OUT.plus.bedgraph` or `OUT.minus.bedgraph` (the score of each tile), and `OUT.json` (how it was made, and the
    figures). Each is whole or absent, and in the order of the FASTA's records.

    Args:
      model: with a classifier of sequences; workdir, converted or Hugging Face model, or hub id.
      fasta: the genome; plain or bgzip.
      out: prefix of the files to write.
      named: records or regions to scan; all records when empty.
      cls: class to look for; the last one, the positive one of two, when empty.
      length: bases that the model reads at once, as long as its training examples; 0 takes those of the run in `model`.
      window, stride, step: of the grid.
      score: what is made of the reads of a window: their largest score or the mean.
      threshold: a window is called from this score on.
      strand: strands to scan, each by itself.
      tss: GTF, GFF3 or BED of TSSs to compare with.
      allow_mismatch: go on where fewer than half of the annotation's introns read GT..AG.
      batch_size: reads computed at once.
      progress: hears how far the scan is.
      say: hears notes.

    Raises:
      InputError: a model without such a class; a length that it cannot read, or that is not known; an option out of
        range; what the readers of FASTA and TSS raise; nothing to scan; or outputs that cannot be written.
      RunStopped: the disk is full.
    """
    out = Path(out)
    strands = ("+", "-") if strand == "both" else (strand,)
    files = {"bed": _file(out, "bed"), "json": _file(out, "json")}
    files |= {each: _file(out, f"{_STRAND_NAMES[each]}.bedgraph") for each in strands}
    for file in files.values():
        results.check_place(file, inputs=(fasta, tss), model=model)
    if not 0 < threshold <= 1:
        raise InputError(f"threshold is {threshold}; expected more than 0 and at most 1")
    classifier = loaded.load(model, batch_size=batch_size, say=say)
    number = _class_number(classifier, cls, model)
    grid = Grid(length or _trained_length(model, say), window, stride, step)
    _require_readable(grid.length, classifier, model)
    summary, scanned = Summary(), []
    with IndexedFasta(fasta) as genome, contextlib.ExitStack() as stack:
        lengths = {name: genome.length(name) for name in genome.names}
        territory = _territory(named, lengths, say)
        known = _sites(tss, genome, fasta, allow_mismatch, say) if tss else []
        _make_folder(out.parent)
        graphs = {each: stack.enter_context(results.text(files[each])) for each in strands}
        for each, graph in graphs.items():
            graph.write(f'track type=bedGraph name="{out.name} {classifier.config.classes[number]} {each}"\n')
        open_calls = {each: _Run(each, threshold) for each in strands}
        for found in scores(classifier, genome, territory, grid, strands, number, score, progress):
            summary.windows += found.values.size
            start = found.start + grid.centre
            for each, values in zip(strands, found.values):
                _write_tiles(graphs[each], found.record, start, grid.stride, values)
                summary.called += open_calls[each].add(found.record, start, grid.stride, values)
                scanned.append(calls.Stretch(found.record, start, start + grid.stride * len(values), each))
        if not summary.windows:
            raise InputError(f"{fasta}: no window of {window} bases without N in what was to be scanned")
        for run in open_calls.values():
            summary.called += run.end()
        order = {name: at for at, name in enumerate(lengths)}
        summary.called.sort(key=lambda each: (order[each.record], each.start, each.strand))
        if tss:
            known = [each for each in known if each.strand in strands]
            summary.counts = calls.count(_stretches_of(summary.called), known, _joined(scanned), window=window)
        with results.text(files["bed"]) as bed:
            for at, call in enumerate(summary.called, start=1):
                row = (call.record, call.start, call.end, f"region_{at}", round(1000 * call.score), call.strand)
                bed.write("\t".join(map(str, row)) + "\n")
        with results.text(files["json"]) as file:
            made = {
                "model": str(model),
                "fasta": str(fasta),
                "regions": [str(each) for each in territory] if named else [],
                "class": classifier.config.classes[number],
                **{name: getattr(grid, name) for name in ("length", "window", "stride", "step")},
                "score": score,
                "threshold": threshold,
                "strand": strand,
                "windows": summary.windows,
                "called": len(summary.called),
                "tss": str(tss),
                "figures": summary.counts.figures() if summary.counts else None,
            }
            file.write(json.dumps(made, indent=2) + "\n")
    return summary


def scores(
    model: Model,
    genome: IndexedFasta,
    territory: Iterable[Region],
    grid: Grid,
    strands: Sequence[str],
    number: int,
    score: Score = "max",
    progress: Callable[[Progress], None] = lambda _: None,
) -> Iterator[Scores]:
    """Scores the windows of regions, in order, with a few blocks of them in memory.

    A window that holds an N has no score. Windows begin at every stride from the beginning of their region on.

    Args:
      model: classifier of sequences.
      genome: where the bases are.
      territory: regions with a definite end.
      grid: windows, and reads in them.
      strands: `+`, `-` or both; on `-` the reads are those of the other strand at the same places.
      number: of the class whose probability is the score.
      score: what is made of the reads of a window.
      progress: hears how far it is.

    Yields:
      Windows that follow one another at every stride. What is yielded next may follow on directly.
    """
    territory = list(territory)
    total = sum(region.end - region.start for region in territory)
    blocks = _blocks(genome, territory, grid, len(strands))
    reads = _reads(genome, blocks, grid, strands)
    before = None
    found = predictions.predict(model.config, model.params, reads, batch_size=model.batch_size)
    for (block, strand, place), values in found:
        block.scores[strand, place] = values[number]
        block.missing -= 1
        if not block.missing % model.batch_size:
            progress(Progress(block.record, block.before + place * grid.step + grid.length, total))
        if block.missing:
            continue
        if block.carried:  # the reads that its first windows share with the last ones of the block before
            block.scores[:, : block.carried] = before.scores[:, -block.carried :]
        before = block
        inside = np.lib.stride_tricks.sliding_window_view(block.scores, grid.reads, axis=1)[:, :: grid.fresh]
        yield Scores(block.record, block.start, inside.max(-1) if score == "max" else inside.mean(-1, dtype=np.float32))


@dataclass(eq=False)
class _Block:
    """Consecutive windows of one stretch without N, and the scores of their reads."""

    record: str
    start: int
    """Of the first window."""
    carried: int
    """Reads whose scores the block before has: its last ones."""
    scores: np.ndarray
    """float32[strands, reads], at every step."""
    missing: int
    """Scores still to come."""
    before: int
    """Bases of everything scanned before its start."""


def _blocks(genome: IndexedFasta, territory: list[Region], grid: Grid, strands: int) -> Iterator[_Block]:
    before = 0
    for region in territory:
        for start, end in _known(genome, region):
            first = region.start + grid.stride * -(-(start - region.start) // grid.stride)
            windows = (end - first - grid.window) // grid.stride + 1
            at_once = max(_BLOCK // grid.stride, 1)
            for at in range(0, windows, at_once):
                count = min(at_once, windows - at)
                reads = (count - 1) * grid.fresh + grid.reads
                carried = max(grid.reads - grid.fresh, 0) if at else 0
                block_start = first + at * grid.stride
                values = np.full((strands, reads), np.nan, np.float32)
                missing = strands * len(_places(grid, reads, carried))
                yield _Block(region.name, block_start, carried, values, missing, before + block_start - region.start)
        before += region.end - region.start


def _known(genome: IndexedFasta, region: Region) -> Iterator[tuple[int, int]]:
    """The longest stretches without N, from left to right."""
    start = None
    for at in range(region.start, region.end, _BLOCK):
        known = genome.fetch(region.name, at, min(at + _BLOCK, region.end)) != kmers.N
        changes = np.flatnonzero(np.diff(known, prepend=start is not None))
        for place in (at + changes).tolist():
            if start is None:
                start = place
            else:
                yield start, place
                start = None
    if start is not None:
        yield start, region.end


def _places(grid: Grid, reads: int, carried: int) -> np.ndarray:
    """Which reads of a block are to be computed: none that the one before has, and none that lies across windows."""
    places = np.arange(carried, reads)
    return places[places % grid.fresh < grid.reads]


def _reads(
    genome: IndexedFasta, blocks: Iterable[_Block], grid: Grid, strands: Sequence[str]
) -> Iterator[tuple[tuple[_Block, int, int], np.ndarray]]:
    for block in blocks:
        count = block.scores.shape[1]
        bases = genome.fetch(block.record, block.start, block.start + (count - 1) * grid.step + grid.length)
        other = kmers.reverse_complement(bases)
        for place in _places(grid, count, block.carried).tolist():
            start, end = place * grid.step, place * grid.step + grid.length
            for number, strand in enumerate(strands):
                read = bases[start:end] if strand == "+" else other[len(bases) - end : len(bases) - start]
                yield (block, number, place), read


class _Run:
    """The tiles at or above the threshold that follow one another on one strand, as they come."""

    def __init__(self, strand: str, threshold: float) -> None:
        self._strand, self._threshold = strand, threshold
        self._open: Call | None = None

    def add(self, record: str, start: int, stride: int, values: np.ndarray) -> list[Call]:
        """Takes the tiles from `start` on, float32[tiles], and gives back the regions that are complete."""
        done = []
        called = np.concatenate([[False], values >= self._threshold, [False]])
        borders = np.flatnonzero(called[1:] != called[:-1])
        for first, last in zip(borders[::2].tolist(), borders[1::2].tolist()):
            found = Call(record, start + first * stride, start + last * stride, self._strand, values[first:last].max())
            before = self._open
            if before and (before.record, before.end) == (record, found.start):
                found = Call(record, before.start, found.end, self._strand, max(before.score, found.score))
            else:
                done += self.end()
            self._open = found
        return done

    def end(self) -> list[Call]:
        """The region that may have gone on, if any."""
        done, self._open = self._open, None
        return [done] if done else []


def _write_tiles(file: TextIO, record: str, start: int, stride: int, values: np.ndarray) -> None:
    ends = start + stride * np.arange(1, len(values) + 1)
    file.writelines(
        f"{record}\t{end - stride}\t{end}\t{value:.4f}\n" for end, value in zip(ends.tolist(), values.tolist())
    )


_STRAND_NAMES = {"+": "plus", "-": "minus"}


def _file(out: Path, ending: str) -> Path:
    if not out.name:
        raise InputError(f"{out}: no prefix of file names; expected one, such as calls/chr20")
    return out.with_name(f"{out.name}.{ending}")


def _class_number(model: Model, name: str, source: str | Path) -> int:
    loaded.require_fine_tuned(model.config, str(source))
    classes = model.config.classes
    if model.config.head not in ("single_label", "multi_label"):
        raise InputError(f"{source}: gives no probability of a class to a sequence; expected a classifier of sequences")
    if name and name not in classes:
        raise InputError(f"class is {name!r}; expected one of {', '.join(classes)}, which {source} knows")
    return classes.index(name) if name else len(classes) - 1


_LOOKED_AT = 1000
"""Training examples whose length tells that of all."""


def _trained_length(source: str | Path, say: Callable[[str], None]) -> int:
    """Bases of the training examples of the run in a workdir."""
    otherwise = "expected --length, the bases of the examples that the model was trained on"
    if stored.form_of(source) != "workdir":
        raise InputError(f"{source}: does not say how long its training examples were; {otherwise}")
    data = workdir.read_config(source, FinetuneConfig).data
    try:
        read = islice(sequences.read(data.train, k=1, fasta=data.fasta, say=say), _LOOKED_AT)
        found = {len(each.bases) for each in read}
    except (OSError, InputError):
        raise InputError(f"{data.train}: its training examples cannot be read any more; {otherwise}") from None
    if len(found) > 1:
        raise InputError(f"{data.train}: has examples of {min(found)} to {max(found)} bases; {otherwise}")
    (length,) = found
    say(f"the model reads {length} bases at once, the length of its training examples")
    return length


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); expected a folder to write in") from None


def _require_readable(length: int, model: Model, source: str | Path) -> None:
    k, most = model.config.encoder.k, longest(model.config)
    if not k <= length <= most:
        raise InputError(f"length is {length}; expected {k} to {most} bases, what {source} reads")


def _territory(named: Sequence[str], lengths: dict[str, int], say: Callable[[str], None]) -> list[Region]:
    """The regions to scan, disjoint and in genome order."""
    if not named:
        return [Region(name, 0, length) for name, length in lengths.items()]
    order = {name: number for number, name in enumerate(lengths)}
    waiting = deque(sorted(regions.resolve(named, lengths, say), key=lambda each: (order[each.name], each.start)))
    found = [waiting.popleft()]
    for region in waiting:
        last = found[-1]
        if regions.overlaps(last, region.name, region.start, region.end):
            found[-1] = Region(last.name, last.start, max(last.end, region.end))
        else:
            found.append(region)
    return found


def _sites(
    path: str | Path, genome: IndexedFasta, fasta: str | Path, allow_mismatch: bool, say: Callable[[str], None]
) -> list[calls.Site]:
    lengths = {name: genome.length(name) for name in genome.names}
    if _is_bed(path):
        table = sites.of_bed(path, lengths, fasta, say)
    else:
        table = sites.of_annotation(path, lengths, fasta, say, genome=genome, allow_mismatch=allow_mismatch)
    return [calls.Site(*row) for row in zip(table.record, table.position.tolist(), table.strand)]


def _is_bed(path: str | Path) -> bool:
    """Whether the first row has whole numbers where BED has them, in columns 2 and 3; GTF and GFF3 have words there."""
    for _, row in text.lines(path):
        if row.strip() and not row.startswith("#") and row.split(None, 1)[0] not in ("track", "browser"):
            fields = row.split()
            return len(fields) >= 3 and fields[1].isdigit() and fields[2].isdigit()
    return False


def _stretches_of(found: list[Call]) -> list[calls.Stretch]:
    return [calls.Stretch(each.record, each.start, each.end, each.strand) for each in found]


def _joined(scanned: list[calls.Stretch]) -> list[calls.Stretch]:
    """Stretches that follow on directly as one."""
    found: dict[str, list[calls.Stretch]] = {}
    for each in scanned:
        here = found.setdefault(each.strand, [])
        if here and (here[-1].record, here[-1].end) == (each.record, each.start):
            each = here.pop()._replace(end=each.end)
        here.append(each)
    return [each for here in found.values() for each in here]


def _shown(value: Any) -> str:
    if value is None:
        return "undefined"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
