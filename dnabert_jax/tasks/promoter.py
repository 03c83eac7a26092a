"""Promoters from transcription start sites or a list of sequences, and what looks like one but is none.

Prom-300 is the task of DeePromoter (Oubounyt et al. 2019) as DNABERT's paper sets it: 300 bases around each site, with
other negatives for promoters with a TATA box than for those without, so that neither the box nor the composition tells
the classes apart. The core promoter is the 70 bases nearest to the site.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from dnabert_jax import kmers
from dnabert_jax.data import regions
from dnabert_jax.data.fasta import IndexedFasta
from dnabert_jax.errors import InputError
from dnabert_jax.tasks import dataset, deepromoter, outside_promoters, promoter_sequences, shuffles, splits, tata
from dnabert_jax.tasks.dataset import Example, Place, Separation
from dnabert_jax.tasks.excluded import Excluded
from dnabert_jax.tasks.promoter_dataset import (
    BETWEEN,
    CLASSES,
    NON_PROMOTER,
    OTHER_KIND,
    PROM_300,
    PROMOTER,
    TOO_CLOSE,
    UNKNOWN,
    Options,
    Source,
    Summary,
    readme,
)
from dnabert_jax.tasks.tss import Frame, of_annotation, of_bed

_PROMOTER_KINDS = {True: "TATA promoter", False: "non-TATA promoter"}
_WINDOW_KINDS = {True: "TATA window outside promoters", False: "non-TATA window outside promoters"}

Say = Callable[[str], None]


class _Promoter(NamedTuple):
    id: str
    bases: np.ndarray
    """uint8[window]."""
    box: bool
    place: Place | None


class _Genome(NamedTuple):
    fasta: IndexedFasta
    lengths: Mapping[str, int]
    sites: Sequence[pd.DataFrame]
    """Of each file that tells of sites, as `tss.of_annotation` gives them; first those of the promoters, if known."""


def make(
    out: str | Path,
    options: Options,
    *,
    fasta: str | Path | None = None,
    gtf: str | Path | None = None,
    tss: str | Path | None = None,
    sequences: str | Path | None = None,
    overwrite: bool = False,
    say: Say = regions.note,
) -> Summary:
    """Writes windows around promoters, and as many of what is none, as `dataset.write` does.

    The promoters are those of `sequences`, or else of `tss`, or else of `gtf`. What else is given says where no window
    of the genome may be drawn from as a negative.

    Args:
      out: folder to make; its parents are made too.
      options: how the examples are made.
      fasta: the genome, plain or bgzip; needed but for a list of sequences with negatives made of themselves.
      gtf: its exons, GTF or GFF3. Its `chr20` is the genome's `20`.
      tss: BED of transcription start sites, one base each, with strands.
      sequences: one sequence of 300 bases a line, FASTA, or a table with a column `sequence`.
      overwrite: replace `out` if it holds an earlier result and nothing else.
      say: is told, in one line each, what the user should know.

    Raises:
      InputError: as the readers of the formats; no file of promoters, a genome that is needed and not given, sequences
        without `random_split`, no promoter that is left, a class without examples in a split, or an `out` that holds
        other files.
      RunStopped: the files could not be written.
    """
    source = Source(fasta, gtf, tss, sequences)
    _require_enough(source, options)
    out = Path(os.path.abspath(out))
    dataset.require_free(out, overwrite)
    summary = Summary()
    with IndexedFasta(fasta) if fasta else contextlib.nullcontext() as opened:
        genome = _genome(opened, source, options, say) if opened else None
        found = _of_sequences(source, options, summary) if sequences else _of_sites(genome, options, summary)
        promoters, territories, where = _divided(found, genome, source, options, summary, say)
        promoters, among_promoters = dataset.distinct(promoters)
        others = _non_promoters(promoters, genome, territories, source, options, summary, say)
    examples, among_all = dataset.distinct(promoters + others)
    summary.separation = Separation(*map(sum, zip(astuple(among_promoters), astuple(among_all))))
    counts = Counter((example.split, example.label) for example in examples)
    summary.examples = {
        name: {label: counts[split, label] for label in CLASSES}
        for split, name in enumerate(splits.NAMES)
        if any(counts[split, label] for label in CLASSES)
    }
    dataset.write(
        out,
        task="promoter",
        classes=CLASSES,
        examples=examples,
        readme=readme(source, options, summary),
        separation=summary.separation,
        where=where,
    )
    return summary


def _require_enough(source: Source, options: Options) -> None:
    if not source.promoters:
        raise InputError("no promoters; expected --gtf, --tss or --sequences")
    if not source.fasta and (source.gtf or source.tss):
        raise InputError(f"{source.gtf or source.tss}: no genome; expected one with --fasta")
    if source.sequences and options.choice.named:
        raise InputError(
            f"{source.sequences}: sequences, which have no place in a genome, and regions for validation or test; "
            "expected --random-split"
        )
    if source.sequences and not options.random_split:
        raise InputError(
            f"{source.sequences}: sequences have no place in a genome, and a split by region takes places; expected "
            "--random-split, or sites with --tss or --gtf"
        )


def _genome(opened: IndexedFasta, source: Source, options: Options, say: Say) -> _Genome:
    lengths = {name: opened.length(name) for name in opened.names}
    sites = []
    if source.tss:
        sites.append(of_bed(source.tss, lengths, source.fasta, say))
    if source.gtf:
        bases = {"genome": opened, "allow_mismatch": options.allow_mismatch}
        sites.append(of_annotation(source.gtf, lengths, source.fasta, say, **bases))
    return _Genome(opened, lengths, sites)


def _of_sequences(source: Source, options: Options, summary: Summary) -> list[_Promoter]:
    site = PROM_300.upstream
    found = promoter_sequences.read(source.sequences, PROM_300.bases, site + 1)
    rows = np.stack([each.bases for each in found])
    first, last = site - options.frame.upstream, site + options.frame.downstream + 1
    summary.promoters = len(found)
    known = (rows != kmers.N).all(axis=1)
    boxes = _boxes(rows, site, options)
    kept = _taken(known, boxes, options, summary)
    return [_Promoter(found[at].id, rows[at, first:last], bool(boxes[at]), None) for at in np.flatnonzero(kept)]


def _of_sites(genome: _Genome, options: Options, summary: Summary) -> list[_Promoter]:
    sites, frame = genome.sites[0], options.frame
    # What decides on a box may begin before the window of a core promoter does.
    reach = Frame(max(frame.upstream, -tata.FIRST), frame.downstream)
    strands = sites.strand.to_numpy(str)
    starts, ends = reach.around(sites.position.to_numpy(), strands)
    inside = (starts >= 0) & (ends <= sites.record.map(genome.lengths).to_numpy())
    summary.promoters = len(sites)
    summary.dropped[TOO_CLOSE] = int((~inside).sum())
    records, starts, ends, strands = sites.record.to_numpy()[inside], starts[inside], ends[inside], strands[inside]
    rows = np.zeros((len(starts), reach.bases), np.uint8)
    for row, record, start, end, strand in zip(rows, records, starts, ends, strands):
        bases = genome.fasta.fetch(record, int(start), int(end))
        row[:] = bases if strand == "+" else kmers.reverse_complement(bases)
    boxes = _boxes(rows, reach.upstream, options)
    kept = _taken((rows != kmers.N).all(axis=1), boxes, options, summary)
    more = reach.upstream - frame.upstream
    found = []
    for at in np.flatnonzero(kept):
        cut = (more, 0) if strands[at] == "+" else (0, more)
        place = Place(records[at], int(starts[at]) + cut[0], int(ends[at]) - cut[1], str(strands[at]))
        found.append(_Promoter(dataset.name(place), rows[at, more:], bool(boxes[at]), place))
    return found


def _boxes(rows: np.ndarray, site: int, options: Options) -> np.ndarray:
    """Whether each promoter, uint8[n, m] with its site at a place, has a TATA box: bool[n]."""
    first = site + tata.FIRST
    return tata.best(rows[:, first : first + tata.STRETCH]) >= options.tata_score


def _taken(known: np.ndarray, boxes: np.ndarray, options: Options, summary: Summary) -> np.ndarray:
    """Which promoters are free of N and of the kind that is asked for: bool[n]."""
    of_kind = np.where(boxes, options.takes(True), options.takes(False))
    summary.with_box, summary.without_box = int((known & boxes).sum()), int((known & ~boxes).sum())
    summary.dropped[UNKNOWN] = int((~known).sum())
    summary.dropped[OTHER_KIND] = int((known & ~of_kind).sum())
    return known & of_kind


def _divided(
    found: Sequence[_Promoter],
    genome: _Genome | None,
    source: Source,
    options: Options,
    summary: Summary,
    say: Say,
) -> tuple[list[Example], splits.Territories | None, Mapping[str, Sequence[str]]]:
    """The promoters with their splits; those across a border between two are dropped."""
    if not found:
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in summary.dropped.items() if count)
        raise InputError(f"{source.promoters}: no promoter is left ({dropped}); expected some of each class")
    if source.sequences:
        territories, where = None, {name: () for name in options.choice.asked}
        owners = splits.at_random([dataset.either_strand(each.bases.tobytes()) for each in found], options.seed)
    else:
        islands = splits.islands_of(each.place for each in found)
        territories = splits.territories(options.choice, islands, genome.lengths, say)
        where = territories.where(options.choice)
        owners = [_owner(each.place, territories) for each in found]
    summary.dropped[BETWEEN] = int(np.sum(np.equal(owners, splits.NOWHERE)))
    examples = [
        Example(PROMOTER, int(owner), each.bases.tobytes(), _PROMOTER_KINDS[each.box], each.place, each.id)
        for each, owner in zip(found, owners)
        if owner != splits.NOWHERE
    ]
    return examples, territories, where


def _owner(place: Place, territories: splits.Territories) -> int:
    return int(territories.of(place.record, np.array([place.start]), np.array([place.end]))[0])


def _non_promoters(
    promoters: Sequence[Example],
    genome: _Genome | None,
    territories: splits.Territories | None,
    source: Source,
    options: Options,
    summary: Summary,
    say: Say,
) -> list[Example]:
    """As many in each split as there are promoters, for those with a TATA box and for those without."""
    rng = np.random.default_rng(options.seed)
    others: list[Example] = []
    for box, kind in _PROMOTER_KINDS.items():
        sources = [each for each in promoters if each.kind == kind]
        way = options.negatives_of(box)
        if not sources:
            continue
        if way == "genome":
            if not genome:
                raise InputError(
                    f"{source.promoters}: no genome to draw windows {'with' if box else 'without'} a TATA box from; "
                    "expected --fasta, or --negatives shuffle or deepromoter"
                )
            if not genome.sites:
                say(f"no --gtf and no --tss: windows of {source.fasta} that are taken for no promoters may be some")
            windows = _windows(sources, promoters + others, genome, territories, box, options, rng)
            summary.missing_negatives += len(sources) - len(windows)
            others += windows
        else:
            others += _altered(sources, way, rng)
    if summary.missing_negatives:
        say(f"{source.fasta}: has {summary.missing_negatives} fewer windows outside promoters than there are promoters")
    return others


def _altered(sources: Sequence[Example], way: str, rng: np.random.Generator) -> list[Example]:
    """One example made of each promoter, in the promoter's split."""
    bases = [np.frombuffer(each.sequence, np.uint8) for each in sources]
    if way == "shuffle":
        kind, name, made = "dinucleotide shuffle", "shuffle", shuffles.dinucleotide(bases, rng)
    else:
        kind, name = f"{deepromoter.REPLACED} of {deepromoter.PIECES} pieces replaced", "replacement"
        made = deepromoter.replaced(bases, rng)
    return [
        Example(NON_PROMOTER, each.split, sequence.tobytes(), kind, None, f"{name} of {each.id}")
        for each, sequence in zip(sources, made)
    ]


def _windows(
    sources: Sequence[Example],
    others: Sequence[Example],
    genome: _Genome,
    territories: splits.Territories | None,
    box: bool,
    options: Options,
    rng: np.random.Generator,
) -> list[Example]:
    """Windows of the genome away from every site and from the examples that there are."""
    excluded = Excluded.of(_no_windows(genome, others, options.distance))
    counts = Counter(each.split for each in sources)
    seen = {dataset.either_strand(each.sequence) for each in others}
    if territories:
        draws = [(territories.regions(split), [split] * count) for split, count in sorted(counts.items())]
    else:
        records = [regions.Region(name, 0, length) for name, length in genome.lengths.items()]
        draws = [(records, rng.permutation([each.split for each in sources]))]
    examples = []
    for here, owners in draws:
        found = outside_promoters.draw(
            genome.fasta,
            here,
            options.frame,
            excluded,
            len(owners),
            box=box,
            score=options.tata_score,
            seen=seen,
            rng=rng,
        )
        examples += [
            Example(NON_PROMOTER, int(owner), bases.tobytes(), _WINDOW_KINDS[box], place, dataset.name(place))
            for owner, (place, bases) in zip(owners, found)
        ]
    return examples


def _no_windows(genome: _Genome, examples: Sequence[Example], distance: int) -> Iterable[tuple[str, int, int]]:
    """(record, start, end) where no window of the genome may lie."""
    for sites in genome.sites:
        for record, position in zip(sites.record, sites.position):
            yield record, max(position - distance, 0), position + distance + 1
    for example in examples:
        if example.place:
            yield example.place.record, example.place.start, example.place.end
