"""Annotations of the genome and of another one, told apart by where their introns begin and end."""

import gzip

import pytest

from dnabert_jax import embedded, kmers
from dnabert_jax.data import annotation, fasta
from dnabert_jax.errors import InputError
from dnabert_jax.tasks import assembly


@pytest.fixture(scope="module")
def exons():
    return annotation.exons(embedded.GTF).assign(record="20")


@pytest.fixture(scope="module")
def genome():
    with fasta.IndexedFasta(embedded.FASTA) as opened:
        yield opened


def check(exons, genome, **options):
    said = []
    assembly.require_match(exons, genome, "a.gtf", "a.fa", say=said.append, **options)
    return said


def test_the_annotation_of_the_genome_goes_through(exons, genome):
    assert check(exons, genome) == []


def test_one_that_is_moved_or_on_the_other_strand_does_not(exons, genome):
    turned = exons.assign(strand=exons.strand.map({"+": "-", "-": "+"}))
    moved = exons.assign(start=exons.start + 3, end=exons.end + 3)
    for wrong in (turned, moved):
        with pytest.raises(InputError, match=r"a\.gtf: \d+ of \d+ introns read GT\.\.AG on a\.fa; expected nearly all"):
            check(wrong, genome)
        assert ["going on" in line for line in check(wrong, genome, allow_mismatch=True)] == [True]


def test_the_count_is_that_of_a_slow_reading(exons, genome):
    """Of so few introns all are looked at."""
    few = exons[exons.end < 1_200_000]
    with gzip.open(embedded.GTF, "rt") as file:
        rows = [row.split("\t") for row in file]
    by_gene = {}
    for row in rows:
        if int(row[4]) < 1_200_000:
            by_gene.setdefault((row[6], row[8]), []).append((int(row[3]), int(row[4])))
    right = total = 0
    for (strand, _), parts in by_gene.items():
        for (_, left), (after, _) in zip(sorted(parts), sorted(parts)[1:]):
            total += 1
            inside = kmers.decode(genome.fetch("20", left, after - 1))
            if strand == "-":
                inside = inside[::-1].translate(str.maketrans("ACGT", "TGCA"))
            right += inside.startswith("GT") and inside.endswith("AG")
    wrong = few.assign(start=few.start + 3, end=few.end + 3)
    assert 50 < total <= 300
    assert right > 0.9 * total
    with pytest.raises(InputError, match=f" of {total} introns"):
        check(wrong, genome)


def test_an_annotation_without_introns_says_nothing(exons, genome):
    assert check(exons.drop_duplicates("gene"), genome) == []
