"""Windows outside promoters against a slow look at each of them, and at every one that there could be."""

import numpy as np
import pytest
from Bio import motifs

from dnabert_jax import embedded, kmers
from dnabert_jax.data import fasta
from dnabert_jax.data.regions import Region
from dnabert_jax.tasks import outside_promoters, tata
from dnabert_jax.tasks.excluded import Excluded
from dnabert_jax.tasks.tss import Frame

FRAME = Frame(249, 50)
CORE = Frame(34, 35)
REGIONS = [Region("20", 100_000, 900_000), Region("20", 1_500_000, 2_000_000)]
EXCLUDED = Excluded.of(("20", start, start + 20_000) for start in range(0, 4_000_000, 60_000))


@pytest.fixture(scope="module")
def genome():
    with fasta.IndexedFasta(embedded.FASTA) as opened:
        yield opened


def draw(genome, regions=REGIONS, frame=FRAME, excluded=EXCLUDED, wanted=300, seed=0, seen=None, **options):
    options = {"box": True, "score": tata.SCORE} | options
    seen = set() if seen is None else seen
    return outside_promoters.draw(
        genome, regions, frame, excluded, wanted, seen=seen, rng=np.random.default_rng(seed), **options
    )


def slow_scores(genome, place, upstream):
    """Biopython's score of the matrix wherever its TATAAA lies within -35..-20 of the site of a window."""
    counts = {letter: list(tata.COUNTS[letter]) for letter in "ACGT"}
    weights = motifs.Motif(alphabet="ACGT", counts=counts).counts.normalize(pseudocounts=1).log_odds()
    site = place.start + upstream if place.strand == "+" else place.end - 1 - upstream
    start, end = (site - 100, site + 1) if place.strand == "+" else (site, site + 101)
    bases = genome.fetch(place.record, start, end)
    read = kmers.decode(bases if place.strand == "+" else kmers.reverse_complement(bases))
    return [float(weights.calculate(read[100 + first - 1 :][:15])) for first in range(-35, -24)]


@pytest.mark.parametrize(("frame", "box"), [(FRAME, True), (FRAME, False), (CORE, True), (CORE, False)])
def test_windows_are_what_was_asked_for(genome, frame, box):
    found = draw(genome, frame=frame, box=box)
    assert len(found) == 300
    assert {place.strand for place, _ in found} == {"+", "-"}
    for place, bases in found:
        assert place.end - place.start == len(bases) == frame.bases
        forward = genome.fetch(place.record, place.start, place.end)
        np.testing.assert_array_equal(bases, forward if place.strand == "+" else kmers.reverse_complement(forward))
        assert (bases != kmers.N).all()
        assert (max(slow_scores(genome, place, frame.upstream)) >= tata.SCORE) == box
        assert any(region.start <= place.start and place.end <= region.end for region in REGIONS)
    starts, ends = (np.array(each) for each in zip(*sorted((place.start, place.end) for place, _ in found)))
    assert EXCLUDED.free("20", starts, ends).all()
    assert (starts[1:] >= ends[:-1]).all()
    both = np.array([sum(region.start <= start < region.end for start in starts) for region in REGIONS])
    assert both.min() > 50


def test_boxes_lie_at_every_place_that_they_may(genome):
    best = [int(np.argmax(slow_scores(genome, place, 249))) for place, _ in draw(genome)]
    assert set(best) == set(range(11))


def test_any_window_with_a_box_may_be_drawn_and_no_other(genome):
    """On a short stretch, against all sites on both strands."""
    region, excluded = Region("20", 200_000, 204_000), Excluded.of([("20", 201_000, 201_500)])
    bases = genome.fetch("20", region.start, region.end)
    there = set()
    for strand in "+-":
        read = bases if strand == "+" else kmers.reverse_complement(bases)
        for start in range(len(read) - 299):
            if tata.best(read[None, start + 249 + tata.FIRST :][:, : tata.STRETCH])[0] >= tata.SCORE:
                first = region.start + (start if strand == "+" else len(read) - start - 300)
                if excluded.free("20", np.array([first]), np.array([first + 300]))[0]:
                    there.add((first, strand))
    drawn = set()
    for seed in range(60):
        found = draw(genome, [region], excluded=excluded, wanted=3, seed=seed)
        assert len(found) == 3
        drawn |= {(place.start, place.strand) for place, _ in found}
    assert drawn <= there
    assert len(drawn) > 90  # of the 180 draws; there are some 700 such windows


def test_there_may_be_fewer_than_wanted(genome):
    found = draw(genome, [Region("20", 200_000, 204_000)], wanted=500)
    assert 0 < len(found) <= 4000 // 300
    assert draw(genome, [Region("20", 200_000, 200_299)], wanted=5) == []
    assert draw(genome, [Region("20", 200_000, 200_010)], wanted=5, box=False) == []
    assert draw(genome, [], wanted=5) == []
    assert draw(genome, [], wanted=5, box=False) == []


def test_no_sequence_is_drawn_twice(tmp_path, genome):
    """A record and its reverse complement have the same windows."""
    bases = genome.fetch("20", 200_000, 220_000)
    turned = kmers.decode(kmers.reverse_complement(bases))
    (tmp_path / "a.fa").write_text(f">a\n{kmers.decode(bases)}\n>b\n{turned}\n")
    with fasta.IndexedFasta(tmp_path / "a.fa") as twice:
        regions, seen = [Region("a", 0, 20_000), Region("b", 0, 20_000)], set()
        found = draw(twice, regions, CORE, Excluded.of([]), 400, seen=seen)
        sequences = [min(kmers.decode(each), kmers.decode(kmers.reverse_complement(each))) for _, each in found]
        assert len(sequences) == len(set(sequences)) > 50
        again = draw(twice, regions, CORE, Excluded.of([]), 400, seen=seen)
        assert not set(sequences) & {
            min(kmers.decode(each), kmers.decode(kmers.reverse_complement(each))) for _, each in again
        }


def test_unknown_bases_and_ends_of_records_are_avoided(tmp_path, genome):
    letters = kmers.decode(genome.fetch("20", 200_000, 206_000))
    (tmp_path / "a.fa").write_text(f">a\n{letters[:2000]}{'N' * 50}{letters[2000:].lower()}\n")
    with fasta.IndexedFasta(tmp_path / "a.fa") as holed:
        for box in (True, False):
            found = draw(holed, [Region("a", 0, 6050)], excluded=Excluded.of([]), wanted=30, box=box)
            assert len(found) > 5
            for place, bases in found:
                assert any(first <= place.start < place.end <= last for first, last in ((0, 2000), (2050, 6050)))
                assert len(bases) == 300


def test_reading_in_stretches_changes_nothing_but_the_draw(genome, monkeypatch):
    """A place at the border of two stretches is neither lost nor found twice: all places of a region are kept."""
    region = [Region("20", 200_000, 230_000)]

    def places(at_once):
        monkeypatch.setattr(outside_promoters, "_AT_ONCE", at_once)
        blocks = outside_promoters._with_box(genome, region, tata.SCORE, np.random.default_rng(0))
        return sum(map(len, blocks))

    whole = places(1 << 22)
    assert whole > 100
    assert places(100) == places(999) == whole


def test_the_same_seed_gives_the_same_windows(genome):
    once, again, other = (draw(genome, wanted=50, seed=seed) for seed in (1, 1, 2))
    assert [place for place, _ in once] == [place for place, _ in again]
    assert [place for place, _ in once] != [place for place, _ in other]
