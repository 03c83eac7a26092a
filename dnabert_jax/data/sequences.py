"""Sequences to predict on, from whatever file they are in: FASTA, a table, or a BED with its FASTA.

One record is in memory at a time, and the order is the file's. How a row of text or an interval becomes bases is
decided here, for labelled data too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnabert_jax import kmers
from dnabert_jax.data import annotation, fasta, kmer_text, regions, tables, text
from dnabert_jax.errors import InputError


@dataclass(frozen=True)
class Sequence:
    """A named stretch of DNA."""

    id: str
    bases: np.ndarray
    """uint8[n] of base codes."""


def read(
    path: str | Path, *, k: int, fasta: str | Path = "", say: Callable[[str], None] = regions.note
) -> Iterator[Sequence]:
    """Streams the sequences of a file in input order.

    Args:
      path: FASTA (it begins with `>`); TSV or CSV with a column `sequence`, letters or DNABERT's k-mers, and perhaps a
        column `id`; or BED, with `fasta`. All may be compressed.
      k: the model's k; every sequence has at least one k-mer.
      fasta: FASTA that a BED points into.
      say: is told of record names that were matched in another spelling.

    Yields:
      One Sequence a record. Its id is the FASTA name, the column `id` or `line N`, the name column of the BED or
      `record:start-end(strand)`.

    Raises:
      InputError: none of these formats, what their readers raise, or a sequence shorter than k.
    """
    for where, sequence in _located(path, fasta, say):
        if len(sequence.bases) < k:
            raise InputError(
                f"{path}: {where}: {len(sequence.bases)} bases; expected at least {k}, the length of the model's k-mers"
            )
        yield sequence


def of_text(letters: str) -> np.ndarray:
    """The bases, uint8[n], of a field that holds a sequence as letters or as DNABERT's k-mers.

    Raises:
      InputError: an empty field, a letter that is no nucleotide, or k-mers that do not fit together.
    """
    if not letters:
        raise InputError("an empty sequence; expected letters A, C, G, T or N")
    bases = kmer_text.parse(letters)
    return kmers.encode(letters) if bases is None else bases


def of_bed(
    path: str | Path, fasta_path: str | Path, label_column: int = 0, say: Callable[[str], None] = regions.note
) -> Iterator[tuple[annotation.Interval, np.ndarray]]:
    """Intervals of a BED file with their bases, uint8[end - start]; those on the `-` strand read as the other strand.

    Raises:
      InputError: as `annotation.bed` and `fasta.IndexedFasta`; also an interval on a record that the FASTA lacks, or
        one that ends past its record.
    """
    with fasta.IndexedFasta(fasta_path) as genome:
        names: dict[str, str] = {}
        for interval in annotation.bed(path, label_column):
            at = f"{path}: line {interval.line}"
            if interval.record not in names:
                names[interval.record] = _matched(interval.record, genome.names, at, fasta_path, say)
            name = names[interval.record]
            if interval.end > genome.length(name):
                raise InputError(
                    f"{at}: ends at {interval.end}; expected at most {genome.length(name)}, the end of record {name}"
                )
            bases = genome.fetch(name, interval.start, interval.end)
            yield interval, kmers.reverse_complement(bases) if interval.strand == "-" else bases


def id_of(interval: annotation.Interval) -> str:
    """`record:start-end(strand)` as bedtools writes it, without the strand where there is none."""
    strand = "" if interval.strand == "." else f"({interval.strand})"
    return f"{interval.record}:{interval.start}-{interval.end}{strand}"


def _located(path: str | Path, fasta_path: str | Path, say: Callable[[str], None]) -> Iterator[tuple[str, Sequence]]:
    """Sequences, each with where in the file it is."""
    text.require_rereadable(path)
    first = next((row.lstrip() for _, row in text.lines(path) if row.strip()), None)
    if first is None:
        raise InputError(f"{path}: an empty file; expected FASTA, a table with a column 'sequence', or BED")
    if first.startswith(">"):
        for record in fasta.records(path):
            yield f"record {record.name!r}", Sequence(record.name, record.bases)
    elif tables.is_table(path):
        for line, row in tables.read(path, ["sequence"]):
            yield f"line {line}", Sequence(row.get("id") or f"line {line}", _of_row(path, line, row["sequence"]))
    elif fasta_path:
        for interval, bases in of_bed(path, fasta_path, say=say):
            name = interval.name if interval.name not in ("", ".") else id_of(interval)
            yield f"line {interval.line}", Sequence(name, bases)
    else:
        raise InputError(
            f"{path}: line 1: {first[:30]!r}; expected FASTA (a line that begins with >), a table with a column "
            "'sequence', or BED together with a FASTA"
        )


def _of_row(path: str | Path, line: int, letters: str) -> np.ndarray:
    try:
        return of_text(letters)
    except InputError as error:
        raise InputError(f"{path}: line {line}: {error}") from None


def _matched(wanted: str, known: tuple[str, ...], at: str, fasta_path: str | Path, say: Callable[[str], None]) -> str:
    try:
        name = regions.match_name(wanted, known)
    except InputError as error:
        raise InputError(f"{at}: {error}") from None
    if name is None:
        raise InputError(f"{at}: record {wanted!r} is not in {fasta_path}; expected one of its records")
    if name != wanted:
        say(f"{wanted} is taken to be record {name} of {fasta_path}")
    return name
