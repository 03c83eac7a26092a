"""Peaks of a ChIP-seq experiment: where a protein was found on the genome, or the sequences it was found on.

Three formats are told apart by content: FASTA begins with `>`; a table of exactly ten columns is ENCODE's narrowPeak
(BED6+4), whose tenth is the summit; any other table is BED. A window is centred on the summit where there is one, and
otherwise on the middle of the peak.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from dnabert_jax.data import annotation, fasta, regions, text
from dnabert_jax.errors import InputError

_SUMMIT_COLUMN = 10
_NO_SUMMIT = "-1"
_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)
_PLACE = re.compile(r"(?:.*::)?(.+):([0-9]{1,18})-([0-9]{1,18})(?:\(([-+.])\))?", re.ASCII)


class Peak(NamedTuple):
    """One peak."""

    at: str
    """Its line or record in the file, for messages."""
    name: str
    """Of the record in a FASTA; empty elsewhere."""
    record: str
    """Of the genome; empty where only the sequence is known."""
    start: int
    """0-based; 0 where only the sequence is known."""
    end: int
    """Exclusive."""
    centre: int
    """The base in the middle of a window: the summit, or the middle of the peak."""
    strand: str
    """`+`, `-`, or `.` where the file does not say."""
    bases: np.ndarray | None
    """uint8[end - start], read on `strand`, where the file holds sequences."""


@dataclass(frozen=True)
class Peaks:
    """The peaks of a file, in its order."""

    path: str | Path
    format: Literal["narrowPeak", "BED", "FASTA"]
    peaks: list[Peak]
    placed: bool
    """Whether it is known where on the genome they are."""


def read(path: str | Path, say: Callable[[str], None] = regions.note) -> Peaks:
    """Reads all peaks of a file.

    A FASTA has places where the name of every record is one, as bedtools (`chr1:100-200`, 0-based half-open, perhaps
    with `name::` before it and `(+)` behind it) or samtools (the same bases as `chr1:101-200`) write it; the number of
    bases tells which of the two.

    Args:
      path: narrowPeak, BED or FASTA, plain or compressed.
      say: is told when only some of the names in a FASTA are places, so that none is taken for one.

    Raises:
      InputError: as `annotation.bed` and `fasta.records`; a summit that is no base of its peak.
    """
    text.require_rereadable(path)
    first = next((row for _, row in text.lines(path) if not _is_comment(row)), "")
    if first.startswith(">"):
        return _of_fasta(path, say)
    columns = len(first.split("\t") if "\t" in first else first.split())
    if columns == _SUMMIT_COLUMN:
        rows = annotation.bed(path, _SUMMIT_COLUMN, "summit")
        return Peaks(path, "narrowPeak", [_with_summit(path, row) for row in rows], placed=True)
    peaks = [
        Peak(f"line {row.line}", "", row.record, row.start, row.end, (row.start + row.end) // 2, row.strand, None)
        for row in annotation.bed(path)
    ]
    return Peaks(path, "BED", peaks, placed=True)


def _is_comment(row: str) -> bool:
    return not row.strip() or row.startswith("#") or row.split(None, 1)[0] in ("track", "browser")


def _with_summit(path: str | Path, row: annotation.Interval) -> Peak:
    length = row.end - row.start
    if row.label == _NO_SUMMIT:
        centre = (row.start + row.end) // 2
    elif _WHOLE.fullmatch(row.label) and int(row.label) < length:
        centre = row.start + int(row.label)
    else:
        raise InputError(
            f"{path}: line {row.line}: summit {row.label[:30]!r} in column {_SUMMIT_COLUMN} of a peak of {length} "
            f"bases; expected its distance from the start, 0 to {length - 1}, or {_NO_SUMMIT} for none"
        )
    return Peak(f"line {row.line}", "", row.record, row.start, row.end, centre, row.strand, None)


def _of_fasta(path: str | Path, say: Callable[[str], None]) -> Peaks:
    found, nowhere = [], []
    for record in fasta.records(path):
        place = _place(record)
        if place is None:
            nowhere.append(record.name)
            place = ("", 0, len(record.bases), ".")
        name, start, end, strand = place
        at = f"record {record.name!r}"
        found.append(Peak(at, record.name, name, start, end, (start + end) // 2, strand, record.bases))
    if nowhere and len(nowhere) < len(found):
        say(
            f"{path}: {len(nowhere)} of {len(found)} names are no places of as many bases, {nowhere[0]!r} the first, "
            "so none is taken for one"
        )
        found = [
            peak._replace(record="", start=0, end=len(peak.bases), centre=len(peak.bases) // 2, strand=".")
            for peak in found
        ]
    return Peaks(path, "FASTA", found, placed=not nowhere)


def _place(record: fasta.Record) -> tuple[str, int, int, str] | None:
    """Record, start, end and strand that the name tells, if its length is that of the sequence."""
    match = _PLACE.fullmatch(record.name)
    if not match:
        return None
    start, end = int(match[2]), int(match[3])
    if start and len(record.bases) == end - start + 1:  # samtools counts from 1 and includes the end
        start -= 1
    if start >= end or len(record.bases) != end - start:
        return None
    return match[1], start, end, match[4] or "."
