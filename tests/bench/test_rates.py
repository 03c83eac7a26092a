"""The ceilings are counted right: a clock that is set by hand gives rates that can be worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax.bench import rates


class Clock:
    """A clock that goes on by the seconds that each call of the timed function takes."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(rates.time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.mark.parametrize("timings", [[0.3, 0.5, 0.2, 0.25, 0.4], [1.0, 0.2, 0.9]])  # the second are too long for five
def test_the_time_of_one_call_is_the_least(clock, monkeypatch, timings):
    monkeypatch.setattr(rates, "_TIMED_S", 0.0)
    took = iter([0.1, *timings])  # the first call compiles

    def function(x):
        clock.now += next(took)
        return x

    assert rates._seconds(function, jnp.zeros(1)) == pytest.approx(0.2)
    assert next(took, None) is None


def test_short_calls_are_timed_together_and_follow_on_each_other(clock):
    calls = []

    def function(x):
        clock.now += 0.01
        calls.append(int(x))
        return x + 1

    assert rates._seconds(function, jnp.zeros((), jnp.int32)) == pytest.approx(0.01)
    assert calls == list(range(len(calls)))
    # One to compile; 1, 2, 4 and 8 calls until the time is long enough; 4 more timings of 8.
    assert len(calls) == 1 + (1 + 2 + 4 + 8) + 4 * 8


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_products_are_what_is_timed(dtype):
    function, x = rates._products(64, 32, 48, dtype)
    assert x.shape == (64, 32)
    assert x.dtype == jnp.dtype(dtype)
    assert function(x).shape == x.shape
    assert function(x).dtype == x.dtype
    for _ in range(20):
        x = function(x)
    assert 1e-3 < float(jnp.std(x.astype(jnp.float32))) < 1e3


def test_the_counted_flops_are_those_that_xla_counts():
    m, k, n = 256, 128, 512
    function, x = rates._products(m, k, n, "float32")
    counted = jax.jit(function).lower(x).compile().cost_analysis()["flops"]
    assert 2 * 2 * m * k * n == pytest.approx(counted, rel=0.01)


def test_the_best_shape_counts_and_long_ones_are_left_out(monkeypatch):
    asked = []
    seconds = {16: 1.0, 32: 1.0, 64: 8.0, 128: 1.0}
    monkeypatch.setattr(rates, "_SHAPES", tuple((size, size, size) for size in (64, 16, 32, 128)))
    monkeypatch.setattr(rates, "_products", lambda m, k, n, dtype: (m, None))
    monkeypatch.setattr(rates, "_seconds", lambda size, _: asked.append(size) or seconds[size])
    monkeypatch.setattr(rates, "_LONGEST_S", 10.0)
    assert rates.matrix_product("float32") == 4 * 32**3
    assert asked == [16, 32, 64]


def test_a_pass_over_memory_reads_and_writes_every_byte(monkeypatch):
    monkeypatch.setattr(rates, "_COPIED_BYTES_CPU", 4096)
    arrays = []
    monkeypatch.setattr(rates, "_seconds", lambda function, x: arrays.append(function(x)) or 2.0)
    assert rates.memory_bandwidth() == 4096.0
    np.testing.assert_array_equal(arrays[0], np.ones(1024, np.float32))


def test_both_are_measured_here(monkeypatch):
    monkeypatch.setattr(rates, "_SHAPES", ((64, 64, 64),))
    monkeypatch.setattr(rates, "_COPIED_BYTES_CPU", 2**20)
    monkeypatch.setattr(rates, "_TIMED_S", 1e-4)
    for rate in (rates.matrix_product("float32"), rates.matrix_product("bfloat16"), rates.memory_bandwidth()):
        assert 0 < rate < np.inf
