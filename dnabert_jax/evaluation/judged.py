"""`predictions.tsv`: what a fine-tuned model said of every example that it was judged on, and what was true.

A tab-separated table with a header, in the order of the labelled data: `id`; `label`, written as in labelled data
(`data.labels`); and under the name of each class its probability, or the predicted number. For `per_base` there is a
row for each labelled base, with its 0-based `position` behind the id. Numbers have the digits that give the same
float32 back, so that figures of the table are those of `result.json`.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnabert_jax import places, results
from dnabert_jax.config import Target
from dnabert_jax.data import labels as labels_
from dnabert_jax.data import text
from dnabert_jax.data.labelled import Examples
from dnabert_jax.errors import InputError

FILE = "predictions.tsv"


@dataclass(frozen=True)
class Judged:
    """Labels and predictions of n examples, as `evaluation.figures` takes them."""

    ids: tuple[str, ...]
    labels: np.ndarray
    """int[n], or float32[n, c] of 0 and 1 for `multi_label`, of numbers for `regression`."""
    predictions: np.ndarray
    """float32[n, c]"""
    positions: np.ndarray | None = None
    """For `per_base`, where an example is a base: int[n], its place in the sequence of that id."""

    @property
    def sequences(self) -> np.ndarray:
        """int[n]: the number of the sequence that each example is, or is a base of."""
        if self.positions is None:
            return np.arange(len(self.ids))
        ids = np.asarray(self.ids)
        begins = (ids[1:] != ids[:-1]) | (self.positions[1:] <= self.positions[:-1])
        return np.concatenate([[0], np.cumsum(begins)])


def of(examples: Examples, labels: np.ndarray, predictions: np.ndarray) -> Judged:
    """Names what was judged.

    Args:
      examples: all that were.
      labels, predictions: of them, in their order; for `per_base` of their labelled bases, one sequence after another.
    """
    if examples.target != "per_base":
        return Judged(examples.ids, labels, predictions)
    places = [np.flatnonzero(of_bases >= 0) for of_bases in examples.labels]
    ids = tuple(name for name, found in zip(examples.ids, places, strict=True) for _ in found)
    return Judged(ids, labels, predictions, np.concatenate(places))


def write(path: str | Path, target: Target, judged: Judged, classes: tuple[str, ...]) -> None:
    """Writes the table, whole or not at all; one that is there is replaced.

    Raises:
      InputError: the place cannot be written to.
      RunStopped: the disk is full.
    """
    with results.text(places.place(path)) as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(_header(target, classes))
        for number, (name, predicted) in enumerate(zip(judged.ids, judged.predictions, strict=True)):
            place = [] if judged.positions is None else [judged.positions[number]]
            label = _label(target, judged.labels[number], classes)
            table.writerow([name, *place, label, *map(_number, predicted)])


def read(path: str | Path, target: Target, classes: tuple[str, ...]) -> Judged:
    """Reads the table that a run left.

    Args:
      path: of the table.
      target: what the run predicts.
      classes: names of its classes or values, in order.

    Raises:
      InputError: it cannot be read, has other columns, no row, a row of another length, a label that is not among the
        classes, or a prediction that is no finite number; the line is named.
    """
    rows = text.rows(path)
    header = _header(target, classes)
    line, found = next(rows, (1, []))
    if found != header:
        raise InputError(
            f"{path}: line {line}: the columns are {', '.join(found)[:80]!r}; expected {', '.join(header)[:80]!r}, as "
            "the run wrote them"
        )
    ids, fields, positions, predictions = [], [], [], []
    leading = len(header) - len(classes)
    for line, row in rows:
        at = f"{path}: line {line}"
        if len(row) != len(header):
            raise InputError(f"{at}: {len(row)} columns; expected {len(header)}, as in the header")
        ids.append(row[0])
        if target == "per_base":
            if not row[1].isdecimal():
                raise InputError(f"{at}: the position {row[1][:20]!r} is no number; expected 0 or more")
            positions.append(int(row[1]))
        fields.append(labels_.Field(at, row[leading - 1], 0))
        predictions.append(_numbers(row[leading:], at))
    if not ids:
        raise InputError(f"{path}: no row; expected one for each example")
    true, _ = labels_.parse("single_label" if target == "per_base" else target, fields, classes, str(path))
    return Judged(
        tuple(ids),
        np.asarray(true),
        np.array(predictions, np.float32),
        np.array(positions, np.int64) if target == "per_base" else None,
    )


def _header(target: Target, classes: tuple[str, ...]) -> list[str]:
    return ["id", *(["position"] if target == "per_base" else []), "label", *classes]


def _label(target: Target, label: np.ndarray, classes: tuple[str, ...]) -> str:
    if target == "regression":
        return labels_.SEPARATOR.join(map(_number, label))
    if target == "multi_label":
        return labels_.SEPARATOR.join(_present(label, classes))
    return classes[int(label)]


def _present(label: np.ndarray, classes: tuple[str, ...]) -> Iterator[str]:
    return (name for name, there in zip(classes, label, strict=True) if there)


def _number(value: np.floating) -> str:
    return f"{value:.9g}"


def _numbers(cells: list[str], at: str) -> list[float]:
    try:
        found = [float(cell) for cell in cells]
    except ValueError:
        found = [np.nan]
    if not np.isfinite(found).all():
        raise InputError(f"{at}: a prediction that is no finite number; expected the file as the run wrote it")
    return found
