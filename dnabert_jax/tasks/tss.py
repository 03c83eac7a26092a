"""Transcription start sites: where transcription begins and on which strand, from an annotation or a list.

A site is the one base that is transcribed first, the +1 of the field's numbering; there is no base 0, and -1 is the
base before it. Windows around sites are written with the distances from that base: -249..+50 is 249 bases upstream of
it, the base itself and 50 downstream, 300 in all, read on the strand of transcription.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from dnabert_jax.data import annotation, regions
from dnabert_jax.data.fasta import IndexedFasta
from dnabert_jax.errors import InputError
from dnabert_jax.tasks import assembly, records


class Frame(NamedTuple):
    """How far a window reaches on either side of its site; it holds the site itself too."""

    upstream: int
    downstream: int

    @property
    def bases(self) -> int:
        """Bases in the window."""
        return self.upstream + 1 + self.downstream

    def around(self, positions: np.ndarray, strands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the windows around sites lie on the forward strand, even if that is outside the record.

        Args:
          positions: int[n], the sites, 0-based.
          strands: str[n], `+` or `-`.

        Returns:
          Starts and ends: int64[n] each, 0-based half-open.
        """
        positions = np.asarray(positions, np.int64)
        forward = np.asarray(strands) == "+"
        starts = positions - np.where(forward, self.upstream, self.downstream)
        return starts, starts + self.bases


def of_annotation(
    path: str | Path,
    lengths: Mapping[str, int],
    fasta: str | Path,
    say: Callable[[str], None] = regions.note,
    *,
    genome: IndexedFasta | None = None,
    allow_mismatch: bool = False,
) -> pd.DataFrame:
    """The first base of each transcript's first exon, or of each gene's where the transcripts are not told.

    Args:
      path: GTF or GFF3 with exons.
      lengths: bases of each record of the genome, by name, in order.
      fasta: the genome, for messages.
      say: is told of records in another spelling or absent, and of exons without a strand, which are left out.
      genome: its bases, where it is to be looked at whether the annotation is of this assembly.
      allow_mismatch: go on where it is not.

    Returns:
      Columns record (the genome's name), position (int64, 0-based), strand (`+` or `-`) and line (of the exon; the
      first where several transcripts begin at one site), one row a site, in genome order, `+` first.

    Raises:
      InputError: as `annotation.exons`, `records.match` and `assembly.require_match`; an exon past the end of its
        record, or no exon with a strand.
    """
    exons = annotation.exons(path)
    exons = _on_genome(exons, lengths, path, fasta, say)
    past = exons[exons.end > exons.record.map(lengths)]
    if len(past):
        row = past.iloc[0]
        raise InputError(
            f"{path}: line {row.line}: an exon that ends at {row.end}; expected at most {lengths[row.record]}, the end "
            f"of record {row.record} of {fasta}"
        )
    if genome:
        assembly.require_match(exons, genome, path, fasta, allow_mismatch=allow_mismatch, say=say)
    stranded = exons[exons.strand != "."]
    if len(stranded) < len(exons):
        say(f"{path}: {len(exons) - len(stranded)} exons have no strand and were left out")
    if stranded.empty:
        raise InputError(f"{path}: no exon has a strand; expected + or - in column 7")
    owner = stranded.transcript.where(stranded.transcript != "", "gene " + stranded.gene)
    forward = stranded.strand == "+"
    table = stranded.assign(owner=owner, position=stranded.start.where(forward, stranded.end - 1))
    # The exon that begins first in reading order, which is the last one on the reverse strand.
    table = table.assign(rank=table.position.where(forward, -table.position)).sort_values("rank", kind="stable")
    return _sites(table.drop_duplicates(["record", "strand", "owner"]), lengths)


def of_bed(
    path: str | Path, lengths: Mapping[str, int], fasta: str | Path, say: Callable[[str], None] = regions.note
) -> pd.DataFrame:
    """Sites from a BED whose intervals are one base long, with the strand in column 6.

    Longer intervals are refused, because files differ in which of their bases is the site (of EPDnew's 60 bases, for
    example, it is the 50th).

    Args, and returns: as `of_annotation`.

    Raises:
      InputError: as `annotation.bed` and `records.match`; naming the line, an interval of several bases, one without
        strand, or one past the end of its record.
    """
    found = []
    for interval in annotation.bed(path):
        at = f"{path}: line {interval.line}"
        if interval.strand == ".":
            raise InputError(f"{at}: no strand; expected + or - in column 6")
        if interval.end - interval.start != 1:
            raise InputError(
                f"{at}: an interval of {interval.end - interval.start} bases; expected one base, where "
                "transcription starts"
            )
        found.append((interval.record, interval.start, interval.strand, interval.line))
    table = pd.DataFrame(found, columns=["record", "position", "strand", "line"])
    table = _on_genome(table, lengths, path, fasta, say)
    past = table[table.position >= table.record.map(lengths)]
    if len(past):
        row = past.iloc[0]
        raise InputError(
            f"{path}: line {row.line}: a site at {row.position}; expected one before {lengths[row.record]}, the end of "
            f"record {row.record} of {fasta}"
        )
    return _sites(table, lengths)


def _on_genome(
    table: pd.DataFrame, lengths: Mapping[str, int], path: str | Path, fasta: str | Path, say: Callable[[str], None]
) -> pd.DataFrame:
    """The rows whose record is in the genome, under the genome's name."""
    names = records.match(table.record.unique(), lengths, path, fasta, say)
    return table[table.record.isin(names)].assign(record=lambda rows: rows.record.map(names))


def _sites(table: pd.DataFrame, lengths: Mapping[str, int]) -> pd.DataFrame:
    order = {name: number for number, name in enumerate(lengths)}
    table = table.sort_values("line", kind="stable").drop_duplicates(["record", "position", "strand"])
    table = table.assign(order=table.record.map(order)).sort_values(["order", "position", "strand"], kind="stable")
    return table[["record", "position", "strand", "line"]].astype({"position": np.int64}).reset_index(drop=True)
