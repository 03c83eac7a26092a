"""TATA boxes against Biopython's own scores and distribution, a slow search, and real promoters."""

import numpy as np
import pytest
from Bio import motifs

from dnabert_jax import embedded, kmers
from dnabert_jax.data import fasta
from dnabert_jax.tasks import tata, tss

LETTERS = "ACGT"


@pytest.fixture(scope="module")
def bases():
    with fasta.IndexedFasta(embedded.FASTA) as genome:
        return genome.fetch("20", 1_000_000, 1_030_000)


@pytest.fixture(scope="module")
def weights():
    counts = {letter: list(tata.COUNTS[letter]) for letter in LETTERS}
    return motifs.Motif(alphabet=LETTERS, counts=counts).counts.normalize(pseudocounts=1).log_odds()


def test_every_position_is_of_389_sites():
    assert {sum(tata.COUNTS[letter][at] for letter in LETTERS) for at in range(tata.LENGTH)} == {389}
    consensus = "".join(max(LETTERS, key=lambda letter: tata.COUNTS[letter][at]) for at in range(tata.LENGTH))
    assert consensus[1:7] == "TATAAA"


def test_scores_are_biopythons_on_both_strands(bases, weights):
    letters = kmers.decode(bases)
    np.testing.assert_allclose(tata.scores(bases), weights.calculate(letters), atol=1e-4)
    np.testing.assert_allclose(tata.scores(bases, "-"), weights.reverse_complement().calculate(letters), atol=1e-4)
    turned = tata.scores(kmers.reverse_complement(bases))[::-1]
    np.testing.assert_allclose(tata.scores(bases, "-"), turned, atol=1e-4)


def test_the_score_is_that_of_one_place_in_200_of_random_dna(weights):
    assert weights.distribution(precision=1000).threshold_fpr(0.005) == pytest.approx(tata.SCORE, abs=0.05)
    places = np.random.default_rng(0).integers(0, 4, 400_000).astype(np.uint8)
    assert (tata.scores(places) >= tata.SCORE).mean() == pytest.approx(0.005, rel=0.2)


def test_what_holds_an_n_scores_nothing(bases):
    holed = bases[:100].copy()
    holed[50] = kmers.N
    touched = (np.arange(86) <= 50) & (np.arange(86) >= 36)
    for strand in "+-":
        found = tata.scores(holed, strand)
        np.testing.assert_array_equal(np.isneginf(found), touched)
        np.testing.assert_array_equal(found[~touched], tata.scores(bases[:100], strand)[~touched])


@pytest.mark.parametrize("length", [0, 5, 8, 14])
def test_too_few_bases_have_no_score(length):
    assert tata.scores(np.zeros(length, np.uint8)).shape == (0,)


def test_the_best_box_is_that_of_a_slow_search(bases, weights):
    """The first base of the matrix's TATAAA at -35..-25, counted from the site, so that its sixth is at -20 at most."""
    sites = range(300, 20_000, 97)
    stretches = np.stack([bases[site + tata.FIRST :][: tata.STRETCH] for site in sites])
    found = tata.best(stretches)
    for site, score in zip(sites, found):
        slow = [weights.calculate(kmers.decode(bases[site + tataaa - 1 :][:15])) for tataaa in range(-35, -24)]
        assert score == pytest.approx(max(slow), abs=1e-4)
    assert tata.best(np.zeros((0, tata.STRETCH), np.uint8)).shape == (0,)


@pytest.mark.parametrize("strand", ["+", "-"])
def test_a_site_of_a_place_has_its_box_there(strand):
    box = kmers.encode("GTATAAAAGGCGGGG")
    forward = box if strand == "+" else kmers.reverse_complement(box)
    genome = np.full(400, kmers.C, np.uint8)
    genome[200:215] = forward
    (place,) = np.flatnonzero(tata.scores(genome, strand) > 15)
    assert place == 200
    for offset in range(tata.FIRST, tata.LAST + 1):
        (site,) = tata.sites_of(np.array([place]), np.array([offset]), strand)
        start, end = (int(each[0]) for each in tss.Frame(100, 50).around(np.array([site]), np.array([strand])))
        window = genome[start:end] if strand == "+" else kmers.reverse_complement(genome[start:end])
        np.testing.assert_array_equal(window[100 + offset :][:15], box)
        assert tata.best(window[None, 100 + tata.FIRST :][:, : tata.STRETCH])[0] > 15


def test_real_tata_promoters_have_a_box_and_random_windows_seldom_do(shared_data):
    """The list is of promoters that EPDnew calls TATA; their site is number 250 of 300."""
    lines = (shared_data / "promoters/human_tata_epdnew_300bp.txt").read_text().split()
    promoters = np.stack([kmers.encode(line) for line in lines])
    with fasta.IndexedFasta(shared_data / "human_chr20_grch37.fa.gz") as genome:
        stretch = genome.fetch("20", 30_000_000, 30_600_000).reshape(-1, 300)
    shares = [
        (tata.best(rows[:, 249 + tata.FIRST :][:, : tata.STRETCH]) >= tata.SCORE).mean()
        for rows in (promoters, stretch)
    ]
    assert shares[0] > 0.99
    assert 0.03 < shares[1] < 0.12
