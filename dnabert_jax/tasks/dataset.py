"""What every task writes: labelled windows of a genome, as TSV files and as a TFDS dataset, with how they were made.

A task makes `Example`s and says which split each is in; `distinct` then leaves out what would be on both sides of a
split, and `write` makes the folder. Fine-tuning reads its TSV files as they are.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from dnabert_jax import kmers, outputs
from dnabert_jax.data import array_records
from dnabert_jax.errors import InputError
from dnabert_jax.tasks import splits
from dnabert_jax.tasks.records import few

COLUMNS = ("id", "record", "start", "end", "strand", "label", "kind", "split", "sequence")
TFDS = "tfds"
"""The folder of the TFDS dataset inside the one of the examples."""

_README = "README.md"
_TFDS_MARK = "dataset_info.json"

_COMPLEMENT = bytes([*kmers.reverse_complement(np.arange(5, dtype=np.uint8))[::-1], *range(5, 256)])


class Place(NamedTuple):
    """Where a window lies: 0-based, half-open."""

    record: str
    start: int
    end: int
    strand: str
    """`+`, `-`, or `.` where the strand is not told; then the window is read as on `+`."""


class Example(NamedTuple):
    """A sequence of one class."""

    label: str
    split: int
    """Index of splits.NAMES."""
    sequence: bytes
    """Base codes, read on the strand of the place."""
    kind: str
    """What sort of example it is, such as `GT decoy` or `dinucleotide shuffle`; a class may have several."""
    place: Place | None
    """None where it is from no genome, or was shuffled."""
    id: str


@dataclass(frozen=True)
class Separation:
    """What was left out to keep splits apart, in examples."""

    repeated: int = 0
    """Of the same sequence as an earlier one of the same split."""
    across_splits: int = 0
    """Of the same sequence as an earlier one of another split."""
    overlapping: int = 0
    """That shared bases of the genome with one of another split."""

    def __add__(self, other: "Separation") -> "Separation":
        return Separation(
            self.repeated + other.repeated,
            self.across_splits + other.across_splits,
            self.overlapping + other.overlapping,
        )


def name(place: Place) -> str:
    """The id of the window at a place: `record:start-end(strand)`, 0-based and half-open."""
    return f"{place.record}:{place.start}-{place.end}({place.strand})"


def either_strand(sequence: bytes) -> bytes:
    """The same bytes for a sequence of base codes and its reverse complement."""
    return min(sequence, sequence.translate(_COMPLEMENT)[::-1])


def distinct(examples: Iterable[Example]) -> tuple[list[Example], Separation]:
    """Leaves out what would be in two splits at once, and repeated sequences.

    Of identical sequences, or such that are each other's reverse complement, the first one stays. Of windows that share
    a base of the genome, on either strand, and are in two splits, the training one goes; of one in validation and one
    in the test, that in validation.

    Args:
      examples: those that matter most first.

    Returns:
      The examples that stay, in order, and how many went.
    """
    owners: dict[bytes, int] = {}
    kept, repeated, across = [], 0, 0
    for example in examples:
        sequence = either_strand(example.sequence)
        owner = owners.setdefault(sequence, example.split)
        if len(owners) > len(kept):
            kept.append(example)
        elif owner == example.split:
            repeated += 1
        else:
            across += 1
    clash = _overlapping(kept)
    apart = [example for example, out in zip(kept, clash) if not out]
    return apart, Separation(repeated, across, len(kept) - len(apart))


def require_free(out: Path, overwrite: bool) -> None:
    """Raises InputError where `write` would replace something: any file, or with `overwrite` one of another kind."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: a file; expected a folder to make")
    inside = {each.name for each in out.iterdir()}
    ours = {_README, *(f"{split}.tsv" for split in splits.NAMES)}
    if (out / TFDS / _TFDS_MARK).is_file():
        ours.add(TFDS)
    if inside and not overwrite:
        raise InputError(f"{out}: already holds files; expected a new folder, or --overwrite")
    if inside - ours:
        raise InputError(f"{out}: holds {min(inside - ours)}, which is not of this task; expected a new folder")


def write(
    out: Path,
    *,
    task: str,
    classes: Sequence[str],
    examples: Sequence[Example],
    readme: str,
    separation: Separation,
    where: Mapping[str, Sequence[str]],
) -> None:
    """Writes the folder of a task, whole or not at all, in the place of an earlier one.

    `train.tsv`, `validation.tsv` and `test.tsv` have the columns COLUMNS; record, start, end and strand are empty where
    an example has no place. `tfds/` holds the same for `tfds.builder_from_directory`, the sequence as `bases` (uint8
    codes, A=0, T=1, C=2, G=3, N=4), an absent start and end as -1. `README.md` has the task's own text, then examples
    by split, class and kind, the regions of each split, and the checks that splits are apart. A split without examples
    has no file.

    Args:
      out: folder to make; its parents are made too.
      task: name of the dataset, in lower case, words joined by `_`.
      classes: names of the classes, in order.
      examples: as `distinct` gives them, in the order in which they are to stand in the files.
      readme: Markdown on how the examples were made, with a title.
      separation: what `distinct` left out.
      where: the regions of each split that was asked for, as `Territories.where` gives them; none where sequences have
        no place in a genome.

    Raises:
      InputError: a class without examples in a split that was asked for, or no folder can be in that place.
      ValueError: an identical sequence or window in two splits; `distinct` leaves none.
      RunStopped: the files could not be written.
    """
    counts = Counter((example.split, example.label, example.kind) for example in examples)
    _require_every_class(counts, classes, where)
    identical, overlapping = _identical_across(examples), sum(_overlapping(examples))
    if identical or overlapping:
        raise ValueError(f"{identical} sequences and {overlapping} windows in two splits; expected none")
    tables = _tables(counts, classes, where) + _checks(separation, identical, overlapping)
    with outputs.folder(Path(os.path.abspath(out))) as folder:
        for split in sorted({example.split for example in examples}):
            with open(folder / f"{splits.NAMES[split]}.tsv", "w", encoding="utf-8", newline="\n") as file:
                file.write("\t".join(COLUMNS) + "\n")
                file.writelines("\t".join(_fields(each)) + "\n" for each in examples if each.split == split)
        (folder / TFDS).mkdir()
        _write_tfds(folder / TFDS, task, classes, examples)
        (folder / _README).write_text(readme.rstrip("\n") + "\n" + tables, encoding="utf-8")


def _overlapping(examples: Sequence[Example]) -> list[bool]:
    """Whether each example has to go because it shares a base of the genome with one of a later split."""
    rows = [(i, e.split, e.place.record, e.place.start, e.place.end) for i, e in enumerate(examples) if e.place]
    table = pd.DataFrame(rows, columns=["number", "split", "record", "start", "end"])
    clash = np.zeros(len(examples), bool)
    for _, here in table.groupby("record", sort=False):
        # The test comes before validation, and both before training, in who stays.
        for split in (splits.VALIDATION, splits.TRAIN):
            others = here[(here.split > split) & ~clash[here.number.to_numpy()]].sort_values("start")
            own = here[here.split == split]
            if len(others) and len(own):
                reached = np.maximum.accumulate(others.end.to_numpy())
                before = np.searchsorted(others.start.to_numpy(), own.end.to_numpy(), side="left")
                meets = (before > 0) & (reached[np.maximum(before - 1, 0)] > own.start.to_numpy())
                clash[own.number.to_numpy()[meets]] = True
    return clash.tolist()


def _identical_across(examples: Iterable[Example]) -> int:
    """Sequences, either strand, that are in more than one split."""
    owners: dict[bytes, int] = {}
    shared = set()
    for example in examples:
        sequence = either_strand(example.sequence)
        if owners.setdefault(sequence, example.split) != example.split:
            shared.add(sequence)
    return len(shared)


def _require_every_class(
    counts: Mapping[tuple[int, str, str], int], classes: Sequence[str], where: Mapping[str, Sequence[str]]
) -> None:
    there = {(split, label) for split, label, _ in counts}
    for split, regions in where.items():
        for label in classes:
            if (splits.NAMES.index(split), label) not in there:
                raise InputError(
                    f"no example of class {label} for {split}{f' in {few(regions)}' if regions else ''}; expected "
                    "examples of each class in each split (name other regions, or give more data)"
                )


def _fields(example: Example) -> tuple[str, ...]:
    place = map(str, example.place or ("", "", "", ""))
    letters = kmers.decode(np.frombuffer(example.sequence, np.uint8))
    return example.id, *place, example.label, example.kind, splits.NAMES[example.split], letters


def _write_tfds(folder: Path, task: str, classes: Sequence[str], examples: Sequence[Example]) -> None:
    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "record": tfds.features.Text(),
            "start": tfds.features.Scalar(dtype=np.int64),
            "end": tfds.features.Scalar(dtype=np.int64),
            "strand": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=list(classes)),
            "kind": tfds.features.Text(),
            "bases": tfds.features.Tensor(shape=(None,), dtype=np.uint8, encoding="bytes"),
        }
    )
    infos = []
    for split in sorted({example.split for example in examples}):
        with _abandoned(array_records.SplitWriter(folder, task, splits.NAMES[split], features)) as writer:
            for example in examples:
                if example.split == split:
                    writer.write(_features(example), len(example.sequence))
            infos.append(writer.finish()[0])
    description = "Labelled sequences of bases (A=0, T=1, C=2, G=3, N=4), made by `dnabert task`."
    array_records.write_metadata(folder, features, infos, description, {"task": task})


@contextlib.contextmanager
def _abandoned(writer: array_records.SplitWriter) -> Iterator[array_records.SplitWriter]:
    try:
        yield writer
    finally:
        writer.abandon()


def _features(example: Example) -> dict[str, Any]:
    record, start, end, strand = example.place or ("", -1, -1, "")
    return {
        "id": example.id,
        "record": record,
        "start": start,
        "end": end,
        "strand": strand,
        "label": example.label,
        "kind": example.kind,
        "bases": np.frombuffer(example.sequence, np.uint8),
    }


def _tables(
    counts: Mapping[tuple[int, str, str], int], classes: Sequence[str], where: Mapping[str, Sequence[str]]
) -> str:
    kinds = sorted({(label, kind) for _, label, kind in counts}, key=lambda each: (classes.index(each[0]), each[1]))
    text = f"\n## What there is\n\n| class | kind | {' | '.join(splits.NAMES)} |\n| --- | --- | ---: | ---: | ---: |\n"
    for label, kind in kinds:
        numbers = (f"{counts.get((split, label, kind), 0):,}" for split in range(len(splits.NAMES)))
        text += f"| {label} | {kind} | {' | '.join(numbers)} |\n"
    totals = (
        f"{sum(count for (owner, *_), count in counts.items() if owner == split):,}"
        for split in range(len(splits.NAMES))
    )
    text += f"| all | | {' | '.join(totals)} |\n"
    if any(where.values()):
        text += "\n| split | where |\n| --- | --- |\n"
        for split, regions in where.items():
            place = (few(regions) or "nowhere").replace("|", "\\|")  # as in the names of old NCBI records
            text += f"| {split} | {place} |\n"
    return text


def _checks(separation: Separation, identical: int, overlapping: int) -> str:
    rows = [
        ("left out: the sequence occurred before in the same split", separation.repeated),
        ("left out: the sequence occurred before in another split", separation.across_splits),
        ("left out: windows that overlapped one of another split", separation.overlapping),
        ("checked on what is written: identical sequences in two splits", identical),
        ("checked on what is written: windows that overlap one of another split", overlapping),
    ]
    text = "\n## Splits are apart\n\nA sequence and its reverse complement count as identical, and windows overlap on "
    text += "either strand.\n\n| what | count |\n| --- | ---: |\n"
    return text + "".join(f"| {what} | {count:,} |\n" for what, count in rows)
