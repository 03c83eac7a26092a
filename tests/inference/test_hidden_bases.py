"""Hidden bases against the model on masked rows, and against the figure that pretraining reports."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax import kmers
from dnabert_jax.inference import hidden_bases
from dnabert_jax.masking import MaskedBatch
from dnabert_jax.model.apply import apply
from dnabert_jax.objectives import masked_lm
from tests import tiny

K, MOST = tiny.ENCODER.k, tiny.ENCODER.max_kmers
SEQUENCES = tiny.dna(40, 3, 64, 150)
HIDDEN = [[5, 6, 20], [1], [0, 63], [61, 62, 63, 100, 124]]


@pytest.fixture(scope="module")
def model():
    return tiny.model("masked_lm")


def _hiding():
    for number, (bases, places) in enumerate(zip(SEQUENCES, HIDDEN, strict=True)):
        hidden = np.zeros(len(bases), bool)
        hidden[places] = True
        yield number, bases, hidden


def _masked(bases, places) -> np.ndarray:
    """Tokens with [MASK] for each k-mer that covers one of the places, slowly."""
    tokens = kmers.tokenize(bases, K)
    for kmer in range(len(tokens)):
        if any(kmer <= place < kmer + K for place in places):
            tokens[kmer] = kmers.MASK
    return tokens


def _row(tokens) -> dict[str, np.ndarray]:
    row = np.array([[kmers.CLS, *tokens, kmers.SEP]], np.int32)
    return {"tokens": row, "segment_ids": np.ones_like(row), "positions": np.arange(row.shape[1], dtype=np.int32)[None]}


@pytest.fixture(scope="module")
def expected_logits(model):
    """Of every k-mer, each piece by itself."""
    config, params = model
    function = jax.jit(lambda row: apply(config, params, row).logits[0, 1:-1])
    found = []
    for bases, places in zip(SEQUENCES, HIDDEN, strict=True):
        tokens = _masked(bases, places)
        pieces = [tokens[start : start + MOST] for start in range(0, len(tokens), MOST)]
        found.append(np.concatenate([function(_row(piece)) for piece in pieces]))
    return found


def test_logits_of_every_kmer(model, expected_logits):
    found = list(hidden_bases.logits(*model, _hiding(), batch_size=3))
    assert [number for number, _ in found] == [0, 1, 2, 3]
    for (_, values), expected in zip(found, expected_logits, strict=True):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected, atol=5e-5)


def test_probabilities_slowly(model, expected_logits):
    letters = kmers.kmer_bases(K)
    found = list(hidden_bases.probabilities(*model, _hiding(), batch_size=3))
    for (number, values), logits in zip(found, expected_logits, strict=True):
        assert values.shape == (len(HIDDEN[number]), 4)
        np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-5)
        for row, place in zip(values, HIDDEN[number], strict=True):
            covering = [kmer for kmer in range(place - K + 1, place + 1) if 0 <= kmer < len(logits)]
            by_kmer = []
            for kmer in covering:
                exponents = np.exp(logits[kmer, kmers.FIRST_KMER :].astype(np.float64))
                of_base = [exponents[letters[:, place - kmer] == base].sum() for base in range(4)]
                by_kmer.append(np.array(of_base) / exponents.sum())
            np.testing.assert_allclose(row, np.mean(by_kmer, axis=0), atol=2e-5)


def test_the_bits_that_pretraining_reports(model):
    config, params = model
    number, bases, hidden = next(_hiding())
    places = HIDDEN[number]
    ((_, values),) = hidden_bases.probabilities(config, params, [(number, bases, hidden)], batch_size=1)

    masked, original = _row(_masked(bases, places)), _row(kmers.tokenize(bases, K))
    slots = np.flatnonzero(masked["tokens"][0] == kmers.MASK)[None].astype(np.int32)
    batch = MaskedBatch(
        tokens=masked["tokens"],
        original=original["tokens"],
        segment_ids=masked["segment_ids"],
        positions=masked["positions"],
        masked=masked["tokens"] == kmers.MASK,
        slots=slots,
        weights=np.ones(slots.shape, np.float32),
        unplaced=np.zeros(1, np.int32),
    )
    logits = jax.jit(functools.partial(apply, config, params))(masked).logits
    bits, count = masked_lm.hidden_base_bits(jnp.take_along_axis(logits, slots[..., None], axis=1), batch, K)
    assert count == len(places)
    assert -np.log2(values[range(len(places)), bases[places]]).sum() == pytest.approx(float(bits), rel=1e-4)
