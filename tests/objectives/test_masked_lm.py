"""Losses and bits per base against loops written from their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from dnabert_jax import kmers, masking
from dnabert_jax.config import MaskingConfig
from dnabert_jax.objectives import masked_lm
from tests import tiny

LENGTH = 64
SEGMENTS = [[62], [20, 18, 16], [5, 30, 3]]


def masked_rows(k: int, span: int = 0, rate: float = 0.4, seed: int = 0, unknown: bool = False) -> masking.MaskedBatch:
    segments = [[count - k for count in counts if count > k] for counts in SEGMENTS] if k > 3 else SEGMENTS
    rows = tiny.rows(segments, LENGTH, k=k, seed=seed)
    if unknown:  # an N in the first segment hits k tokens
        rows["tokens"][0, 20 : 20 + k] = kmers.UNK
    rows = {name: jnp.asarray(value) for name, value in rows.items()}
    config = MaskingConfig(rate=rate, late_rate=rate, span=span)
    return masking.mask(jax.random.key(seed), rows, config, k=k)


def random_logits(batch: masking.MaskedBatch, k: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(*batch.slots.shape, kmers.vocabulary_size(k))).astype(np.float32) * 2


def slow_hidden_base_bits(logits, batch, k):
    """DESIGN's definition, one base after another."""
    original, ids, masked = (np.asarray(x) for x in (batch.original, batch.segment_ids, batch.masked))
    slots, weights = np.asarray(batch.slots), np.asarray(batch.weights)
    vocabulary = kmers.vocabulary(k)
    bits, bases = 0.0, 0
    for row in range(len(original)):
        slot_of = {int(place): i for i, place in enumerate(slots[row]) if weights[row, i]}
        for segment in range(1, ids[row].max() + 1):
            places = np.flatnonzero(ids[row] == segment)[1:-1]  # without [CLS] and [SEP]
            for base in range(len(places) + k - 1):
                covering = [j for j in range(base - k + 1, base + 1) if 0 <= j < len(places)]
                if not all(masked[row, places[j]] for j in covering):
                    continue
                letter = vocabulary[original[row, places[covering[0]]]][base - covering[0]]
                probabilities = []
                for j in covering:
                    p = softmax(logits[row, slot_of[places[j]]].astype(np.float64))
                    right = [v for v in range(5, len(vocabulary)) if vocabulary[v][base - j] == letter]
                    probabilities.append(p[right].sum() / p[5:].sum())
                bits -= np.log2(np.mean(probabilities))
                bases += 1
    return bits, bases


@pytest.mark.parametrize(("k", "span"), [(1, 0), (2, 3), (3, 0), (3, 5), (4, 0)])
def test_hidden_base_bits_are_the_slow_loop(k, span):
    batch = masked_rows(k, span, unknown=k == 3)
    logits = random_logits(batch, k)
    bits, bases = masked_lm.hidden_base_bits(jnp.asarray(logits), batch, k)
    slow_bits, slow_bases = slow_hidden_base_bits(logits, batch, k)
    assert slow_bases > 5
    assert int(bases) == slow_bases
    np.testing.assert_allclose(bits, slow_bits, rtol=1e-4)


def _one_span(span: int, k: int, at: int = 20) -> masking.MaskedBatch:
    rows = tiny.rows([[60]], LENGTH, k=k)
    masked = np.zeros((1, LENGTH), bool)
    masked[0, at : at + span] = True
    slots, weights, unplaced = masking._slots(jnp.asarray(masked), 24)
    original = jnp.asarray(rows["tokens"])
    return masking.MaskedBatch(
        original, jnp.asarray(rows["segment_ids"]), jnp.asarray(rows["positions"]), original, jnp.asarray(masked),
        slots, weights, unplaced,
    )  # fmt: skip


@pytest.mark.parametrize(("span", "hidden"), [(3, 0), (4, 1), (5, 2), (9, 6)])
def test_a_span_of_s_tokens_hides_s_minus_k_plus_1_bases(span, hidden):
    batch = _one_span(span, k=4)
    logits = jnp.zeros((1, 24, kmers.vocabulary_size(4)))
    _, bases = masked_lm.hidden_base_bits(logits, batch, 4)
    assert int(bases) == hidden


def test_uniform_guessing_costs_two_bits_and_certainty_none():
    k = 4
    batch = masked_rows(k)
    uniform = jnp.zeros((*batch.slots.shape, kmers.vocabulary_size(k)))
    bits, bases = masked_lm.hidden_base_bits(uniform, batch, k)
    assert float(bits / bases) == pytest.approx(2.0, abs=1e-4)
    targets = jnp.take_along_axis(batch.original, batch.slots, axis=-1)
    certain = 100.0 * jax.nn.one_hot(targets, kmers.vocabulary_size(k))
    loss, sums = masked_lm.loss(certain, batch, k)
    figures = masked_lm.figures({name: float(value) for name, value in sums.items()})
    assert figures["bits_per_base"] == pytest.approx(0, abs=1e-4)
    assert figures["masked_accuracy"] == 1
    assert figures["loss"] == pytest.approx(0, abs=1e-4)
    assert float(loss) == pytest.approx(0, abs=1e-3)


def test_masked_lm_is_cross_entropy_of_the_masked_tokens():
    k = 3
    batch = masked_rows(k)
    logits = random_logits(batch, k)
    loss, sums = masked_lm.loss(jnp.asarray(logits), batch, k)
    expected, correct, count = 0.0, 0, 0
    for row, slot in np.argwhere(np.asarray(batch.weights) > 0):
        target = int(batch.original[row, int(batch.slots[row, slot])])
        expected -= log_softmax(logits[row, slot].astype(np.float64))[target]
        correct += int(np.argmax(logits[row, slot])) == target
        count += 1
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert (int(sums["correct"]), int(sums["masked"])) == (correct, count)
    assert count == int(np.asarray(batch.masked).sum())


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_true_base_probabilities_against_summing_over_kmers(k):
    logits = np.random.default_rng(0).normal(size=(7, kmers.vocabulary_size(k))).astype(np.float32)
    targets = np.random.default_rng(1).integers(5, kmers.vocabulary_size(k), 7)
    found = masked_lm.true_base_probabilities(jnp.asarray(logits), jnp.asarray(targets), k)
    letters = kmers.kmer_bases(k)
    for i in range(7):
        p = softmax(logits[i, 5:].astype(np.float64))
        for base in range(k):
            expected = p[letters[:, base] == letters[targets[i] - 5, base]].sum()
            assert float(found[i, base]) == pytest.approx(expected, rel=1e-4)
