"""Span masking against its definition: shares, spans, borders, corruption and slots."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax import kmers, masking
from dnabert_jax.config import MaskingConfig
from tests import tiny

K = 6
LENGTH = 512
SEGMENTS = [[510], [200, 150, 100], [505], [60] * 8] * 16
ROWS = {name: jnp.asarray(value) for name, value in tiny.rows(SEGMENTS, LENGTH, k=K).items()}


def mask(config: MaskingConfig, seed: int = 0, rows=ROWS, k: int = K, **keywords) -> masking.MaskedBatch:
    masked = masking.mask(jax.random.key(seed), rows, config, k=k, **keywords)
    return masking.MaskedBatch(*map(np.asarray, masked))


def runs(row: np.ndarray) -> list[tuple[int, int]]:
    """(start, end) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(int)))
    return list(zip(edges[::2], edges[1::2]))


@pytest.mark.parametrize("rate", [0.15, 0.4])
@pytest.mark.parametrize("span", [0, 1, 10])
def test_the_share_that_is_masked(rate, span):
    config = MaskingConfig(rate=rate, late_rate=rate, span=span)
    shares = []
    for seed in range(20):
        batch = mask(config, seed)
        inner = (batch.original >= kmers.FIRST_KMER) & (batch.positions > 20)
        shares.append(batch.masked[inner].mean())
    # away from segment ends, where spans are clipped, every token is covered with probability `rate`
    assert abs(np.mean(shares) - rate) < max(5 * np.std(shares) / np.sqrt(20), 0.006)


@pytest.mark.parametrize(("k", "offsets"), [(3, (-1, 1)), (4, (-1, 2)), (5, (-2, 2)), (6, (-2, 3))])
def test_the_paper_s_offsets_around_a_centre(k, offsets):
    ids = jnp.ones((1, 30), jnp.int32)
    centres = jnp.zeros((1, 30), bool).at[0, 12].set(True)
    covered = np.flatnonzero(masking._spans(centres, ids, k)[0])
    assert covered.tolist() == list(range(12 + offsets[0], 12 + offsets[1] + 1))


@pytest.mark.parametrize("span", [6, 9])
def test_runs_are_whole_spans_except_where_a_segment_clips_them(span):
    batch = mask(MaskingConfig(rate=0.1, span=span))
    seen = 0
    for row in range(len(SEGMENTS)):
        for start, end in runs(batch.masked[row]):
            assert (batch.original[row, start:end] >= kmers.FIRST_KMER).all()
            assert len(set(batch.segment_ids[row, start:end])) == 1
            clipped = {batch.original[row, start - 1], batch.original[row, end]} & {kmers.CLS, kmers.SEP}
            assert end - start >= span or clipped
            seen += 1
    assert seen > 300


def test_unknown_tokens_are_never_masked():
    rows = {name: np.array(value) for name, value in ROWS.items()}
    rows["tokens"][:, 100:140] = np.where(rows["tokens"][:, 100:140] >= 5, kmers.UNK, rows["tokens"][:, 100:140])
    batch = mask(MaskingConfig(rate=0.5), rows=rows)
    assert not batch.masked[rows["tokens"] < kmers.FIRST_KMER].any()
    assert (batch.tokens[rows["tokens"] < kmers.FIRST_KMER] == rows["tokens"][rows["tokens"] < kmers.FIRST_KMER]).all()


def _corruption(batch):
    became_mask = batch.masked & (batch.tokens == kmers.MASK)
    kept = batch.masked & (batch.tokens == batch.original)
    return became_mask, kept, batch.masked & ~became_mask & ~kept


def test_corruption_per_token():
    batch = mask(MaskingConfig(rate=0.4))
    total = batch.masked.sum()
    for found, share in zip(_corruption(batch), (0.8, 0.1, 0.1)):
        assert abs(found.sum() / total - share) < 5 * np.sqrt(share * (1 - share) / total)
    untouched = ~batch.masked
    assert (batch.tokens[untouched] == batch.original[untouched]).all()
    random = batch.tokens[_corruption(batch)[2]]
    assert random.min() >= 0
    assert random.max() < kmers.vocabulary_size(K)
    assert len(set(random.tolist())) > 500


def test_corruption_per_span_decides_once_for_each_run():
    batch = mask(MaskingConfig(rate=0.3, corruption="span"))
    masks, kept, _ = _corruption(batch)
    decisions = []
    for row in range(len(SEGMENTS)):
        for start, end in runs(batch.masked[row]):
            place = (row, slice(start, end))
            if masks[place].all():
                decisions.append("mask")
            elif kept[place].all():
                decisions.append("kept")
            else:  # random ids, which by chance may be [MASK] or the right one
                assert (masks[place] | kept[place]).mean() < 0.5
                decisions.append("random")
    shares = {name: decisions.count(name) / len(decisions) for name in ("mask", "kept", "random")}
    assert abs(shares["mask"] - 0.8) < 0.06
    assert abs(shares["kept"] - 0.1) < 0.05


def test_corruption_per_token_leaves_kept_tokens_beside_masked_ones():
    batch = mask(MaskingConfig(rate=0.3))
    masks, kept, _ = _corruption(batch)
    assert (masks[:, 1:] & kept[:, :-1]).any()  # the leak that corruption per span closes


def test_the_late_rate_begins_at_its_step():
    config = MaskingConfig(rate=0.1, late_rate=0.4, late_step=50)
    early, late = mask(config, step=49).masked.mean(), mask(config, step=50).masked.mean()
    assert early < 0.12 < 0.3 < late


def test_slots_name_every_masked_token_once():
    batch = mask(MaskingConfig(rate=0.2, late_rate=0.2))
    for row in range(len(SEGMENTS)):
        used = batch.slots[row][batch.weights[row] > 0]
        assert used.tolist() == np.flatnonzero(batch.masked[row]).tolist()
        assert batch.slots[row].max() < LENGTH
    assert batch.unplaced.sum() == 0


def test_what_does_not_fit_is_counted():
    masked = jnp.asarray(np.arange(20)[None] < 12)
    places, weights, unplaced = masking._slots(masked, 8)
    assert places[0].tolist() == list(range(8))
    assert weights.sum() == 8
    assert unplaced.tolist() == [4]


@pytest.mark.parametrize("k", [3, 6])
def test_slots_suffice_over_a_long_run(k):
    config = MaskingConfig()
    rows = {name: jnp.asarray(value) for name, value in tiny.rows([[510]] * 500, LENGTH, k=k).items()}
    count = jax.jit(lambda seed: masking.mask(jax.random.key(seed), rows, config, k=k, step=200_000).masked.sum(-1))
    most = max(int(count(seed).max()) for seed in range(20))
    assert most < masking.slot_count(LENGTH, config, k) <= LENGTH // 2


def test_masks_are_a_function_of_the_key():
    config = MaskingConfig()
    first, second, other = mask(config, 1), mask(config, 1), mask(config, 2)
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)
    assert (first.masked != other.masked).any()


def test_evaluation_puts_mask_everywhere_at_the_first_rate():
    config = dataclasses.replace(MaskingConfig(), late_step=0, late_rate=0.8, rate=0.15)
    batch = mask(config, evaluation=True, step=10)
    assert (batch.tokens[batch.masked] == kmers.MASK).all()
    assert batch.masked.mean() < 0.2
