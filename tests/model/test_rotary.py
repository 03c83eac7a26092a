"""Rotary positions against complex numbers, one by one, against transformers, and what they promise the encoder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax.model.encoder import Encoder
from dnabert_jax.model.heads import MaskedLanguageModel
from dnabert_jax.model.rotary import rotate, rotation
from tests import tiny
from tests.model.test_encoder import jitter, reference_encoder

CONFIG = dataclasses.replace(tiny.without_dropout(), positions="rotary", rotary_base=100.0)
POSITIONS = jnp.asarray([[0, 1, 2, 3, 0, 1, 2, 0], [0, 5, 63, 64, 511, 512, 4095, 0]], jnp.int32)


def _random(shape, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(1), shape, dtype)


def slowly(x, positions, base):
    """Each pair of dimensions as a complex number times e^(i p θ); float64[batch, length, heads, head_dim]."""
    x = np.asarray(x, np.float64)
    out = np.zeros_like(x)
    half = x.shape[-1] // 2
    for row, place, head in np.ndindex(x.shape[:3]):
        for pair in range(half):
            number = complex(x[row, place, head, pair], x[row, place, head, pair + half])
            number *= np.exp(1j * int(positions[row, place]) * base ** (-2 * pair / x.shape[-1]))
            out[row, place, head, [pair, pair + half]] = number.real, number.imag
    return out


@pytest.mark.parametrize("base", [10_000.0, 100.0])
def test_pairs_turn_as_complex_numbers(base):
    x = _random((2, 8, 3, 16))
    found = rotate(x, rotation(POSITIONS, 16, base))
    np.testing.assert_allclose(found, slowly(x, POSITIONS, base), atol=1e-3)  # float32 of 4,095 radians
    np.testing.assert_allclose(found[0], slowly(x, POSITIONS, base)[0], atol=2e-6)
    np.testing.assert_array_equal(found[:, 0], x[:, 0])  # position 0


def test_further_axes_turn_alike():
    """Queries and keys together, as the encoder turns them."""
    x = _random((2, 8, 2, 3, 16))
    turn = rotation(POSITIONS, 16, 10_000.0)
    each = jnp.stack([rotate(x[:, :, 0], turn), rotate(x[:, :, 1], turn)], axis=2)
    np.testing.assert_array_equal(rotate(x, turn), each)


def test_bfloat16_turns_in_float32():
    x = _random((2, 8, 3, 16), jnp.bfloat16)
    turn = rotation(POSITIONS, 16, 10_000.0)
    found = rotate(x, turn)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, rotate(x.astype(jnp.float32), turn).astype(jnp.bfloat16))


def test_the_convention_is_that_of_transformers():
    torch = pytest.importorskip("torch", reason="needs PyTorch, which is in the interop extra")
    theirs = pytest.importorskip(
        "transformers.models.llama.modeling_llama", reason="needs transformers, which is in the interop extra"
    )
    query, key = _random((2, 8, 3, 16)), _random((2, 8, 3, 16)) ** 2
    frequencies = 10_000.0 ** -(torch.arange(0, 16, 2) / 16)
    angles = torch.from_numpy(np.array(POSITIONS))[..., None] * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    expected = theirs.apply_rotary_pos_emb(
        torch.from_numpy(np.array(query)),
        torch.from_numpy(np.array(key)),
        angles.cos(),
        angles.sin(),
        unsqueeze_dim=2,
    )
    turn = rotation(POSITIONS, 16, 10_000.0)
    for ours, other in zip((query, key), expected, strict=True):
        np.testing.assert_allclose(rotate(ours, turn), other.numpy(), atol=1e-3)
        np.testing.assert_allclose(rotate(ours, turn)[0], other.numpy()[0], atol=2e-6)


def _encoder(segments, length, config=CONFIG):
    rows = {name: jnp.asarray(value) for name, value in tiny.rows(segments, length).items()}
    inputs = (rows["tokens"], rows["segment_ids"], rows["positions"])
    model = Encoder(config)
    params = jitter(model.init(jax.random.key(0), *inputs, deterministic=True)["params"])
    return model, params, inputs


def test_there_is_no_position_table():
    _, params, _ = _encoder([[20]], 32)
    assert set(params["embeddings"]) == {"token", "type", "layer_norm"}
    _, learned, _ = _encoder([[20]], 32, tiny.without_dropout())
    del learned["embeddings"]["position"]
    assert jax.tree.map(jnp.shape, learned) == jax.tree.map(jnp.shape, params)


def test_hidden_states_of_packed_rows_are_those_of_the_equations():
    segments = [[20, 11, 9], [46], [3, 2]]
    model, params, inputs = _encoder(segments, 64)
    hidden = np.asarray(model.apply({"params": params}, *inputs, deterministic=True))
    exact = jax.tree.map(lambda p: np.asarray(p, np.float64), params)

    def turn(x):
        return slowly(x[None, :, None], np.arange(len(x))[None], CONFIG.rotary_base)[0, :, 0]

    for row, counts in enumerate(segments):
        at = 0
        for count in counts:
            place = slice(at, at + count + 2)
            expected = reference_encoder(exact, np.asarray(inputs[0][row, place]), CONFIG, turn)
            np.testing.assert_allclose(hidden[row, place], expected, atol=1e-3)
            at += count + 2


def test_only_distances_count():
    """All of a segment's positions moved by the same number: the same hidden states."""
    model, params, (tokens, segment_ids, positions) = _encoder([[20, 11], [46]], 64)
    there = model.apply({"params": params}, tokens, segment_ids, positions, deterministic=True)
    moved = jnp.where(segment_ids == 1, positions + 17, positions + 230)
    here = model.apply({"params": params}, tokens, segment_ids, moved, deterministic=True)
    np.testing.assert_allclose(here, there, atol=1e-3)
    other = model.apply({"params": params}, tokens, segment_ids, positions[:, ::-1], deterministic=True)
    assert float(jnp.abs(other - there).max()) > 0.1  # and they do


def test_order_counts():
    """Without positions a Transformer cannot tell a sequence from its permutation; with rotation it can."""
    model, params, (tokens, segment_ids, positions) = _encoder([[30]], 32)
    order = np.random.default_rng(0).permutation(32)
    there = model.apply({"params": params}, tokens, segment_ids, positions, deterministic=True)[:, order]
    carried = model.apply({"params": params}, tokens[:, order], segment_ids, positions[:, order], deterministic=True)
    np.testing.assert_allclose(carried, there, atol=1e-3)
    mixed = model.apply({"params": params}, tokens[:, order], segment_ids, positions, deterministic=True)
    assert float(jnp.abs(mixed - there).max()) > 0.1


def test_segments_may_be_longer_than_in_training():
    model, params, inputs = _encoder([[198]], 200)
    assert CONFIG.max_length < 200
    hidden = model.apply({"params": params}, *inputs, deterministic=True)
    assert hidden.shape == (1, 200, CONFIG.hidden)
    assert bool(jnp.isfinite(hidden).all())


@pytest.mark.parametrize("change", [{"remat": "full"}, {"scan_layers": False}], ids=["remat", "unrolled"])
def test_gradients_are_finite_and_the_same_however_computed(change):
    rows = {name: jnp.asarray(value) for name, value in tiny.rows([[20, 11, 9], [46]], 64).items()}
    slots = jnp.broadcast_to(jnp.arange(64), (2, 64))
    inputs = (rows["tokens"], rows["segment_ids"], rows["positions"], slots)

    def gradients(config):
        model = MaskedLanguageModel(config)
        params = jitter(MaskedLanguageModel(CONFIG).init(jax.random.key(0), *inputs, deterministic=True)["params"])
        rngs = {"dropout": jax.random.key(3)}

        def loss(params):
            return jnp.mean(model.apply({"params": params}, *inputs, deterministic=False, rngs=rngs) ** 2)

        return jax.jit(jax.grad(loss))(params)

    dropping = dataclasses.replace(CONFIG, hidden_dropout=0.1, attention_dropout=0.1)
    expected, found = gradients(dropping), gradients(dataclasses.replace(dropping, **change))
    for leaf in jax.tree.leaves(expected):
        assert bool(jnp.isfinite(leaf).all())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-3), found, expected)
    kernel = expected["encoder"]["layers"]["attention"]["qkv"]["kernel"]
    assert float(jnp.abs(kernel[:, :, :2]).max()) > 1e-6  # queries and keys learn through the rotation
