"""The borders that a model is asked about, against a loop over the letters of a real stretch of the genome."""

import itertools

import pytest

from dnabert_jax import embedded, kmers
from dnabert_jax.data import annotation, fasta
from dnabert_jax.data.regions import Region
from dnabert_jax.rounds import borders
from dnabert_jax.tasks import splice_sites, splits
from dnabert_jax.tasks.windows import Windows

HALF = 20
START, END = 400_000, 460_000
"""A stretch of the slice with genes on both strands, and two sites that are not canonical."""


@pytest.fixture(scope="module")
def genome():
    with fasta.IndexedFasta(embedded.FASTA) as genome:
        yield genome


@pytest.fixture(scope="module")
def annotated(genome):
    return splice_sites.read(embedded.GTF, {"20": genome.length("20")}, embedded.FASTA, lambda line: None)


def _windows(genome, validation=()):
    lengths = {"20": genome.length("20")}
    return Windows(genome, lengths, splits.by_region(validation, [], lengths, pytest.fail), HALF)


def _sites():
    """{(border, strand): labels} straight from the exons."""
    found = {}
    exons = annotation.exons(embedded.GTF)
    for _, table in exons.groupby(["transcript", "gene"]):
        rows = sorted(zip(table.start, table.end, table.strand))
        for (_, left, strand), (right, _, _) in itertools.pairwise(rows):
            if left < right:
                first, last = ("donor", "acceptor") if strand == "+" else ("acceptor", "donor")
                found.setdefault((left, strand), set()).add(first)
                found.setdefault((right, strand), set()).add(last)
    return found


def _expected(genome, sites, stretches):
    letters = kmers.decode(genome.fetch("20", START - 100, END + 100))
    other = kmers.decode(kmers.reverse_complement(kmers.encode(letters)))
    found = {}
    for start, end in stretches:
        for border, strand in itertools.product(range(start, end + 1), "+-"):
            at = border - START + 100
            text, at = (letters, at) if strand == "+" else (other, len(other) - at)
            window = text[at - HALF : at + HALF]
            reads = {"donor": text[at : at + 2] == "GT", "acceptor": text[at - 2 : at] == "AG"}
            labels = sites.get((border, strand), set())
            if "N" not in window and (any(reads.values()) or labels):
                canonical = not labels or any(reads[label] for label in labels)
                found[border, strand] = (window, labels, canonical)
    return found


@pytest.mark.parametrize("block", [1 << 20, 7_000])
def test_borders_are_those_of_a_slow_loop(genome, annotated, monkeypatch, block):
    monkeypatch.setattr(borders, "_BLOCK", block)
    stretches = [(START, START + 25_001), (START + 30_000, END)]
    found = {}
    for asked, bases in borders.of(_windows(genome), annotated, [Region("20", *each) for each in stretches]):
        record, position, strand = asked.border
        assert record == "20"
        assert (position, strand) not in found
        found[position, strand] = (kmers.decode(bases), set(asked.labels), asked.canonical)
    expected = _expected(genome, _sites(), stretches)
    assert found == expected
    assert sum(bool(labels) for _, labels, _ in found.values()) > 20
    assert sum(not canonical for *_, canonical in found.values()) == 2


def test_windows_that_touch_validation_are_not_asked_about(genome, annotated):
    stretch = Region("20", START, START + 2_000)
    windows = _windows(genome, validation=[f"20:{START + 1_001}-{START + 1_500}"])
    found = [asked.border.position for asked, _ in borders.of(windows, annotated, [stretch])]
    whole = [asked.border.position for asked, _ in borders.of(_windows(genome), annotated, [stretch])]
    free = [at for at in whole if at + HALF <= START + 1_000 or at - HALF >= START + 1_500]
    assert found == free
    assert len(free) < len(whole)


def test_the_ends_of_a_record(genome, annotated):
    length = genome.length("20")
    for stretch in (Region("20", 0, 500), Region("20", length - 500, length)):
        for asked, bases in borders.of(_windows(genome), annotated, [stretch]):
            assert HALF <= asked.border.position <= length - HALF
            assert len(bases) == 2 * HALF
