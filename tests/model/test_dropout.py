"""Dropout: its rate, its scale, and that neither keys nor places are correlated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax.model.dropout import dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate_and_scale(rate):
    x = jnp.ones((300, 400))
    y = np.asarray(dropout(x, rate, jax.random.key(0)))
    assert set(np.unique(y)) == {0.0, np.float32(1 / (1 - rate))}
    share = (y == 0).mean()
    assert abs(share - rate) < 5 * np.sqrt(rate * (1 - rate) / y.size)
    # rows and columns are no better or worse than chance
    for axis, n in ((0, 300), (1, 400)):
        z = ((y == 0).mean(axis) - rate) / np.sqrt(rate * (1 - rate) / n)
        assert np.abs(z).max() < 5.5
        assert 0.8 < z.std() < 1.2


def test_places_and_keys_are_independent():
    masks = [np.asarray(dropout(jnp.ones(100_000), 0.5, jax.random.key(i))) > 0 for i in range(4)]
    for first in range(4):
        for second in range(4):
            for lag in (0, 1, 2, 64, 768):
                if first == second and lag == 0:
                    continue
                a, b = masks[first][: 100_000 - lag], masks[second][lag:]
                assert abs((a == b).mean() - 0.5) < 5 * 0.5 / np.sqrt(len(a))


def test_rate_zero_is_the_identity_and_gradients_follow_the_mask():
    x = jnp.arange(1.0, 101.0)
    assert dropout(x, 0.0, jax.random.key(0)) is x
    y = dropout(x, 0.4, jax.random.key(1))
    gradient = jax.grad(lambda x: dropout(x, 0.4, jax.random.key(1)).sum())(x)
    np.testing.assert_allclose(gradient, np.where(np.asarray(y) > 0, 1 / 0.6, 0), rtol=1e-6)
