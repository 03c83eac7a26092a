"""What a set of binding-site examples is: how it is made, what came of it, and the text that tells both."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dnabert_jax.errors import InputError
from dnabert_jax.tasks import dataset, splits
from dnabert_jax.tasks.dataset import Separation
from dnabert_jax.tasks.peaks import Peaks

CLASSES = ("background", "bound")
"""In the order in which fine-tuning numbers them, so that AUROC and AUPRC are those of the bound class."""
BACKGROUND, BOUND = CLASSES

TOO_CLOSE = "window past the end of the record"
TOO_SHORT = "shorter than the window, and no genome to read on in"
UNKNOWN = "unknown bases in the window"
SAME = "same window as an earlier peak"
BETWEEN = "between splits"


@dataclass(frozen=True)
class Options:
    """How the examples are made."""

    window: int = 101
    """Bases in an example."""
    negatives: Literal["shuffle", "gc-matched"] = "shuffle"
    negatives_per_peak: int = 1
    validation: tuple[str, ...] = ()
    """Records or regions (`20` or `20:1-5000000`) for validation."""
    test: tuple[str, ...] = ()
    """The same for the test. Where neither is given, 80, 10 and 10 % of the windows in genome order, cut between
    windows that overlap."""
    random_split: bool = False
    """Draw the split of each window, or of each group of windows that overlap."""
    seed: int = 0
    """Of the negatives and of a random split."""

    def __post_init__(self) -> None:
        if self.window < 8:
            raise InputError(f"window is {self.window}; expected 8 or more")
        if self.negatives_per_peak < 1:
            raise InputError(f"negatives per peak are {self.negatives_per_peak}; expected 1 or more")
        _ = self.choice  # whose checks are part of these

    @property
    def choice(self) -> splits.Choice:
        return splits.Choice(self.validation, self.test, self.random_split, self.seed)


DEFAULTS = Options()


@dataclass
class Summary:
    """What was made of a file of peaks."""

    format: str = ""
    peaks: int = 0
    """On the records that the genome has."""
    dropped: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys((TOO_CLOSE, TOO_SHORT, UNKNOWN, SAME, BETWEEN), 0)
    )
    """Peaks that gave no example, by reason."""
    missing_negatives: int = 0
    """GC-matched windows that were not found, because few have as many G and C."""
    separation: Separation = field(default_factory=Separation)
    examples: dict[str, dict[str, int]] = field(default_factory=dict)
    """By split and class."""
    gc: dict[str, dict[str, float]] = field(default_factory=dict)
    """Mean share of G and C, by split and class."""

    @property
    def reasons(self) -> str:
        """How many peaks gave no example and why, in words; empty where there are none."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items() if count)

    def __str__(self) -> str:
        """A line for each split that has examples, then what gave none."""
        lines = [
            f"{name}: {', '.join(f'{count:,} {label}' for label, count in reversed(counts.items()))}"
            for name, counts in self.examples.items()
        ]
        lines.append(f"dropped peaks: {self.reasons or 'none'}")
        if left_out := self.separation.repeated + self.separation.across_splits + self.separation.overlapping:
            lines.append(f"examples left out to keep splits apart, or because they repeat a sequence: {left_out:,}")
        if self.missing_negatives:
            lines.append(f"GC-matched windows that were not found: {self.missing_negatives:,}")
        return "\n".join(lines)


def readme(
    found: Peaks, fasta: str | Path | None, exclude: Sequence[str | Path], options: Options, summary: Summary
) -> str:
    """Markdown on how the examples were made of a file of peaks, and how many peaks gave none."""
    return _origin(found, fasta, exclude, options) + _counts(summary)


def _origin(found: Peaks, fasta: str | Path | None, exclude: Sequence[str | Path], options: Options) -> str:
    genome = f" and `{Path(fasta).name}`" if fasta else ""
    on_reverse = "" if options.window % 2 else f" (base {options.window // 2} where it is read on -)"
    if options.negatives == "shuffle":
        negatives = """\
- A background window is a bound one, in its split, with its bases in another order, in which each dinucleotide
  occurs as often."""
    else:
        files = " and ".join(["the file", *(f"`{Path(path).name}`" for path in exclude)])
        negatives = f"""\
- A background window lies on a record that has peaks, has no N, shares no base with another one, and is
  {options.window} bases or more away from every peak of {files}.
  In each split there are as many with any number of G and C as bound windows with it, times the negatives
  per peak."""
    return f"""# Binding sites: bound, background

Made by `dnabert task tfbs` from `{Path(found.path).name}` ({found.format}){genome}:
windows of {options.window} bases, {options.negatives_per_peak} negative(s) per peak ({options.negatives}),
seed {options.seed}.

- Columns: {", ".join(dataset.COLUMNS)}.
  Coordinates are 0-based and half-open; the sequence is read on `strand`, as on + where that is not told.
- Base {options.window // 2 + 1} of a bound window{on_reverse} is the summit of its peak, or its middle where no summit
  is told.
{negatives}
"""


def _counts(summary: Summary) -> str:
    rows = [
        ("peaks", summary.peaks),
        *((f"peaks dropped: {reason}", count) for reason, count in summary.dropped.items()),
        ("GC-matched windows that were not found", summary.missing_negatives),
    ]
    text = "\n| what | count |\n| --- | ---: |\n" + "".join(f"| {what} | {count:,} |\n" for what, count in rows)
    text += f"\n| share of G and C | {' | '.join(CLASSES)} |\n| --- | ---: | ---: |\n"
    for name, shares in summary.gc.items():
        text += f"| {name} | {' | '.join(f'{shares[label]:.3f}' for label in CLASSES)} |\n"
    return text
