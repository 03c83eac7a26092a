"""Binding sites of a transcription factor: windows around the peaks of a ChIP-seq experiment, and windows without.

The task is that of DeepBind, DeepSEA and Basset, with the paper's 101 bases by default: bound or background. Background
is either the bound windows themselves with their dinucleotides shuffled, which asks for the motif and nothing else, or
windows of the genome outside every peak that are as rich in G and C, which is nearer to what a cell chooses from.
"""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np

from dnabert_jax import kmers
from dnabert_jax.data import regions
from dnabert_jax.data.fasta import IndexedFasta
from dnabert_jax.errors import InputError
from dnabert_jax.tasks import background, dataset, peaks, records, shuffles, splits
from dnabert_jax.tasks.dataset import Example, Place, Separation
from dnabert_jax.tasks.excluded import Excluded
from dnabert_jax.tasks.peaks import Peak, Peaks
from dnabert_jax.tasks.tfbs_dataset import (
    BACKGROUND,
    BETWEEN,
    BOUND,
    CLASSES,
    DEFAULTS,
    SAME,
    TOO_CLOSE,
    TOO_SHORT,
    UNKNOWN,
    Options,
    Summary,
    readme,
)

Say = Callable[[str], None]


def make(
    peak_file: str | Path,
    out: str | Path,
    options: Options = DEFAULTS,
    *,
    fasta: str | Path | None = None,
    exclude: Sequence[str | Path] = (),
    overwrite: bool = False,
    say: Say = regions.note,
) -> Summary:
    """Writes windows around peaks and as many without, as `dataset.write` does.

    Peaks whose window holds an N, reaches past the end of its record or of a sequence without a genome, is that of an
    earlier peak, or lies across a border between two splits are dropped and counted.

    Args:
      peak_file: narrowPeak, BED or FASTA, as `peaks.read` tells them apart.
      out: folder to make; its parents are made too.
      options: how the examples are made.
      fasta: the genome, plain or bgzip; needed but for shuffles of a FASTA of peaks. Its `chr20` is the peaks' `20`.
      exclude: further files of peaks that no GC-matched window may touch.
      overwrite: replace `out` if it holds an earlier result and nothing else.
      say: is told, in one line each, what the user should know.

    Raises:
      InputError: as the readers of the formats; a genome that is needed and not given, a peak past the end of its
        record, sequences that are not those of the genome at their places, sequences without places and no random
        split, a class without examples in a split, or an `out` that holds other files.
      RunStopped: the files could not be written.
    """
    out = Path(os.path.abspath(out))
    dataset.require_free(out, overwrite)
    found = peaks.read(peak_file, say)
    _require_enough(found, fasta, exclude, options)
    summary = Summary(found.format)
    rng = np.random.default_rng(options.seed)
    with IndexedFasta(fasta) if fasta else contextlib.nullcontext() as genome:
        lengths = _lengths(found, genome, options.choice)
        located = _located(found, lengths, fasta, say) if fasta else found.peaks
        summary.peaks = len(located)
        if genome and found.format == "FASTA":
            _require_genome(found, located, genome, fasta)
        windows = _windows(located, lengths, genome, options.window, summary)
        if not windows:
            raise InputError(
                f"{found.path}: no peak gives a window ({summary.reasons}); expected peaks with {options.window} known "
                "bases around their middle"
            )
        bound, territories, where = _divided(windows, found.placed, lengths, options, summary, say)
        bound, among_bound = dataset.distinct(bound)
        if options.negatives == "shuffle":
            unbound = _shuffled(bound, options.negatives_per_peak, rng)
        else:
            excluded = _excluded(located, exclude, lengths, fasta, say).padded(options.window)
            unbound, summary.missing_negatives = _matched(bound, genome, territories, excluded, options, rng)
    examples, among_all = dataset.distinct(bound + unbound)
    summary.separation = Separation(*map(sum, zip(astuple(among_bound), astuple(among_all))))
    _describe(examples, summary)
    dataset.write(
        out,
        task="tfbs",
        classes=CLASSES,
        examples=examples,
        readme=readme(found, fasta, exclude, options, summary),
        separation=summary.separation,
        where=where,
    )
    return summary


def _require_enough(found: Peaks, fasta: str | Path | None, exclude: Sequence[str | Path], options: Options) -> None:
    path, gc_matched = found.path, options.negatives == "gc-matched"
    if not fasta and (found.format != "FASTA" or gc_matched):
        wanted = "GC-matched windows are drawn" if gc_matched else f"the windows of a {found.format} file are read"
        raise InputError(f"{path}: no genome; expected one with --fasta, from which {wanted}")
    if exclude and not gc_matched:
        raise InputError(
            "files to exclude, and negatives that are shuffles; expected them with --negatives gc-matched only"
        )
    if not found.placed:
        name = next(peak.name for peak in found.peaks)
        if gc_matched or options.choice.named:
            wanted = "for windows outside of them" if gc_matched else "for a split by region"
            raise InputError(
                f"{path}: record {name!r} names no place of as many bases; expected names such as chr1:100-200 {wanted}"
            )
        if not options.random_split:
            raise InputError(
                f"{path}: record {name!r} names no place of as many bases, and a split by region takes places; "
                "expected names such as chr1:100-200, or --random-split"
            )


def _lengths(found: Peaks, genome: IndexedFasta | None, choice: splits.Choice) -> dict[str, int]:
    """Bases of each record, in order; without a genome as far as peaks and named regions reach, and 2 before 10."""
    if genome:
        return {name: genome.length(name) for name in genome.names}
    lengths = Counter()
    for peak in found.peaks:
        lengths[peak.record] = max(lengths[peak.record], peak.end)
    for region in map(regions.parse, (*choice.validation, *choice.test)):
        name = regions.match_name(region.name, lengths)
        if name is not None:
            lengths[name] = max(lengths[name], region.end or 0)
    return dict(sorted(lengths.items(), key=lambda item: _natural(item[0])))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name) if part]


def _located(found: Peaks, lengths: Mapping[str, int], fasta: str | Path, say: Say) -> list[Peak]:
    """The peaks under the FASTA's own record names, without those on records that it lacks."""
    if not found.placed:
        return found.peaks
    names = records.match((peak.record for peak in found.peaks), lengths, found.path, fasta, say)
    located = [peak._replace(record=names[peak.record]) for peak in found.peaks if peak.record in names]
    for peak in located:
        if peak.end > lengths[peak.record]:
            raise InputError(
                f"{found.path}: {peak.at}: a peak that ends at {peak.end}; expected at most {lengths[peak.record]}, "
                f"the end of record {peak.record} of {fasta}"
            )
    return located


def _require_genome(found: Peaks, located: Sequence[Peak], genome: IndexedFasta, fasta: str | Path) -> None:
    """Raises InputError unless most sequences are what the genome has at their places, but for N."""
    if not found.placed:
        return
    same = 0
    for peak in located:
        there = _on_strand(genome.fetch(peak.record, peak.start, peak.end), peak.strand)
        same += bool(((there == peak.bases) | (there == kmers.N) | (peak.bases == kmers.N)).all())
    if same < len(located) / 2:
        raise InputError(
            f"{found.path}: only {same} of {len(located)} sequences are what {fasta} has at their places; expected "
            "nearly all, as where the two are of one assembly"
        )


def _on_strand(bases: np.ndarray, strand: str) -> np.ndarray:
    return kmers.reverse_complement(bases) if strand == "-" else bases


Window = tuple[str, int, int, str, str, np.ndarray]
"""Record, start, end, strand, the name in a FASTA, and the bases."""


def _windows(
    located: Sequence[Peak],
    lengths: Mapping[str, int],
    genome: IndexedFasta | None,
    window: int,
    summary: Summary,
) -> list[Window]:
    """The windows that there are, in genome order; of sequences without places in the order of the file."""
    order = {name: number for number, name in enumerate(lengths)}
    found: list[Window] = []
    seen = set()
    for peak in sorted(located, key=lambda peak: (order.get(peak.record, 0), peak.centre if peak.record else 0)):
        start = peak.centre - window // 2
        end = start + window
        place = (peak.record, start, end, peak.strand)
        from_genome = genome is not None and peak.record
        if from_genome and not 0 <= start < end <= lengths[peak.record]:
            summary.dropped[TOO_CLOSE] += 1
        elif not from_genome and not peak.start <= start < end <= peak.end:
            summary.dropped[TOO_SHORT] += 1
        elif peak.record and place in seen:
            summary.dropped[SAME] += 1
        else:
            seen.add(place)
            if from_genome:
                bases = _on_strand(genome.fetch(peak.record, start, end), peak.strand)
            else:
                first = start - peak.start if peak.strand != "-" else peak.end - end
                bases = peak.bases[first : first + window]
            if (bases == kmers.N).any():
                summary.dropped[UNKNOWN] += 1
            else:
                found.append((*place, peak.name, bases))
    return found


def _divided(
    windows: Sequence[Window],
    placed: bool,
    lengths: Mapping[str, int],
    options: Options,
    summary: Summary,
    say: Say,
) -> tuple[list[Example], splits.Territories | None, dict[str, Sequence[str]]]:
    """The bound examples, each in its split, and where the splits are."""
    if not placed:
        owners = splits.at_random([bases.tobytes() for *_, bases in windows], options.seed)
        examples = [
            Example(BOUND, int(split), bases.tobytes(), "peak", None, name)
            for (*_, name, bases), split in zip(windows, owners)
        ]
        return examples, None, dict.fromkeys(options.choice.asked, ())
    islands = splits.islands_of((record, start, end, strand) for record, start, end, strand, *_ in windows)
    territories = splits.territories(options.choice, islands, lengths, say)
    examples = []
    for record, start, end, strand, _, bases in windows:
        place = Place(record, start, end, strand)
        split = int(territories.of(record, np.array([start]), np.array([end]))[0])
        if split == splits.NOWHERE:
            summary.dropped[BETWEEN] += 1
        else:
            examples.append(Example(BOUND, split, bases.tobytes(), "peak", place, dataset.name(place)))
    return examples, territories, territories.where(options.choice)


def _shuffled(bound: Sequence[Example], times: int, rng: np.random.Generator) -> list[Example]:
    sequences = [np.frombuffer(each.sequence, np.uint8) for each in bound]
    rounds = [shuffles.dinucleotide(sequences, rng) for _ in range(times)]
    return [
        Example(
            BACKGROUND,
            source.split,
            bases.tobytes(),
            "dinucleotide shuffle",
            None,
            f"shuffle {number + 1} of {source.id}" if times > 1 else f"shuffle of {source.id}",
        )
        for number, shuffled in enumerate(rounds)
        for source, bases in zip(bound, shuffled, strict=True)
    ]


def _excluded(
    located: Sequence[Peak],
    exclude: Sequence[str | Path],
    lengths: Mapping[str, int],
    fasta: str | Path,
    say: Say,
) -> Excluded:
    """All of every peak, not only its window, of all files."""
    intervals = [(peak.record, peak.start, peak.end) for peak in located]
    for path in exclude:
        other = peaks.read(path, say)
        if not other.placed:
            raise InputError(f"{path}: sequences without places; expected narrowPeak, BED or names such as chr1:1-200")
        names = records.match((peak.record for peak in other.peaks), lengths, path, fasta, say)
        intervals += [(names[peak.record], peak.start, peak.end) for peak in other.peaks if peak.record in names]
    return Excluded.of(intervals)


def _matched(
    bound: Sequence[Example],
    genome: IndexedFasta,
    territories: splits.Territories,
    excluded: Excluded,
    options: Options,
    rng: np.random.Generator,
) -> tuple[list[Example], int]:
    """Windows of the records that have peaks, and how many there were not."""
    wanted = np.zeros((len(splits.NAMES), options.window + 1), np.int64)
    for each in bound:
        gc = background.gc_count(np.frombuffer(each.sequence, np.uint8))
        wanted[each.split, gc] += options.negatives_per_peak
    names = list(dict.fromkeys(each.place.record for each in bound))
    found, missing = background.gc_matched(genome, names, territories, excluded, wanted, rng)
    order = {name: number for number, name in enumerate(names)}
    examples = []
    for each in sorted(found, key=lambda each: (order[each.record], each.start)):
        place = Place(each.record, each.start, each.start + options.window, ".")
        name = dataset.name(place)
        examples.append(Example(BACKGROUND, each.split, each.bases.tobytes(), "GC-matched window", place, name))
    return examples, missing


def _describe(examples: Sequence[Example], summary: Summary) -> None:
    for number, name in enumerate(splits.NAMES):
        here = [each for each in examples if each.split == number]
        if here:
            by_class = {label: [each.sequence for each in here if each.label == label] for label in CLASSES}
            summary.examples[name] = {label: len(sequences) for label, sequences in by_class.items()}
            summary.gc[name] = {label: _gc_share(sequences) for label, sequences in by_class.items()}


def _gc_share(sequences: Sequence[bytes]) -> float:
    bases = np.frombuffer(b"".join(sequences), np.uint8)
    return float(background.gc_count(bases)) / max(len(bases), 1)
