"""What the field `label` of labelled sequences means for each target.

- single_label: a class name or an integer.
- multi_label: names or integers parted by `;`; an empty field, or `.` as BED writes it, is none of them.
- regression: a number, or several parted by `;`, as many in each line.
- per_base: one character for each base of the sequence, read in its direction; `.` for a base that is not labelled.

Names of classes come sorted: integers by number, otherwise names, and characters, by the alphabet.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dnabert_jax.config import Target
from dnabert_jax.errors import InputError

SEPARATOR = ";"
UNLABELLED = "."
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_LARGEST = float(np.finfo(np.float32).max)

Labels = np.ndarray | tuple[np.ndarray, ...]
"""int32[n] of class numbers; float32[n, c] of 0 and 1, or of numbers; or n arrays int16[bases of the sequence] of class
numbers, -1 for bases that are not labelled."""


class Field(NamedTuple):
    """One line's label as it was read."""

    at: str
    """File and line, for messages."""
    text: str
    bases: int
    """Length of the sequence."""


def parse(
    target: Target, fields: Sequence[Field], classes: tuple[str, ...] | None, path: str
) -> tuple[Labels, tuple[str, ...]]:
    """Labels as numbers.

    Args:
      target: what the labels are of.
      fields: of every line, at least one.
      classes: names of the outputs in order, as an earlier file or model has them; None takes them from the fields.
      path: the file, for messages.

    Returns:
      The labels, and the names of the outputs. Numbers of regression are named `value`, or `value 1`, `value 2`, ...

    Raises:
      InputError: naming the line: a label that does not read as above, one that is not among `classes`, or as many
        numbers as there are not names. Naming the file: no labelled base at all or, without `classes`, labels that
        leave nothing to tell apart.
    """
    parsers: dict[str, Callable[..., tuple[Labels, tuple[str, ...]]]] = {
        "single_label": _single_label,
        "multi_label": _multi_label,
        "regression": _regression,
        "per_base": _per_base,
    }
    return parsers[target](fields, classes, path)


def _single_label(fields: Sequence[Field], classes: tuple[str, ...] | None, path: str):
    for field in fields:
        if not field.text:
            raise InputError(f"{field.at}: an empty label; expected a class name or an integer")
    labels = [_normal(field.text) for field in fields]
    if classes is None:
        classes = _in_order(labels)
        if len(classes) < 2:
            raise InputError(f"{path}: every label is {classes[0]!r}; expected two classes or more")
    number = {_normal(name): i for i, name in enumerate(classes)}
    for field, label in zip(fields, labels):
        _require_known(field, label, number, classes)
    return np.array([number[label] for label in labels], np.int32), classes


def _multi_label(fields: Sequence[Field], classes: tuple[str, ...] | None, path: str):
    labels = []
    for field in fields:
        names = [] if field.text in ("", UNLABELLED) else [name.strip() for name in field.text.split(SEPARATOR)]
        if "" in names:
            raise InputError(
                f"{field.at}: an empty name in the label {field.text[:40]!r}; expected class names parted by "
                f"{SEPARATOR!r}, or nothing for none of them"
            )
        labels.append([_normal(name) for name in names])
    if classes is None:
        classes = _in_order([name for names in labels for name in names])
        if not classes:
            raise InputError(f"{path}: no line has a label; expected class names parted by {SEPARATOR!r}")
    number = {_normal(name): i for i, name in enumerate(classes)}
    found = np.zeros((len(fields), len(classes)), np.float32)
    for row, (field, names) in enumerate(zip(fields, labels)):
        for name in names:
            _require_known(field, name, number, classes)
            found[row, number[name]] = 1
    return found, classes


def _regression(fields: Sequence[Field], classes: tuple[str, ...] | None, path: str):
    rows = [[_number(field, text.strip()) for text in field.text.split(SEPARATOR)] for field in fields]
    expected = len(rows[0]) if classes is None else len(classes)
    for field, row in zip(fields, rows):
        if len(row) != expected:
            like = "as in the first line" if classes is None else "as in the training data or the model"
            raise InputError(f"{field.at}: {len(row)} numbers; expected {expected}, parted by {SEPARATOR!r}, {like}")
    found = np.array(rows, np.float32)
    if classes is None:
        if (found == found[0]).all():
            raise InputError(f"{path}: every label is {fields[0].text!r}; expected numbers that differ")
        classes = ("value",) if expected == 1 else tuple(f"value {i + 1}" for i in range(expected))
    return found, classes


def _per_base(fields: Sequence[Field], classes: tuple[str, ...] | None, path: str):
    for field in fields:
        if len(field.text) != field.bases:
            raise InputError(
                f"{field.at}: a label of {len(field.text)} characters; expected {field.bases}, one for each base of "
                f"the sequence, {UNLABELLED!r} for one that is not labelled"
            )
    found = set().union(*(field.text for field in fields)) - {UNLABELLED}
    if not found:
        raise InputError(f"{path}: no base is labelled; expected a character for its class")
    if classes is None:
        classes = _in_order(found)
        if len(classes) < 2:
            raise InputError(f"{path}: every labelled base is {classes[0]!r}; expected two classes or more")
    number = {UNLABELLED: -1, **{name: i for i, name in enumerate(classes)}}
    for field in fields:
        if not number.keys() >= set(field.text):
            at, name = next((at, name) for at, name in enumerate(field.text) if name not in number)
            raise InputError(
                f"{field.at}: unknown label {name!r} of base {at + 1}; expected one of {', '.join(classes)} or "
                f"{UNLABELLED!r}"
            )
    return tuple(np.array([number[name] for name in field.text], np.int16) for field in fields), classes


def _require_known(field: Field, label: str, known: dict[str, int], classes: tuple[str, ...]) -> None:
    if label not in known:
        raise InputError(f"{field.at}: unknown label {label!r}; expected one of {', '.join(classes)}")


def _number(field: Field, text: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not abs(value) <= _LARGEST:
        raise InputError(
            f"{field.at}: the label {text[:40]!r} is no number; expected a finite number in float32's range, or "
            f"several parted by {SEPARATOR!r}"
        )
    return value


def _normal(label: str) -> str:
    """Integers in their shortest spelling, so that 1 and 01 are one class."""
    return str(int(label)) if _INTEGER.fullmatch(label) else label


def _in_order(labels: Iterable[str]) -> tuple[str, ...]:
    found = set(labels)
    if all(_INTEGER.fullmatch(label) for label in found):
        return tuple(sorted(found, key=int))
    return tuple(sorted(found))
