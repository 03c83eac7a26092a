"""DeePromoter's negatives: which bases may change, and that they do."""

import numpy as np
import pytest

from dnabert_jax import embedded
from dnabert_jax.data import fasta
from dnabert_jax.tasks import deepromoter


@pytest.fixture(scope="module")
def promoters():
    with fasta.IndexedFasta(embedded.FASTA) as genome:
        return list(genome.fetch("20", 0, 300 * 400).reshape(400, 300))


def test_eight_of_twenty_pieces_stay_and_twelve_are_random(promoters):
    found = deepromoter.replaced(promoters, np.random.default_rng(0))
    changed = np.stack(found) != np.stack(promoters)
    pieces = changed.reshape(400, 20, 15)
    # A piece of random bases is as it was once in 4**15 times, so pieces that changed are pieces that were drawn.
    assert set(pieces.any(axis=2).sum(axis=1)) == {12}
    assert pieces[pieces.any(axis=2)].mean() == pytest.approx(0.75, abs=0.02)
    assert pieces.any(axis=2).mean(axis=0) == pytest.approx(np.full(20, 0.6), abs=0.12)
    drawn = np.stack(found)[changed]
    assert drawn.dtype == np.uint8
    assert np.bincount(drawn, minlength=5)[4] == 0


def test_pieces_differ_by_one_base_where_the_length_is_no_multiple_of_twenty(promoters):
    core = [promoter[:70] for promoter in promoters]
    found = deepromoter.replaced(core, np.random.default_rng(0))
    sizes = {len(piece) for piece in np.array_split(core[0], 20)}
    assert sizes == {3, 4}
    for before, after in zip(core, found):
        assert len(after) == 70
        assert 8 < (before != after).sum() <= 12 * 4


def test_the_same_seed_gives_the_same_and_the_source_stays(promoters):
    copies = [promoter.copy() for promoter in promoters]
    once, again, other = (deepromoter.replaced(promoters, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(map(np.array_equal, once, again))
    assert not all(map(np.array_equal, once, other))
    assert all(map(np.array_equal, promoters, copies))
