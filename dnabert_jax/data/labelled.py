"""Labelled sequences for fine-tuning: what biologists have in TSV, CSV and BED files, as bases and class numbers.

Classes are names or integers, two or more. The sequences may differ in length. They are kept as bases, so a file made
for one k serves every other.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnabert_jax.data import regions, sequences, tables, text
from dnabert_jax.errors import InputError

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)


@dataclass(frozen=True)
class Examples:
    """Sequences with their classes, in file order."""

    ids: tuple[str, ...]
    sequences: tuple[np.ndarray, ...]
    """uint8[n_i] of base codes each."""
    labels: np.ndarray
    """int32[n], indices into `classes`."""
    classes: tuple[str, ...]


def read(
    path: str | Path,
    *,
    k: int,
    max_kmers: int,
    fasta: str | Path = "",
    label_column: int = 4,
    classes: tuple[str, ...] | None = None,
    say: Callable[[str], None] = regions.note,
) -> Examples:
    """Reads labelled sequences.

    Args:
      path: TSV or CSV with columns `sequence` (letters, or DNABERT's k-mers of any k) and `label` in any order, a
        column `id` if there is one, and others left alone; or BED, with `fasta`. All may be compressed.
      k: the model's k.
      max_kmers: k-mers in the longest segment that the model reads.
      fasta: FASTA that BED files point into; not looked at for tables.
      label_column: 1-based column of the label in BED files. The strand in column 6 is honoured.
      classes: class names in order, as an earlier file or model has them; None takes them from this file: integers in
        numeric order, otherwise names in alphabetical order.
      say: is told of record names that were matched in another spelling.

    Returns:
      Examples; their ids are the column `id` or `line N`, or in BED the name or `record:start-end(strand)`.

    Raises:
      InputError: naming the line: what the readers of these formats raise, an empty label, a label that is not among
        `classes`, a sequence that is empty, has a stray letter, is shorter than k or longer than `max_kmers` k-mers.
        Also fewer than two classes where `classes` is None.
    """
    lines, ids, bases, labels = [], [], [], []
    for line, name, sequence, label in _rows(path, fasta, label_column, say):
        longest = max_kmers + k - 1
        if not k <= len(sequence) <= longest:
            raise InputError(
                f"{path}: line {line}: a sequence of {len(sequence)} bases; expected {k} (k) to {longest}, the longest "
                "that the model reads"
            )
        lines.append(line)
        ids.append(name)
        bases.append(sequence)
        labels.append(_normal(label))
    if classes is None:
        classes = _classes(labels)
        if len(classes) < 2:
            raise InputError(f"{path}: every label is {classes[0]!r}; expected two classes or more")
    number = {_normal(name): i for i, name in enumerate(classes)}
    for line, label in zip(lines, labels):
        if label not in number:
            raise InputError(f"{path}: line {line}: unknown label {label!r}; expected one of {', '.join(classes)}")
    return Examples(tuple(ids), tuple(bases), np.array([number[label] for label in labels], np.int32), classes)


def _rows(
    path: str | Path, fasta: str | Path, label_column: int, say: Callable[[str], None]
) -> Iterator[tuple[int, str, np.ndarray, str]]:
    """(line, id, bases, label) of every example."""
    text.require_rereadable(path)
    if fasta and not tables.is_table(path):
        for interval, bases in sequences.of_bed(path, fasta, label_column, say):
            named = interval.name not in ("", ".") and label_column != 4
            yield interval.line, interval.name if named else sequences.id_of(interval), bases, interval.label
        return
    first = next(text.lines(path), None)
    if first and not fasta and not tables.is_table(path):
        raise InputError(
            f"{path}: line {first[0]}: no column 'sequence' in {first[1][:30]!r}; expected a header with 'sequence' "
            "and 'label', or BED together with data.fasta"
        )
    for line, row in tables.read(path, ["sequence", "label"]):
        if not row["label"]:
            raise InputError(f"{path}: line {line}: an empty label; expected a class name or an integer")
        try:
            bases = sequences.of_text(row["sequence"])
        except InputError as error:
            raise InputError(f"{path}: line {line}: {error}") from None
        yield line, row.get("id") or f"line {line}", bases, row["label"]


def _normal(label: str) -> str:
    """Integers in their shortest spelling, so that 1 and 01 are one class."""
    return str(int(label)) if _INTEGER.fullmatch(label) else label


def _classes(labels: list[str]) -> tuple[str, ...]:
    found = set(labels)
    if all(_INTEGER.fullmatch(label) for label in found):
        return tuple(sorted(found, key=int))
    return tuple(sorted(found))
