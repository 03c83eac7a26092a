"""Splice sites from a genome and its annotation: donor, acceptor or neither.

Windows are centred on the border of exon and intron, so the GT with which an intron begins follows the middle of every
donor window, and the AG with which it ends precedes the middle of every acceptor window. The windows labelled neither
carry a GT or an AG at just that place, come from the same genes, and are no annotated site: a model has to look at more
than two bases. The task is that of SpliceFinder (Wang et al. 2019), 400 bases by default as there.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import bioframe
import numpy as np
import pandas as pd

from dnabert_jax import kmers
from dnabert_jax.data import annotation, regions
from dnabert_jax.data.fasta import IndexedFasta
from dnabert_jax.errors import InputError
from dnabert_jax.tasks import splice_dataset, splits
from dnabert_jax.tasks.splice_dataset import (
    ACCEPTOR,
    CLASSES,
    DONOR,
    NEITHER,
    SITE_KINDS,
    Example,
    Options,
    Summary,
    few,
)
from dnabert_jax.tasks.windows import Locus, Reading, Windows

# The two bases at the border of each kind of site, and how many places before the border they begin.
_SIGNALS = {DONOR: ((kmers.G, kmers.T), 0), ACCEPTOR: ((kmers.A, kmers.G), 2)}


def make(
    fasta: str | Path,
    gtf: str | Path,
    out: str | Path,
    *,
    window: int = 400,
    validation: Sequence[str] = (),
    test: Sequence[str] = (),
    negatives_per_site: int = 1,
    keep_non_canonical: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    say: Callable[[str], None] = regions.note,
) -> Summary:
    """Writes labelled windows around splice sites, `train.tsv`, `validation.tsv` and `test.tsv`, and a README.

    A site that several transcripts share is one example. Windows that reach past the end of a record, hold an N, lie
    across a border between two splits or repeat the sequence of an earlier one are dropped and counted.

    Args:
      fasta: the genome; plain or bgzip.
      gtf: its exons, GTF or GFF3. Its `chr20` is the genome's `20`, and the other way round.
      out: folder to make; its parents are made too.
      window: bases in an example; even.
      validation: records or regions (`20` or `20:1-5000000`) for validation.
      test: the same for the test. Where neither is given, 80, 10 and 10 % of the sites in genome order, cut between
        genes. Where only one is, the other split has no file.
      negatives_per_site: windows with GT (or AG) labelled neither for each donor (or acceptor), from the same genes.
      keep_non_canonical: keep sites that do not read GT or AG. They are about one in seventy, many of them errors of
        annotation, and the absence of the two letters gives them away.
      seed: of the choice of negatives; the same arguments give the same files.
      overwrite: replace `out` if it holds an earlier result and nothing else.
      say: is told, in one line each, what the user should know.

    Returns:
      Summary.

    Raises:
      InputError: as the readers of the formats; an annotation with no record of the FASTA's, past the end of one, or
        without introns; a genome on which most sites do not read GT or AG; an option out of range; a split without
        examples; or an `out` that holds other files.
      RunStopped: the files could not be written.
    """
    options = Options(Path(fasta).name, Path(gtf).name, window, negatives_per_site, keep_non_canonical, seed)
    out = Path(os.path.abspath(out))
    splice_dataset.require_free(out, overwrite)
    with IndexedFasta(fasta) as genome:
        lengths = {name: genome.length(name) for name in genome.names}
        summary = Summary()
        exons = _exons_on(lengths, fasta, gtf, summary, say)
        sites = _sites(annotation.introns(exons), gtf, summary)
        genes = _genes(exons)
        if validation or test:
            territories = splits.by_region(validation, test, lengths, say)
        else:
            territories = splits.by_islands(_islands(genes, sites, lengths), lengths)
        for split, name in enumerate(splits.NAMES):
            summary.split_regions[name] = tuple(map(str, territories.regions(split)))
        windows = Windows(genome, lengths, territories, window // 2)
        examples = _examples(windows, _loci(genes, lengths), sites, options, summary)
    _require_signals(summary, fasta, gtf, keep_non_canonical)
    expected = [
        name for name, given in zip(splits.NAMES, (True, validation, test)) if given or not (validation or test)
    ]
    _require_examples(summary, gtf, expected)
    order = {name: number for number, name in enumerate(lengths)}
    examples.sort(key=lambda each: (order[each.record], each.border, each.strand, each.label))
    splice_dataset.write(out, examples, options, summary)
    return summary


def _exons_on(
    lengths: Mapping[str, int], fasta: str | Path, gtf: str | Path, summary: Summary, say: Callable[[str], None]
) -> pd.DataFrame:
    """The annotated exons under the FASTA's own record names, without those on records that it lacks."""
    exons = annotation.exons(gtf)
    names, missing = {}, []
    for wanted in exons.record.unique():
        try:
            name = regions.match_name(wanted, lengths)
        except InputError as error:
            raise InputError(f"{gtf}: {error}") from None
        if name is None:
            missing.append(wanted)
            continue
        names[wanted] = name
        if name != wanted:
            say(f"{wanted} of {gtf} is taken to be record {name} of {fasta}")
    if not names:
        raise InputError(
            f"{gtf}: none of its records ({few(missing)}) is in {fasta} ({few(list(lengths))}); expected the "
            "annotation of this genome"
        )
    if missing:
        say(f"{gtf}: {len(missing)} records are not in {fasta} and were left out: {few(missing)}")
    exons = exons[exons.record.isin(names)].assign(record=lambda table: table.record.map(names))
    past = exons[exons.end > exons.record.map(lengths)]
    if len(past):
        row = past.iloc[0]
        raise InputError(
            f"{gtf}: line {row.line}: an exon that ends at {row.end}; expected at most {lengths[row.record]}, the end "
            f"of record {row.record} of {fasta}"
        )
    summary.exons = len(exons)
    summary.unstranded_exons = int((exons.strand == ".").sum())
    summary.unmatched_records = tuple(missing)
    if summary.unstranded_exons:
        say(f"{gtf}: {summary.unstranded_exons} exons have no strand and were left out")
    return exons


def _sites(introns: pd.DataFrame, gtf: str | Path, summary: Summary) -> pd.DataFrame:
    """Distinct sites: record, strand, kind, border."""
    if introns.empty:
        raise InputError(f"{gtf}: no introns; expected genes with two exons or more")
    forward = introns.strand == "+"
    donors = introns[["record", "strand"]].assign(kind=DONOR, border=introns.start.where(forward, introns.end))
    acceptors = introns[["record", "strand"]].assign(kind=ACCEPTOR, border=introns.end.where(forward, introns.start))
    sites = pd.concat([donors, acceptors], ignore_index=True).drop_duplicates(ignore_index=True)
    summary.introns = len(introns)
    summary.sites = {CLASSES[kind]: int((sites.kind == kind).sum()) for kind in SITE_KINDS}
    return sites


def _genes(exons: pd.DataFrame) -> pd.DataFrame:
    """From the first to the last base of each transcript, or of each gene where transcripts are not told."""
    owner = exons.transcript.where(exons.transcript != "", exons.gene)
    stranded = exons.assign(owner=owner)[exons.strand != "."]
    spans = stranded.groupby(["record", "strand", "owner"], as_index=False, sort=False)
    return spans.agg(start=("start", "min"), end=("end", "max"))


def _clustered(genes: pd.DataFrame) -> pd.DataFrame:
    """Stretches of genes that overlap on one strand: record, strand, start, end."""
    found = bioframe.cluster(genes, min_dist=None, cols=("record", "start", "end"), on=["strand"])
    found = found[["record", "strand", "cluster_start", "cluster_end"]].drop_duplicates()
    return found.rename(columns={"cluster_start": "start", "cluster_end": "end"})


def _loci(genes: pd.DataFrame, lengths: Mapping[str, int]) -> list[Locus]:
    order = {name: number for number, name in enumerate(lengths)}
    rows = _clustered(genes).itertuples(index=False)
    loci = [Locus(row.record, row.strand, int(row.start), int(row.end)) for row in rows]
    return sorted(loci, key=lambda locus: (order[locus.record], locus.start, locus.strand))


def _islands(
    genes: pd.DataFrame, sites: pd.DataFrame, lengths: Mapping[str, int]
) -> Iterator[tuple[str, int, int, int]]:
    """Stretches of overlapping genes on either strand with the sites in them, in genome order."""
    islands = _clustered(genes.assign(strand="."))
    for record in lengths:
        here = islands[islands.record == record].sort_values("start")
        borders = np.sort(sites.border[sites.record == record].to_numpy())
        for start, end in zip(here.start, here.end):
            inside = np.searchsorted(borders, end) - np.searchsorted(borders, start)
            if inside:
                yield record, int(start), int(end), int(inside)


def _examples(
    windows: Windows, loci: list[Locus], sites: pd.DataFrame, options: Options, summary: Summary
) -> list[Example]:
    """All sites first, then the negatives, so that no negative takes the place of a site of the same sequence."""
    none = np.zeros(0, np.int64)
    by_kind = {key: np.sort(table.border.to_numpy()) for key, table in sites.groupby(["record", "strand", "kind"])}
    annotated = {
        locus: [_within(by_kind.get((locus.record, locus.strand, kind), none), locus) for kind in SITE_KINDS]
        for locus in loci
    }
    seen: set[bytes] = set()
    examples: list[Example] = []
    counts: dict[Locus, Counter] = {}
    for locus in loci:
        if any(map(len, annotated[locus])):
            found = _positives(windows.around(locus), annotated[locus], options, seen, summary)
            counts[locus] = Counter((example.label, example.split) for example in found)
            examples += found
    rng = np.random.default_rng(options.seed)
    for locus, wanted in counts.items():
        reading = windows.around(locus)
        for (kind, split), count in wanted.items():
            count *= options.negatives_per_site
            found = _negatives(reading, kind, split, count, np.concatenate(annotated[locus]), seen, rng)
            summary.missing_negatives += count - len(found)
            examples += found
    for example in examples:
        summary.examples[splits.NAMES[example.split]][CLASSES[example.label]] += 1
    return examples


def _within(borders: np.ndarray, locus: Locus) -> np.ndarray:
    return borders[np.searchsorted(borders, locus.start) : np.searchsorted(borders, locus.end, side="right")]


def _positives(
    reading: Reading, annotated: list[np.ndarray], options: Options, seen: set[bytes], summary: Summary
) -> list[Example]:
    """Examples of the annotated sites of a locus, borders by kind; each sequence once."""
    found = []

    def keep(borders: np.ndarray, fit: np.ndarray, otherwise: str) -> np.ndarray:
        summary.dropped[otherwise] += int((~fit).sum())
        return borders[fit]

    for kind, borders in zip(SITE_KINDS, annotated):
        borders = keep(borders, reading.inside(borders), "past the end")
        borders = keep(borders, reading.known(borders), "unknown bases")
        canonical = np.isin(borders, reading.borders_at(*_SIGNALS[kind]))
        summary.non_canonical[CLASSES[kind]] += int((~canonical).sum())
        if not options.keep_non_canonical:
            borders = keep(borders, canonical, "not canonical")
        borders = keep(borders, reading.split(borders) != splits.NOWHERE, "between splits")
        for border, split in zip(borders, reading.split(borders)):
            example = _example(reading, border, kind, split)
            if example.sequence in seen:
                summary.dropped["repeated"] += 1
            else:
                seen.add(example.sequence)
                found.append(example)
    return found


def _negatives(
    reading: Reading,
    kind: int,
    split: int,
    count: int,
    annotated: np.ndarray,
    seen: set[bytes],
    rng: np.random.Generator,
) -> list[Example]:
    """Up to `count` windows with the letters of a site where there is none, of sequences not seen yet."""
    borders = np.setdiff1d(reading.borders_at(*_SIGNALS[kind]), annotated)
    borders = borders[reading.inside(borders)]
    borders = borders[reading.known(borders) & (reading.split(borders) == split)]
    found = []
    for border in rng.permutation(borders):
        if len(found) == count:
            break
        example = _example(reading, border, NEITHER, split)
        if example.sequence not in seen:
            seen.add(example.sequence)
            found.append(example)
    return found


def _example(reading: Reading, border: int, label: int, split: int) -> Example:
    locus = reading.locus
    return Example(locus.record, int(border), locus.strand, label, int(split), reading.bases(border).tobytes())


def _require_signals(summary: Summary, fasta: str | Path, gtf: str | Path, keep_non_canonical: bool) -> None:
    dropped = summary.dropped
    looked_at = sum(summary.sites.values()) - dropped["past the end"] - dropped["unknown bases"]
    canonical = looked_at - sum(summary.non_canonical.values())
    if not keep_non_canonical and canonical < looked_at / 2:
        raise InputError(
            f"{gtf}: only {canonical} of {looked_at} splice sites read GT or AG on {fasta}; expected nearly all, as "
            "where the two are of one assembly"
        )


def _require_examples(summary: Summary, gtf: str | Path, expected: Sequence[str]) -> None:
    for name in expected:
        if not sum(summary.examples[name].values()):
            where = few(summary.split_regions[name]) or "no region"
            raise InputError(
                f"{gtf}: no splice site for {name} in {where}; expected regions for validation and test that leave "
                "genes to each split"
            )
