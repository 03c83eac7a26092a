"""Intervals on a genome: BED, and the exons and introns of GTF and GFF3.

Whatever the file counts from, coordinates here are 0-based and half-open. Formats: BED as UCSC describes it (columns 1
to 6), GTF 2.2 (`gene_id "X"; transcript_id "Y";`) and GFF3 1.26 (`ID=...;Parent=...`), told apart row by row.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pandas as pd

from dnabert_jax.data import text
from dnabert_jax.errors import InputError

_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_GTF_ATTRIBUTE = re.compile(r'\b(gene_id|transcript_id)\s+"?([^";]*)"?')


class Interval(NamedTuple):
    """A row of a BED file."""

    line: int
    """1-based line in the file."""
    record: str
    start: int
    """0-based."""
    end: int
    """0-based, the first base that is not in it."""
    name: str
    """Column 4, or an empty string."""
    strand: str
    """`+`, `-`, or `.` where the file does not say."""
    label: str
    """The label column, or an empty string where none was asked for."""


def bed(path: str | Path, label_column: int = 0, label_name: str = "label") -> Iterator[Interval]:
    """Rows of a BED file in file order, one in memory at a time.

    Args:
      path: plain or compressed BED with three columns or more, parted by tabs or blanks.
      label_column: 1-based column that holds a label; 0 reads none. Column 6 is the strand unless it is this one.
      label_name: what the label is, for messages.

    Raises:
      InputError: naming the line: too few columns, coordinates that are no interval, a strand other than + - and .,
        or an empty label. Also a file without intervals.
    """
    empty = True
    for line, row in text.lines(path):
        if not row.strip() or row.startswith("#") or row.split(None, 1)[0] in ("track", "browser"):
            continue
        fields = [field.strip() for field in row.split("\t")] if "\t" in row else row.split()
        at = f"{path}: line {line}"
        if len(fields) < 3 or not fields[0]:
            raise InputError(f"{at}: {len(fields)} columns; expected BED: record, start, end and perhaps more, by tabs")
        start, end = _whole(fields[1], at, "start"), _whole(fields[2], at, "end")
        if not 0 <= start < end:
            raise InputError(f"{at}: an interval from {start} to {end}; expected 0 <= start < end")
        label = ""
        if label_column:
            label = fields[label_column - 1] if len(fields) >= label_column else ""
            if not label:
                raise InputError(f"{at}: no {label_name} in column {label_column}, which is empty or absent")
        strand = fields[5] if len(fields) > 5 and label_column != 6 else "."
        if strand not in ("+", "-", "."):
            raise InputError(f"{at}: strand {strand!r} in column 6; expected +, - or .")
        empty = False
        yield Interval(line, fields[0], start, end, fields[3] if len(fields) > 3 else "", strand, label)
    if empty:
        raise InputError(f"{path}: no intervals; expected BED: record, start, end and perhaps more, by tabs")


def exons(path: str | Path) -> pd.DataFrame:
    """The exons of a GTF or GFF3 file, in file order.

    Returns:
      Columns record (str), start and end (int64, 0-based half-open), strand (`+`, `-`, or `.` where the file says `.`
      or `?`), gene, transcript (str, empty where the file does not say) and line (int64). A GFF3 exon with several
      parents gives one row for each; its gene is the parent of its transcript.

    Raises:
      InputError: naming the line: not nine columns, coordinates that are no interval, another strand, or an exon that
        names neither gene nor transcript. Also a file without exons.
    """
    found, parents = [], {}
    for line, row in text.lines(path):
        if row.startswith("##FASTA"):
            break
        if not row.strip() or row.startswith("#"):
            continue
        at = f"{path}: line {line}"
        fields = row.split("\t")
        if len(fields) != 9:
            raise InputError(f"{at}: {len(fields)} columns; expected the 9 of GTF or GFF3, by tabs")
        record, _, feature, first, last, _, strand, _, attributes = fields
        if feature != "exon":
            if "Parent=" in attributes:
                values = _gff3_attributes(attributes)
                if "ID" in values and "Parent" in values:
                    parents[values["ID"]] = values["Parent"]
            continue
        start, end = _whole(first, at, "start") - 1, _whole(last, at, "end")
        if not 0 <= start < end:
            raise InputError(f"{at}: an exon from {first} to {last}; expected 1 <= start <= end")
        if strand not in ("+", "-", ".", "?"):
            raise InputError(f"{at}: strand {strand!r} in column 7; expected +, -, . or ?")
        owners = _owners(attributes)
        if not owners:
            raise InputError(f"{at}: an exon without gene_id, transcript_id (GTF) or Parent (GFF3); expected one")
        strand = "." if strand == "?" else strand
        found += [(record, start, end, strand, gene, transcript, line) for gene, transcript in owners]
    if not found:
        raise InputError(f"{path}: no exons; expected GTF or GFF3 with rows whose third column is exon")
    table = pd.DataFrame(found, columns=["record", "start", "end", "strand", "gene", "transcript", "line"])
    table["gene"] = [
        gene or parents.get(transcript, transcript) for gene, transcript in zip(table.gene, table.transcript)
    ]
    return table


def introns(exons: pd.DataFrame) -> pd.DataFrame:
    """What lies between consecutive exons of one transcript, or of one gene where the transcripts are not told.

    Exons that overlap or touch count as one. Exons without a strand have no introns.

    Args:
      exons: as `exons` gives it.

    Returns:
      Columns record, start, end (0-based half-open), strand, gene and transcript, one row for each intron of each
      transcript, sorted by record, strand, transcript and start.
    """
    stranded = exons[exons.strand != "."]
    owner = stranded.transcript.where(stranded.transcript != "", "gene " + stranded.gene)
    table = stranded.assign(owner=owner).sort_values(["record", "strand", "owner", "start", "end"], kind="stable")
    groups = table.groupby(["record", "strand", "owner"], sort=False)
    reached = groups.end.cummax()
    same = groups.cumcount() > 0
    start = reached.shift(fill_value=0)
    gap = same & (start < table.start)
    out = table.assign(end=table.start, start=start)[gap]
    return out[["record", "start", "end", "strand", "gene", "transcript"]].reset_index(drop=True)


def _whole(field: str, at: str, what: str) -> int:
    if not _WHOLE.fullmatch(field):
        raise InputError(f"{at}: {what} {field[:30]!r}; expected a whole number")
    return int(field)


def _owners(attributes: str) -> list[tuple[str, str]]:
    """(gene, transcript) of an exon; a GFF3 exon has one for each parent, its gene not known yet."""
    if "Parent=" in attributes:
        return [
            ("", transcript) for transcript in _gff3_attributes(attributes).get("Parent", "").split(",") if transcript
        ]
    values = dict(_GTF_ATTRIBUTE.findall(attributes))
    owner = values.get("gene_id", "").strip(), values.get("transcript_id", "").strip()
    return [owner] if any(owner) else []


def _gff3_attributes(attributes: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in attributes.split(";"))
    return {key: unquote(value) for key, _, value in pairs if key in ("ID", "Parent")}
