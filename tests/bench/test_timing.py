"""Steps in turn, and the figures of their times."""

import math

import numpy as np
import pytest

from dnabert_jax.bench import timing
from dnabert_jax.bench.timing import Counts, Timing


def test_turns_come_in_an_order_that_alternates_each_after_a_step_that_is_not_timed():
    done = []

    def step(name):
        def run():
            done.append(name)
            return Counts(1, 1, 1.0, 0.0)

        return run

    said = []
    found = timing.in_turn({"a": step("a"), "b": step("b")}, count=7, warmup=2, say=said.append)
    untimed, turn, rest = 1, timing.TURN, 7 - timing.TURN
    first, second = (untimed + turn) * "a" + (untimed + turn) * "b", (untimed + rest) * "b" + (untimed + rest) * "a"
    assert "".join(done) == "aabb" + first + second
    assert {name: len(each.seconds) for name, each in found.items()} == {"a": 7, "b": 7}
    assert len(said) == 2


def test_steps_of_one_kind_come_one_after_another():
    done = []
    found = timing.in_turn({"a": lambda: done.append(1) or Counts(1, 1, 1.0, 0.0)}, count=7, warmup=2, say=print)
    assert len(done) == 2 + len(found["a"].seconds) == 9


def test_rates_are_totals_over_totals():
    found = Timing([1.0, 3.0], [Counts(10, 8, 100.0, 0.5), Counts(30, 12, 300.0, 0.5)])
    assert found.tokens_per_second == 10
    assert found.useful_tokens_per_second == 5
    assert found.model_flops_per_second == 100
    assert found.input_wait_share == 0.25


def test_percentiles_are_those_of_numpy_in_milliseconds():
    seconds = list(np.random.default_rng(0).random(31))
    found = Timing(seconds, [])
    assert found.median_ms == pytest.approx(1000 * sorted(seconds)[15])
    assert found.p10_ms == pytest.approx(1000 * sorted(seconds)[3])
    assert found.p90_ms == pytest.approx(1000 * sorted(seconds)[27])


def test_energy_is_what_the_meter_counts_between_steps():
    counted = iter(range(0, 1000, 7))
    found = timing.in_turn(
        {"a": lambda: Counts(1, 1, 1.0, 0.0)}, count=4, warmup=1, say=lambda _: None, joules=lambda: next(counted)
    )
    assert found["a"].joules == 4 * 7
    without = timing.in_turn({"a": lambda: Counts(1, 1, 1.0, 0.0)}, count=2, warmup=1, say=lambda _: None)
    assert math.isnan(without["a"].joules)
