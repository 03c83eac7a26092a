"""What a set of promoter examples is: the choices that it is made by, the counts, and how its README tells of them."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dnabert_jax.errors import InputError
from dnabert_jax.tasks import splits, tata
from dnabert_jax.tasks.dataset import Separation
from dnabert_jax.tasks.deepromoter import PIECES, REPLACED
from dnabert_jax.tasks.tss import Frame

CLASSES = ("non-promoter", "promoter")
"""In the order in which fine-tuning numbers them, so that AUROC and AUPRC are those of the promoters."""
NON_PROMOTER, PROMOTER = CLASSES

PROM_300 = Frame(249, 50)
CORE = Frame(34, 35)

TOO_CLOSE = "too close to an end of the record"
UNKNOWN = "unknown bases in the window"
OTHER_KIND = "of the other kind"
BETWEEN = "between splits"

Kind = Literal["tata", "non-tata", "all"]
Negatives = Literal["paper", "genome", "shuffle", "deepromoter"]


@dataclass(frozen=True)
class Options:
    """How the examples are made."""

    core: bool = False
    """The 70 bases of the core promoter, -34..+35, and not the 300 of -249..+50."""
    kind: Kind = "all"
    """Which promoters."""
    tata_score: float = tata.SCORE
    """The least score of a TATA box, bits."""
    negatives: Negatives = "paper"
    """`paper`: `genome` for promoters with a TATA box, `shuffle` for the others."""
    distance: int = 1000
    """Windows of the genome lie further than this from every known site."""
    allow_mismatch: bool = False
    """Go on where fewer than half of the introns read GT..AG, as where annotation and genome are of two assemblies."""
    validation: tuple[str, ...] = ()
    """Records or regions (`20` or `20:1-5000000`) for validation."""
    test: tuple[str, ...] = ()
    """The same for the test. Where neither is given, 80, 10 and 10 % of the promoters in genome order, cut between
    promoters that overlap."""
    random_split: bool = False
    """Draw the split of each promoter, or of each group of promoters that overlap."""
    seed: int = 0
    """Of the negatives and of a random split."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.tata_score):
            raise InputError(f"the score of a TATA box is {self.tata_score}; expected a number of bits")
        if self.distance < 0:
            raise InputError(f"distance is {self.distance}; expected 0 or more")
        _ = self.choice

    @property
    def choice(self) -> splits.Choice:
        return splits.Choice(self.validation, self.test, self.random_split, self.seed)

    @property
    def frame(self) -> Frame:
        return CORE if self.core else PROM_300

    def negatives_of(self, box: bool) -> Negatives:
        """Where the negatives of promoters with a TATA box, or without, come from."""
        if self.negatives == "paper":
            return "genome" if box else "shuffle"
        return self.negatives

    def takes(self, box: bool) -> bool:
        """Whether promoters with a TATA box, or without, are taken."""
        return self.kind == "all" or (self.kind == "tata") == box


@dataclass
class Summary:
    """What was made of promoters."""

    promoters: int = 0
    """Distinct sites, or sequences, that there were to begin with."""
    with_box: int = 0
    """Those with a TATA box, of the ones whose windows are inside their record and known."""
    without_box: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys((TOO_CLOSE, UNKNOWN, OTHER_KIND, BETWEEN), 0))
    """Promoters that gave no example, by reason."""
    missing_negatives: int = 0
    """Windows that the genome did not have."""
    separation: Separation = field(default_factory=Separation)
    examples: dict[str, dict[str, int]] = field(default_factory=dict)
    """By split and class."""

    def __str__(self) -> str:
        """A line for each split that has examples, then what gave none."""
        lines = [
            f"{name}: {', '.join(f'{count:,} {label}s' for label, count in reversed(counts.items()))}"
            for name, counts in self.examples.items()
        ]
        dropped = [f"{count:,} {reason}" for reason, count in self.dropped.items() if count]
        lines.append(f"dropped promoters: {', '.join(dropped) or 'none'}")
        if left_out := self.separation.repeated + self.separation.across_splits + self.separation.overlapping:
            lines.append(f"examples left out because they repeat a sequence, or to keep splits apart: {left_out:,}")
        if self.missing_negatives:
            lines.append(f"negatives that the genome did not have: {self.missing_negatives:,}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Source:
    """The files that promoters and their negatives come from."""

    fasta: str | Path | None = None
    gtf: str | Path | None = None
    tss: str | Path | None = None
    sequences: str | Path | None = None

    @property
    def promoters(self) -> str | Path:
        """The file that says what is a promoter; the others only say what is near one."""
        return self.sequences or self.tss or self.gtf or ""


def readme(source: Source, options: Options, summary: Summary) -> str:
    """How the examples were made, with what was dropped, as Markdown."""
    return _origin(source, options) + _counts(summary)


def _origin(source: Source, options: Options) -> str:
    kind = {"all": "all promoters", "tata": "those with a TATA box", "non-tata": "those without a TATA box"}
    frame = options.frame
    lines = [
        f"# Promoters: {PROMOTER} or not",
        "",
        f"Made by `dnabert task promoter` from {_names(source)}: windows of {frame.bases} bases, {kind[options.kind]}, "
        f"seed {options.seed}.",
        "",
        f"- A window is -{frame.upstream}..+{frame.downstream} around a transcription start site: {frame.upstream} "
        f"bases upstream of it, the first transcribed base, and {frame.downstream} downstream. The sequence is read on "
        f"`strand`, so base {frame.upstream + 1} is the first transcribed one. Coordinates are 0-based and half-open, "
        "on the FASTA's own record names.",
        *_sites(source),
        "- A TATA box is scored with TBP's position weight matrix (JASPAR MA0108.2, 389 sites, 15 positions; Bucher "
        "1990), each position's log2 of the letter's share, one more counted of each letter, over 1/4. A promoter has "
        "one where the second to seventh positions, TATAAA at best, lie within -35..-20 and the matrix scores "
        f"{options.tata_score:g} bits or more.",
        *_negatives(options),
        "- Promoters too close to an end of their record, with an N, or across a border between splits are dropped, "
        "and so are sequences that occurred before, on either strand.",
    ]
    return "\n".join(lines) + "\n"


def _names(source: Source) -> str:
    files = (source.sequences, source.tss, source.gtf, source.fasta)
    return ", ".join(f"`{Path(each).name}`" for each in files if each)


def _sites(source: Source) -> list[str]:
    if source.sequences:
        return ["- The promoters are a list of sequences, -249..+50; where they lie on a genome is not told."]
    if source.tss:
        return ["- The sites are those of the BED file; one that is there several times counts once."]
    return [
        "- A site is the first base of a transcript's first exon, or of a gene's where the annotation does not tell "
        "transcripts. Transcripts that begin at one base are one promoter."
    ]


def _negatives(options: Options) -> list[str]:
    told = {
        "genome": "windows of the genome, on either strand, that lie more than {distance:,} bases from every known "
        "start site, share no base with a promoter or each other, and {have} a TATA box at the same place",
        "shuffle": "the promoters themselves with their bases shuffled so that every dinucleotide occurs as often as "
        "before (exact Euler shuffles; checked)",
        "deepromoter": f"the promoters themselves cut into {PIECES} pieces, {REPLACED} of them, drawn at random, "
        "replaced by random bases (Oubounyt et al. 2019)",
    }
    lines = []
    for box in (True, False):
        if options.takes(box):
            way = told[options.negatives_of(box)].format(distance=options.distance, have="have" if box else "lack")
            which = "with" if box else "without"
            lines.append(f"- Negatives of promoters {which} a TATA box are {way}; as many in each split.")
    return lines


def _counts(summary: Summary) -> str:
    rows = [
        ("promoters", summary.promoters),
        ("with a TATA box", summary.with_box),
        ("without one", summary.without_box),
        *((f"promoters dropped: {reason}", count) for reason, count in summary.dropped.items()),
        ("negatives that the genome did not have", summary.missing_negatives),
    ]
    return "\n| what | count |\n| --- | ---: |\n" + "".join(f"| {what} | {count:,} |\n" for what, count in rows)
