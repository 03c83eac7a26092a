"""Labelled sequences for fine-tuning: what biologists have in TSV, CSV and BED files, as bases and numbers.

What a label may be follows from the target (`labels`). The sequences may differ in length. They are kept as bases, so a
file made for one k serves every other.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnabert_jax.config import Target
from dnabert_jax.data import labels, regions, sequences, tables, text
from dnabert_jax.errors import InputError


@dataclass(frozen=True)
class Examples:
    """Sequences with their labels, in file order."""

    ids: tuple[str, ...]
    sequences: tuple[np.ndarray, ...]
    """uint8[n_i] of base codes each."""
    labels: labels.Labels
    """int32[n], indices into `classes`; for multi_label float32[n, classes] of 0 and 1; for regression
    float32[n, values]; for per_base n arrays int16[n_i], indices into `classes` and -1 for bases without a label."""
    classes: tuple[str, ...]
    """Names of the classes; for regression, of the values."""
    target: Target = "single_label"


def read(
    path: str | Path,
    *,
    k: int,
    max_kmers: int,
    target: Target = "single_label",
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
      max_kmers: k-mers in the longest sequence that the model reads, in all its pieces together.
      target: what the labels are of; `labels` says how they are written.
      fasta: FASTA that BED files point into; not looked at for tables.
      label_column: 1-based column of the label in BED files. The strand in column 6 is honoured.
      classes: names of classes (or values) in order, as an earlier file or model has them; None takes them from this
        file: integers in numeric order, otherwise names in alphabetical order.
      say: is told of record names that were matched in another spelling.

    Returns:
      Examples; their ids are the column `id` or `line N`, or in BED the name or `record:start-end(strand)`.

    Raises:
      InputError: naming the line: what the readers of these formats raise, a label that `labels.parse` does not take,
        a sequence that is empty, has a stray letter, is shorter than k or longer than `max_kmers` k-mers. Naming the
        file, where `classes` is None: fewer than two classes, or one for multi_label, or two numbers for regression.
    """
    fields, ids, found = [], [], []
    for line, name, bases, label in _rows(path, fasta, label_column, say):
        at = f"{path}: line {line}"
        longest = max_kmers + k - 1
        if not k <= len(bases) <= longest:
            split = "" if len(bases) < k else "; fine-tuning with more --pieces splits longer ones"
            raise InputError(
                f"{at}: a sequence of {len(bases)} bases; expected {k} (k) to {longest}, the longest that the model "
                f"reads{split}"
            )
        ids.append(name)
        found.append(bases)
        fields.append(labels.Field(at, label, len(bases)))
    values, names = labels.parse(target, fields, classes, str(path))
    return Examples(tuple(ids), tuple(found), values, names, target)


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
        try:
            bases = sequences.of_text(row["sequence"])
        except InputError as error:
            raise InputError(f"{path}: line {line}: {error}") from None
        yield line, row.get("id") or f"line {line}", bases, row["label"]
