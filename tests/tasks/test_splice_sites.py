"""The sites of an annotation base by base: small genes by hand, and the exons of the embedded slice."""

import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from dnabert_jax import embedded
from dnabert_jax.data import annotation, fasta, regions
from dnabert_jax.errors import InputError
from dnabert_jax.tasks import splice_sites, splits
from dnabert_jax.tasks.splice_sites import Annotated
from dnabert_jax.tasks.windows import Locus, Windows

LENGTHS = {"b": 300, "a": 200}
EXONS = [  # record, start, end, strand, gene, transcript
    ("a", 10, 20, "+", "g1", "t1"),
    ("a", 40, 50, "+", "g1", "t1"),
    ("a", 80, 90, "+", "g1", "t1"),
    ("a", 10, 25, "+", "g1", "t2"),
    ("a", 80, 95, "+", "g1", "t2"),
    ("a", 60, 70, "-", "g2", "t3"),
    ("a", 120, 130, "-", "g2", "t3"),
    ("b", 5, 15, "-", "g3", "t4"),
    ("b", 30, 35, "-", "g3", "t4"),
    ("b", 100, 140, ".", "g4", "t5"),
    ("b", 160, 170, ".", "g4", "t5"),
]


@pytest.fixture(scope="module")
def annotated():
    table = pd.DataFrame(EXONS, columns=["record", "start", "end", "strand", "gene", "transcript"])
    return Annotated(LENGTHS, table.assign(line=range(len(table))))


def test_sites_are_distinct_and_in_genome_order(annotated):
    assert list(annotated.sites[["record", "border", "strand", "label"]].itertuples(index=False, name=None)) == [
        ("b", 15, "-", "acceptor"),
        ("b", 30, "-", "donor"),
        ("a", 20, "+", "donor"),
        ("a", 25, "+", "donor"),
        ("a", 40, "+", "acceptor"),
        ("a", 50, "+", "donor"),
        ("a", 70, "-", "acceptor"),
        ("a", 80, "+", "acceptor"),
        ("a", 120, "-", "donor"),
    ]


def test_sites_of_a_region(annotated):
    assert annotated.within(regions.Region("a", 25, 50)).border.tolist() == [25, 40, 50]
    assert annotated.within(regions.Region("b")).border.tolist() == [15, 30]


def test_loci_and_islands(annotated):
    assert annotated.loci == [Locus("b", "-", 5, 35), Locus("a", "+", 10, 95), Locus("a", "-", 60, 130)]
    assert list(annotated.islands()) == [("b", 5, 35, 2), ("a", 10, 130, 7)]


def test_what_is_in_a_locus(annotated):
    _, forward, backward = annotated.loci
    assert annotated.borders(forward, "donor").tolist() == [20, 25, 50]
    assert annotated.borders(backward, "acceptor").tolist() == [70]
    donors, acceptors = annotated.intron_ends(forward)
    assert list(zip(donors, acceptors)) == [(20, 40), (25, 80), (50, 80)]
    donors, acceptors = annotated.intron_ends(backward)
    assert list(zip(donors, acceptors)) == [(120, 70)]


def test_insides_are_of_one_part_in_all_transcripts(annotated):
    for locus in annotated.loci:
        parts = {"exon": set(), "intron": set()}
        for transcript in {row[5] for row in EXONS}:
            exons = [row for row in EXONS if row[5] == transcript and (row[0], row[3]) == (locus.record, locus.strand)]
            for _, start, end, *_ in exons:
                parts["exon"].update(range(start, end))
            for (_, _, end, *_), (_, start, *_) in itertools.pairwise(exons):
                parts["intron"].update(range(end, start))
        for part, other in (("exon", "intron"), ("intron", "exon")):
            found = {base for start, end in zip(*annotated.insides(locus, part)) for base in range(start, end)}
            assert found == parts[part] - parts[other]


def test_the_embedded_slice(tmp_path):
    said = []
    with fasta.IndexedFasta(embedded.FASTA) as genome:
        lengths = {"20": genome.length("20")}
        annotated = splice_sites.read(embedded.GTF, lengths, embedded.FASTA, said.append)
        windows = Windows(genome, lengths, splits.by_region([], ["20:1-9"], lengths), 100)
        introns, read = 0, Counter()
        for locus in annotated.loci:
            starts, ends = annotated.intron_ends(locus)
            introns += len(starts)
            reading = windows.around(locus)
            for label, borders in (("donor", starts), ("acceptor", ends)):
                read[label] += int(splice_sites.canonical(reading, borders, label).sum())
                assert set(borders) == set(annotated.borders(locus, label))
    table = annotated.introns[["start", "end", "strand"]].drop_duplicates()
    assert introns == len(table)
    assert min(read.values()) > 0.95 * introns
    assert len(said) == 1
    assert sum(weight for *_, weight in annotated.islands()) == len(annotated.sites)
    assert (np.diff(annotated.sites.border) >= 0).all()
    assert len(annotated.exons) == len(annotation.exons(embedded.GTF))


def test_an_exon_past_the_end(tmp_path):
    with pytest.raises(InputError, match=r"line \d+: an exon that ends at \d+; expected at most 100000, the end of"):
        splice_sites.read(embedded.GTF, {"20": 100_000}, "genome.fa", print)
