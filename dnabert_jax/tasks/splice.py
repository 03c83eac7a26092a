"""Examples of splice sites from a genome and its annotation: donor, acceptor or neither.

Windows are centred on the border of exon and intron, so the GT with which an intron begins follows the middle of every
donor window, and the AG with which it ends precedes the middle of every acceptor window. The windows labelled neither
come from the same genes: decoys, which carry a GT or an AG at just that place and are no annotated site, so that a
model has to look at more than two bases, and the interiors of exons and introns. The task is that of SpliceFinder (Wang
et al. 2019), 400 bases by default as there.
"""

import bisect
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dnabert_jax.data import regions
from dnabert_jax.data.fasta import IndexedFasta
from dnabert_jax.errors import InputError
from dnabert_jax.tasks import assembly, dataset, splice_sites, splits, windows
from dnabert_jax.tasks.dataset import Example, Separation
from dnabert_jax.tasks.splice_sites import ACCEPTOR, DONOR, Annotated, Locus
from dnabert_jax.tasks.windows import Reading, Windows

NEITHER = "neither"
CLASSES = (DONOR, ACCEPTOR, NEITHER)
SITE_LABELS = (DONOR, ACCEPTOR)

NEGATIVES = ("decoy", "exon", "intron")
"""What windows labelled neither may be."""

_DECOYS = {DONOR: "GT decoy", ACCEPTOR: "AG decoy"}
_REASONS = ("past the end", "unknown bases", "not canonical", "between splits")


@dataclass(frozen=True)
class Options:
    """How the examples are made."""

    window: int = 400
    """Bases in an example; even."""
    negatives: tuple[str, ...] = ("decoy", "decoy", "exon", "intron")
    """Kinds of windows labelled neither, in turn; one that is named twice gets twice the share."""
    negatives_per_site: int = 1
    keep_non_canonical: bool = False
    allow_mismatch: bool = False
    """Go on where fewer than half of the introns read GT..AG."""
    choice: splits.Choice = field(default_factory=splits.Choice)

    def __post_init__(self) -> None:
        if self.window < 8 or self.window % 2:
            raise InputError(f"window is {self.window}; expected an even number of 8 or more")
        unknown = [kind for kind in self.negatives if kind not in NEGATIVES]
        if unknown or not self.negatives:
            raise InputError(
                f"negatives are {', '.join(self.negatives) or 'none'}; expected some of {', '.join(NEGATIVES)}"
            )
        if self.negatives_per_site < 1:
            raise InputError(f"negatives per site are {self.negatives_per_site}; expected 1 or more")

    @property
    def half(self) -> int:
        """Bases on either side of a border."""
        return self.window // 2

    @property
    def away(self) -> int:
        """Bases from the middle of an interior window to the next annotated site, at least: 20 for 400."""
        return max(self.window // 20, 1)


@dataclass
class Summary:
    """What was made of a genome and its annotation."""

    exons: int = 0
    unstranded_exons: int = 0
    """Rows without a strand, which were left out."""
    unmatched_records: tuple[str, ...] = ()
    """Records of the annotation that the FASTA lacks."""
    introns: int = 0
    """Between consecutive exons, counted once for each transcript."""
    distinct_introns: int = 0
    canonical_introns: int = 0
    """Of the distinct ones, those that read GT..AG."""
    sites: dict[str, int] = field(default_factory=dict)
    """Distinct donors and acceptors."""
    non_canonical: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SITE_LABELS, 0))
    """Those that do not read GT or AG, of the ones whose windows are inside their record and known."""
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_REASONS, 0))
    """Sites that gave no example, by reason."""
    missing_negatives: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NEGATIVES, 0))
    """Windows labelled neither that genes were too short to give, by kind."""
    separation: Separation = field(default_factory=Separation)
    """Examples that were left out to keep splits apart, and repeated ones."""
    examples: dict[str, dict[str, int]] = field(
        default_factory=lambda: {name: dict.fromkeys(CLASSES, 0) for name in splits.NAMES}
    )
    """Examples by split and class."""
    two_letters: dict[str, float] = field(default_factory=dict)
    """Accuracy, by split, of a rule that sees only the bases at the border: GT is a donor, AG an acceptor."""
    where: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Stretches of each split that was asked for, 1-based and inclusive."""

    def __str__(self) -> str:
        """A line for each split that has examples, then what gave none."""
        lines = [
            f"{name}: {', '.join(f'{count:,} {label}' for label, count in counts.items())}"
            for name, counts in self.examples.items()
            if any(counts.values())
        ]
        odd = ", ".join(f"{count:,} {label}s" for label, count in self.non_canonical.items())
        lines.append(f"non-canonical sites: {odd}")
        dropped = [f"{count:,} {reason}" for reason, count in self.dropped.items() if count]
        lines.append(f"dropped sites: {', '.join(dropped) or 'none'}")
        apart = self.separation
        lines.append(
            f"left out: {apart.repeated:,} repeated, {apart.across_splits:,} identical to one of another split, "
            f"{apart.overlapping:,} overlapping one of another split"
        )
        if any(self.missing_negatives.values()):
            missing = ", ".join(f"{count:,} {kind}" for kind, count in self.missing_negatives.items() if count)
            lines.append(f"negatives that genes were too short to give: {missing}")
        return "\n".join(lines)


def make(
    fasta: str | Path,
    gtf: str | Path,
    out: str | Path,
    options: Options,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = regions.note,
) -> Summary:
    """Writes labelled windows around splice sites: TSV files, a TFDS dataset, and a README (`dataset.write`).

    A site that several transcripts share is one example. Windows that reach past the end of a record, hold an N, lie
    across a border between two splits or repeat the sequence of an earlier one are left out and counted.

    Args:
      fasta: the genome; plain or bgzip.
      gtf: its exons, GTF or GFF3. Its `chr20` is the genome's `20`, and the other way round.
      out: folder to make; its parents are made too.
      options: how. Where no regions are named, the splits are 80, 10 and 10 % of the sites in genome order, or drawn,
        cut between genes. Where they are named for one split only, the other has no file.
      overwrite: replace `out` if it holds an earlier result and nothing else.
      say: is told, in one line each, what the user should know.

    Returns:
      Summary.

    Raises:
      InputError: as the readers of the formats and `splice_sites.read`; a genome on which most introns do not read
        GT..AG, unless that is allowed; a split without examples of a class; or an `out` that holds other files.
      RunStopped: the files could not be written.
    """
    out = Path(os.path.abspath(out))
    dataset.require_free(out, overwrite)
    with IndexedFasta(fasta) as genome:
        lengths = {name: genome.length(name) for name in genome.names}
        annotated = splice_sites.read(gtf, lengths, fasta, say)
        examples, summary = collect(genome, annotated, options, f"{gtf}", f"{fasta}", say)
    examples.sort(key=lambda each: (each.place.record, each.place.start, each.place.strand, each.label))
    order = {name: number for number, name in enumerate(lengths)}
    examples.sort(key=lambda each: order[each.place.record])
    dataset.write(
        out,
        task="splice",
        classes=CLASSES,
        examples=examples,
        readme=_readme(Path(fasta).name, Path(gtf).name, options, summary),
        separation=summary.separation,
        where=summary.where,
    )
    return summary


def collect(
    genome: IndexedFasta,
    annotated: Annotated,
    options: Options,
    gtf: str,
    fasta: str,
    say: Callable[[str], None] = regions.note,
) -> tuple[list[Example], Summary]:
    """The examples of a genome, all sites before all negatives, kept apart by `dataset.distinct`.

    Args:
      genome: the genome.
      annotated: its sites, as `splice_sites.read` gives them.
      options: how.
      gtf: the annotation's file, for messages.
      fasta: the genome's file, for messages.
      say: as in `make`.

    Raises:
      InputError: as `make`, but for what is written.
    """
    territories = splits.territories(options.choice, annotated.islands(), annotated.lengths, say)
    around = Windows(genome, annotated.lengths, territories, options.half)
    summary = _summary(annotated)
    summary.where = territories.where(options.choice)
    positives = []
    for locus in annotated.loci:
        starts, ends = annotated.intron_ends(locus)
        if len(starts):
            reading = around.around(locus)
            read = splice_sites.canonical(reading, starts, DONOR) & splice_sites.canonical(reading, ends, ACCEPTOR)
            summary.canonical_introns += int(read.sum())
            positives += _positives(reading, annotated, options, summary)
    assembly.require_most(
        summary.canonical_introns,
        summary.distinct_introns,
        gtf,
        fasta,
        allow_mismatch=options.allow_mismatch,
        say=say,
    )
    positives, before = dataset.distinct(positives)
    negatives = list(_negatives(positives, annotated, around, options, summary))
    examples, after = dataset.distinct([*positives, *negatives])
    summary.separation = before + after
    for example in examples:
        summary.examples[splits.NAMES[example.split]][example.label] += 1
    summary.two_letters = _two_letters(examples)
    return examples, summary


def example(reading: Reading, border: int, label: str, kind: str, split: int) -> Example:
    """The window around a border in a locus as an example."""
    locus = reading.locus
    place = windows.at(locus.record, border, locus.strand, reading.half)
    return Example(label, int(split), reading.bases(border).tobytes(), kind, place, dataset.name(place))


def _summary(annotated: Annotated) -> Summary:
    introns, sites = annotated.introns, annotated.sites
    return Summary(
        exons=len(annotated.exons),
        unstranded_exons=int((annotated.exons.strand == ".").sum()),
        unmatched_records=annotated.unmatched,
        introns=len(introns),
        distinct_introns=len(introns[["record", "strand", "start", "end"]].drop_duplicates()),
        sites={label: int((sites.label == label).sum()) for label in SITE_LABELS},
    )


def _positives(reading: Reading, annotated: Annotated, options: Options, summary: Summary) -> list[Example]:
    """Examples of the annotated sites of a locus."""
    found = []

    def keep(borders: np.ndarray, fit: np.ndarray, otherwise: str) -> np.ndarray:
        summary.dropped[otherwise] += int((~fit).sum())
        return borders[fit]

    for label in SITE_LABELS:
        borders = annotated.borders(reading.locus, label)
        borders = keep(borders, reading.inside(borders), "past the end")
        borders = keep(borders, reading.known(borders), "unknown bases")
        canonical = splice_sites.canonical(reading, borders, label)
        summary.non_canonical[label] += int((~canonical).sum())
        if not options.keep_non_canonical:
            borders = keep(borders, canonical, "not canonical")
        borders = keep(borders, reading.split(borders) != splits.NOWHERE, "between splits")
        kinds = np.where(splice_sites.canonical(reading, borders, label), label, f"non-canonical {label}")
        found += [
            example(reading, border, label, str(kind), split)
            for border, kind, split in zip(borders, kinds, reading.split(borders))
        ]
    return found


def _negatives(
    positives: Sequence[Example], annotated: Annotated, around: Windows, options: Options, summary: Summary
) -> Iterator[Example]:
    """Windows labelled neither, from the genes and the splits of the sites, as many as there are to be for each."""
    wanted = _wanted(positives, annotated, options)
    rng = np.random.default_rng(options.choice.seed)
    for locus, counts in wanted.items():
        reading = around.around(locus)
        sites = np.union1d(annotated.borders(locus, DONOR), annotated.borders(locus, ACCEPTOR))
        taken: set[np.int64] = set()
        for (split, label, negative), count in counts.items():
            if negative == "decoy":
                kind = _DECOYS[label]
                borders = reading.borders_at(*splice_sites.SIGNALS[label])
                borders = rng.permutation(borders[~np.isin(borders, sites)])
            else:
                kind = f"{negative} interior"
                borders = _interiors(*annotated.insides(locus, negative), sites, options.away, count, rng)
            borders = borders[reading.inside(borders)]
            borders = borders[reading.known(borders) & (reading.split(borders) == split)]
            drawn = list(itertools.islice((border for border in borders if border not in taken), count))
            taken.update(drawn)
            summary.missing_negatives[negative] += count - len(drawn)
            for border in drawn:
                yield example(reading, border, NEITHER, kind, split)


def _wanted(
    positives: Sequence[Example], annotated: Annotated, options: Options
) -> dict[Locus, Counter[tuple[int, str, str]]]:
    """How many negatives of each locus to draw by split, label of the sites that they stand against, and kind."""
    by_strand: dict[tuple[str, str], list[Locus]] = {}
    for locus in annotated.loci:
        by_strand.setdefault((locus.record, locus.strand), []).append(locus)
    starts = {key: [locus.start for locus in here] for key, here in by_strand.items()}
    # One turn for donors and one for acceptors, all through the genome, so that each gets its share of each kind.
    turns = {label: itertools.cycle(options.negatives) for label in SITE_LABELS}
    wanted: dict[Locus, Counter[tuple[int, str, str]]] = {}
    for site in positives:
        key = site.place.record, site.place.strand
        locus = by_strand[key][bisect.bisect_right(starts[key], site.place.start + options.half) - 1]
        counts = wanted.setdefault(locus, Counter())
        for _ in range(options.negatives_per_site):
            counts[site.split, site.label, next(turns[site.label])] += 1
    return wanted


def _interiors(
    starts: np.ndarray, ends: np.ndarray, sites: np.ndarray, away: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Borders inside the given stretches, `away` bases or more from each site, in random order: int64[n].

    All of them where they are few, otherwise many more than `count`, as some will lie in another split or beside an N.
    """
    ends_of = np.cumsum(ends - starts - 1)  # a border inside has a base of the stretch on either side
    total = int(ends_of[-1]) if len(ends_of) else 0
    numbers = rng.choice(total, min(total, 1024 + 64 * count), replace=False)
    stretches = np.searchsorted(ends_of, numbers, side="right")
    borders = ends[stretches] - (ends_of[stretches] - numbers)
    after = np.searchsorted(sites, borders)
    fit = np.ones(len(borders), bool)
    for neighbour in (np.maximum(after - 1, 0), np.minimum(after, len(sites) - 1)):
        fit &= np.abs(sites[neighbour] - borders) >= away
    return borders[fit]


def _two_letters(examples: Sequence[Example]) -> dict[str, float]:
    """The accuracy of the rule in `Summary.two_letters`, by split. A window with both GT and AG is called a donor."""
    right, total = Counter(), Counter()
    for each in examples:
        half = len(each.sequence) // 2
        called = NEITHER
        for label in (ACCEPTOR, DONOR):
            letters, shift = splice_sites.SIGNALS[label]
            if each.sequence[half - shift : half - shift + 2] == bytes(letters):
                called = label
        right[each.split] += called == each.label
        total[each.split] += 1
    return {splits.NAMES[split]: right[split] / total[split] for split in sorted(total)}


def _readme(fasta: str, gtf: str, options: Options, summary: Summary) -> str:
    half = options.half
    odd = "kept, as a kind of their own" if options.keep_non_canonical else "left out"
    shares = Counter(options.negatives)
    kinds = ", ".join(f"{kind} {count}/{len(options.negatives)}" for kind, count in shares.items())
    splitting = "Regions for validation and test were named; the rest is for training."
    if not options.choice.named:
        how = "drawn at random" if options.choice.random else "in genome order"
        splitting = f"80, 10 and 10 % of the sites, {how}, cut between genes."
    return f"""# Splice sites: donor, acceptor, neither

Made by `dnabert task splice` from `{fasta}` and `{gtf}`:
windows of {options.window} bases, {options.negatives_per_site} negative(s) per site ({kinds}).
The seed is {options.choice.seed}.

- Columns: {", ".join(dataset.COLUMNS)}. Coordinates are 0-based and
  half-open, on the FASTA's own record names; the sequence is read on `strand`. `tfds/` holds the same.
- A donor window has {half} bases of the exon's side, then the intron: bases {half + 1} and {half + 2} are its GT.
- An acceptor window has {half} bases of the intron's side, then the exon: bases {half - 1} and {half} are its AG.
- Introns lie between consecutive exons of a transcript (of a gene, where the annotation does not tell transcripts).
  A site that transcripts share is one example. Exons without a strand are left out.
- A window labelled neither lies in the same genes, on the same strand and in the same split as the site that it stands
  against, and is centred on no annotated site. A `decoy` has GT (or AG) at the bases where a donor (or acceptor)
  has it. An `exon interior` or `intron interior` is centred where all transcripts have an exon, or an intron,
  {options.away} or more bases from each annotated site of its strand; it may reach over a site off its middle.
- Interiors without GT and AG in the middle can be told by two letters, decoys cannot. {_honesty(summary)}
- Sites that do not read GT or AG are {odd}.
- Splits: {splitting} Windows across a border between
  splits belong to none. Windows past the end of a record or with an N are dropped.

## What it was made of

| what | count |
| --- | ---: |
{_counts(summary)}"""


def _honesty(summary: Summary) -> str:
    shares = ", ".join(f"{share:.1%} of {name}" for name, share in summary.two_letters.items())
    return f"A rule that sees\n  no more than these letters is right on {shares}."


def _counts(summary: Summary) -> str:
    rows: Mapping[str, int] = {
        "exons": summary.exons,
        "exons without a strand, left out": summary.unstranded_exons,
        "records of the annotation that the FASTA lacks": len(summary.unmatched_records),
        "introns, for each transcript": summary.introns,
        "distinct introns": summary.distinct_introns,
        "distinct introns that read GT..AG": summary.canonical_introns,
        **{f"distinct {label}s": count for label, count in summary.sites.items()},
        **{f"non-canonical {label}s": count for label, count in summary.non_canonical.items()},
        **{f"sites dropped: {reason}": count for reason, count in summary.dropped.items()},
        **{
            f"negatives that genes were too short to give: {kind}": count
            for kind, count in summary.missing_negatives.items()
        },
    }
    return "".join(f"| {what} | {count:,} |\n" for what, count in rows.items())
