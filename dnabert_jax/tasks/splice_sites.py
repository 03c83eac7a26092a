"""The splice sites that an annotation tells of: where each exon meets an intron.

A site is a border (`windows`) with the strand of its gene: a donor where an intron begins, an acceptor where it ends,
as the gene is read. Nearly all introns begin with GT and end with AG; a site that does not is called non-canonical.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import bioframe
import numpy as np
import pandas as pd

from dnabert_jax import kmers
from dnabert_jax.data import annotation, regions
from dnabert_jax.errors import InputError
from dnabert_jax.tasks import records
from dnabert_jax.tasks.splits import Island
from dnabert_jax.tasks.windows import Locus, Reading

DONOR, ACCEPTOR = "donor", "acceptor"
SIGNALS = {DONOR: ((kmers.G, kmers.T), 0), ACCEPTOR: ((kmers.A, kmers.G), 2)}
"""The two bases at the border of each kind of site, and how many places before the border they begin."""

_NONE = np.zeros(0, np.int64)
_SPAN = ("record", "start", "end")


@dataclass(frozen=True)
class Annotated:
    """What an annotation tells, under the names that the genome has for its records."""

    lengths: Mapping[str, int]
    """Bases of each record of the genome, by name, in order."""
    exons: pd.DataFrame
    """As `annotation.exons` gives them, without those on records that the genome lacks."""
    unmatched: tuple[str, ...] = ()
    """Records of the annotation that the genome lacks."""
    introns: pd.DataFrame = field(init=False)
    """As `annotation.introns` gives them: a row for each intron of each transcript."""
    sites: pd.DataFrame = field(init=False)
    """Distinct sites: record, strand, label (donor or acceptor), border (int64), in genome order."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "introns", annotation.introns(self.exons))
        object.__setattr__(self, "sites", self._in_order(_sites(self.introns)))

    def within(self, region: regions.Region) -> pd.DataFrame:
        """The sites whose borders lie in a region of the genome or at its ends: rows of `sites`."""
        end = self.lengths[region.name] if region.end is None else region.end
        return self.sites[(self.sites.record == region.name) & self.sites.border.between(region.start, end)]

    def borders(self, locus: Locus, label: str) -> np.ndarray:
        """Sorted borders of the sites of one kind in a locus: int64[n]."""
        return _between(self._borders.get((locus.record, locus.strand, label), _NONE), locus)

    def intron_ends(self, locus: Locus) -> tuple[np.ndarray, np.ndarray]:
        """Borders of the donor and of the acceptor of each distinct intron in a locus: int64[n] each."""
        starts, ends = self._introns_by_strand.get((locus.record, locus.strand), (_NONE, _NONE))
        here = slice(np.searchsorted(starts, locus.start), np.searchsorted(starts, locus.end))
        return (starts[here], ends[here]) if locus.strand == "+" else (ends[here], starts[here])

    def insides(self, locus: Locus, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Starts and ends of what is only exon, or only intron, in all transcripts of a locus: int64[n] each.

        Args:
          locus: genes that overlap.
          part: `exon` or `intron`.
        """
        starts, ends = self._insides[part].get(f"{locus.record}{locus.strand}", (_NONE, _NONE))
        here = slice(np.searchsorted(starts, locus.start), np.searchsorted(starts, locus.end))
        return starts[here], ends[here]

    @cached_property
    def loci(self) -> list[Locus]:
        """Stretches of genes that overlap on one strand, in genome order."""
        rows = self._in_order(_clustered(self._genes)).itertuples(index=False)
        return [Locus(row.record, row.strand, int(row.start), int(row.end)) for row in rows]

    def islands(self) -> Iterator[Island]:
        """Stretches of genes that overlap, on either strand, that have sites, with their number as weight."""
        islands = _clustered(self._genes.assign(strand="."))
        borders = {record: np.sort(table.border.to_numpy()) for record, table in self.sites.groupby("record")}
        for row in self._in_order(islands).itertuples(index=False):
            inside = len(_between(borders.get(row.record, _NONE), row))
            if inside:
                yield row.record, int(row.start), int(row.end), inside

    @cached_property
    def _genes(self) -> pd.DataFrame:
        """From the first to the last base of each transcript, or of each gene where transcripts are not told."""
        owner = self.exons.transcript.where(self.exons.transcript != "", self.exons.gene)
        stranded = self.exons.assign(owner=owner)[self.exons.strand != "."]
        spans = stranded.groupby(["record", "strand", "owner"], as_index=False, sort=False)
        return spans.agg(start=("start", "min"), end=("end", "max"))

    @cached_property
    def _borders(self) -> dict[tuple[str, str, str], np.ndarray]:
        groups = self.sites.groupby(["record", "strand", "label"])
        return {key: np.sort(table.border.to_numpy()) for key, table in groups}

    @cached_property
    def _introns_by_strand(self) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
        distinct = self.introns[["record", "strand", "start", "end"]].drop_duplicates().sort_values(["start", "end"])
        groups = distinct.groupby(["record", "strand"])
        return {key: (table.start.to_numpy(), table.end.to_numpy()) for key, table in groups}

    @cached_property
    def _insides(self) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
        exons, introns = _merged(self.exons[self.exons.strand != "."]), _merged(self.introns)
        return {"exon": _only(exons, introns), "intron": _only(introns, exons)}

    def _in_order(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows sorted as the records are in the genome, then by place and strand."""
        order = {name: number for number, name in enumerate(self.lengths)}
        return (
            table.assign(number=table.record.map(order))
            .sort_values(["number", "border" if "border" in table else "start", "strand"], kind="stable")
            .drop(columns="number")
            .reset_index(drop=True)
        )


def read(
    gtf: str | Path, lengths: Mapping[str, int], fasta: str | Path, say: Callable[[str], None] = regions.note
) -> Annotated:
    """Reads the annotation of a genome.

    Args:
      gtf: GTF or GFF3 with exons.
      lengths: bases of each record of the genome, by name, in order.
      fasta: the genome's file, for messages.
      say: is told of records in another spelling, of those that the genome lacks, and of exons without a strand.

    Raises:
      InputError: as `annotation.exons` and `records.match`; an exon past the end of its record; no introns.
    """
    exons = annotation.exons(gtf)
    names = records.match(exons.record.unique(), lengths, gtf, fasta, say)
    unmatched = tuple(name for name in exons.record.unique() if name not in names)
    exons = exons[exons.record.isin(names)].assign(record=lambda table: table.record.map(names))
    past = exons[exons.end > exons.record.map(lengths)]
    if len(past):
        row = past.iloc[0]
        raise InputError(
            f"{gtf}: line {row.line}: an exon that ends at {row.end}; expected at most {lengths[row.record]}, the end "
            f"of record {row.record} of {fasta}"
        )
    unstranded = int((exons.strand == ".").sum())
    if unstranded:
        say(f"{gtf}: {unstranded} exons have no strand and were left out")
    annotated = Annotated(lengths, exons, unmatched)
    if annotated.introns.empty:
        raise InputError(f"{gtf}: no introns; expected genes with two exons or more, on strand + or -")
    return annotated


def canonical(reading: Reading, borders: np.ndarray, label: str) -> np.ndarray:
    """Whether each border reads as a site of this kind does, GT after a donor's or AG before an acceptor's: bool[n].

    Args:
      reading: a locus with the borders in it.
      borders: int64[n], with two bases or more of the record on either side.
      label: donor or acceptor.
    """
    return reading.reads(borders, *SIGNALS[label])


def _sites(introns: pd.DataFrame) -> pd.DataFrame:
    forward = introns.strand == "+"
    donors = introns[["record", "strand"]].assign(label=DONOR, border=introns.start.where(forward, introns.end))
    acceptors = introns[["record", "strand"]].assign(label=ACCEPTOR, border=introns.end.where(forward, introns.start))
    return pd.concat([donors, acceptors], ignore_index=True).drop_duplicates(ignore_index=True)


def _clustered(genes: pd.DataFrame) -> pd.DataFrame:
    """Stretches of genes that overlap on one strand: record, strand, start, end."""
    found = bioframe.cluster(genes, min_dist=None, cols=_SPAN, on=["strand"])
    found = found[["record", "strand", "cluster_start", "cluster_end"]].drop_duplicates()
    return found.rename(columns={"cluster_start": "start", "cluster_end": "end"})


def _merged(parts: pd.DataFrame) -> pd.DataFrame:
    """Exons or introns that overlap or touch as one; `record` is the record's name with the strand behind it."""
    return bioframe.merge(parts[["start", "end"]].assign(record=parts.record + parts.strand), cols=_SPAN)


def _only(wanted: pd.DataFrame, others: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Starts and ends of what is in the one and not in the other, by record and strand."""
    left = bioframe.subtract(wanted, others, cols1=_SPAN, cols2=_SPAN).astype({"start": np.int64, "end": np.int64})
    groups = left.sort_values("start").groupby("record")
    return {key: (table.start.to_numpy(), table.end.to_numpy()) for key, table in groups}


def _between(borders: np.ndarray, span: Locus) -> np.ndarray:
    return borders[np.searchsorted(borders, span.start) : np.searchsorted(borders, span.end, side="right")]
