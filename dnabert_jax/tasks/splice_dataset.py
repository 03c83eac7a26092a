"""What a set of splice-site examples is, and the folder that it is written to.

The folder holds `train.tsv`, `validation.tsv` and `test.tsv`, which fine-tuning reads as they are, and a README that
says how they were made, with counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnabert_jax import kmers, outputs
from dnabert_jax.errors import InputError
from dnabert_jax.tasks import splits

CLASSES = ("donor", "acceptor", "neither")
DONOR, ACCEPTOR, NEITHER = range(3)
SITE_KINDS = (DONOR, ACCEPTOR)
COLUMNS = ("id", "record", "start", "end", "strand", "label", "sequence")

_README = "README.md"
_REASONS = ("past the end", "unknown bases", "not canonical", "between splits", "repeated")


@dataclass(frozen=True)
class Options:
    """How the examples are made."""

    fasta: str
    """File name of the genome."""
    gtf: str
    """File name of the annotation."""
    window: int = 400
    negatives_per_site: int = 1
    keep_non_canonical: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.window < 8 or self.window % 2:
            raise InputError(f"window is {self.window}; expected an even number of 8 or more")
        if self.negatives_per_site < 1:
            raise InputError(f"negatives per site are {self.negatives_per_site}; expected 1 or more")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; expected 0 or more")


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
    sites: dict[str, int] = field(default_factory=dict)
    """Distinct donors and acceptors."""
    non_canonical: dict[str, int] = field(default_factory=lambda: {CLASSES[kind]: 0 for kind in SITE_KINDS})
    """Those that do not read GT or AG, of the ones whose windows are inside their record and known."""
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_REASONS, 0))
    """Sites that gave no example, by reason."""
    missing_negatives: int = 0
    """Windows labelled neither that genes were too short to give."""
    examples: dict[str, dict[str, int]] = field(
        default_factory=lambda: {name: dict.fromkeys(CLASSES, 0) for name in splits.NAMES}
    )
    """Examples by split and class."""
    split_regions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Stretches of each split, 1-based and inclusive."""

    def __str__(self) -> str:
        """A line for each split that has examples, then one for the sites that gave none."""
        lines = [
            f"{name}: {', '.join(f'{count:,} {label}' for label, count in counts.items())}"
            for name, counts in self.examples.items()
            if any(counts.values())
        ]
        dropped = [f"{count:,} {reason}" for reason, count in self.dropped.items() if count]
        lines.append(f"dropped sites: {', '.join(dropped) or 'none'}")
        if self.missing_negatives:
            lines.append(f"negatives that genes were too short to give: {self.missing_negatives:,}")
        return "\n".join(lines)


class Example(NamedTuple):
    """A window around a border, of one class."""

    record: str
    border: int
    """0-based; the window has as many bases on either side of it."""
    strand: str
    label: int
    """Index of CLASSES."""
    split: int
    """Index of splits.NAMES."""
    sequence: bytes
    """Base codes of the window, on the gene's strand."""


def require_free(out: Path, overwrite: bool) -> None:
    """Raises InputError where `write` would replace something: any file, or with `overwrite` one of another kind."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: a file; expected a folder to make")
    inside = {each.name for each in out.iterdir()}
    ours = {_README, *(f"{name}.tsv" for name in splits.NAMES)}
    if inside and not overwrite:
        raise InputError(f"{out}: already holds files; expected a new folder, or --overwrite")
    if inside - ours:
        raise InputError(f"{out}: holds {min(inside - ours)}, which is not of this task; expected a new folder")


def write(out: Path, examples: list[Example], options: Options, summary: Summary) -> None:
    """Writes the folder, whole or not at all, in the place of an earlier one; splits without examples get no file.

    Raises:
      InputError: there can be no folder in that place.
      RunStopped: the files could not be written.
    """
    with outputs.folder(out) as folder:
        for split in sorted({example.split for example in examples}):
            with open(folder / f"{splits.NAMES[split]}.tsv", "w", encoding="utf-8", newline="\n") as file:
                file.write("\t".join(COLUMNS) + "\n")
                for example in examples:
                    if example.split == split:
                        file.write("\t".join(_fields(example, options.window // 2)) + "\n")
        (folder / _README).write_text(_origin(options) + _counts(summary), encoding="utf-8")


def _fields(example: Example, half: int) -> tuple[str, ...]:
    record, strand = example.record, example.strand
    start, end = example.border - half, example.border + half
    letters = kmers.decode(np.frombuffer(example.sequence, np.uint8))
    return f"{record}:{start}-{end}({strand})", record, str(start), str(end), strand, CLASSES[example.label], letters


def _origin(options: Options) -> str:
    half = options.window // 2
    odd = "kept" if options.keep_non_canonical else "dropped"
    return f"""# Splice sites: donor, acceptor, neither

Made by `dnabert task splice` from `{options.fasta}` and `{options.gtf}`: windows of {options.window} bases,
{options.negatives_per_site} negative(s) per site, seed {options.seed}.

- Columns: {", ".join(COLUMNS)}. Coordinates are 0-based and half-open, on the
  FASTA's own record names; the sequence is read on `strand`.
- A donor window has {half} bases of the exon's side, then the intron: bases {half + 1} and {half + 2} are its GT.
- An acceptor window has {half} bases of the intron's side, then the exon: bases {half - 1} and {half} are its AG.
- A window labelled neither has GT or AG at the same bases, lies in the same genes on the same strand, and is centred on
  no annotated site. There are as many with GT as donors, and as many with AG as acceptors, times the negatives per
  site, gene by gene.
- Introns lie between consecutive exons of a transcript (of a gene, where the annotation does not tell transcripts).
  A site that transcripts share is one example.
- Sites that do not read GT or AG are {odd}. Windows past the end of a record, with an N, across a border between
  splits, or of a sequence that occurred before (so that none is in two splits) are dropped.
"""


def _counts(summary: Summary) -> str:
    donors, acceptors = (CLASSES[kind] for kind in SITE_KINDS)
    rows = [
        ("exons", summary.exons),
        ("exons without a strand, left out", summary.unstranded_exons),
        ("records of the annotation that the FASTA lacks", len(summary.unmatched_records)),
        ("introns, for each transcript", summary.introns),
        *((f"distinct {kind}s", summary.sites[kind]) for kind in (donors, acceptors)),
        *((f"{kind}s that are not canonical", summary.non_canonical[kind]) for kind in (donors, acceptors)),
        *((f"sites dropped: {reason}", count) for reason, count in summary.dropped.items()),
        ("negatives that genes were too short to give", summary.missing_negatives),
    ]
    text = "\n| what | count |\n| --- | ---: |\n" + "".join(f"| {what} | {count:,} |\n" for what, count in rows)
    text += f"\n| split | {' | '.join(CLASSES)} | where |\n| --- | ---: | ---: | ---: | --- |\n"
    for name in splits.NAMES:
        where = few(summary.split_regions[name]) or "no file"
        counts = " | ".join(f"{summary.examples[name][label]:,}" for label in CLASSES)
        text += f"| {name} | {counts} | {where} |\n"
    return text


def few(names: Sequence[str], limit: int = 5) -> str:
    """Names for a message: the first ones, and how many more."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
