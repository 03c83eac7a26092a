"""Two results side by side."""

import copy

import numpy as np
import pytest

from dnabert_jax.bench import compare
from tests.bench import results


def test_a_result_with_itself_is_one():
    found = results.result()
    (compared,), notes = compare.compare(found, found)
    assert compared.step_time.value == compared.useful_tokens.value == 1
    assert compared.step_time.low <= 1 <= compared.step_time.high
    assert compared.useful_tokens.low <= 1 <= compared.useful_tokens.high
    assert not notes
    assert not compared.notes


def test_twice_as_fast():
    first, second = results.result(), copy.deepcopy(results.result())
    (each,) = second["workloads"]
    each["step_times_ms"] = [time / 2 for time in each["step_times_ms"]]
    each["step_time_ms"] /= 2
    each["useful_tokens_per_second"] *= 2
    (compared,), _ = compare.compare(first, second)
    assert compared.step_time.value == pytest.approx(0.5)
    assert compared.useful_tokens.value == pytest.approx(2)
    assert 1.5 < compared.useful_tokens.low < 2 < compared.useful_tokens.high < 2.5


def test_the_interval_is_that_of_a_slow_bootstrap():
    first, second = results.result(), copy.deepcopy(results.result())
    generator = np.random.default_rng(1)
    times = generator.lognormal(4.7, 0.2, 40)
    (each,) = second["workloads"]
    each["step_times_ms"], each["step_time_ms"] = times.tolist(), float(np.median(times))
    (compared,), _ = compare.compare(first, second)
    before = first["workloads"][0]["step_times_ms"]
    ratios = [np.median(generator.choice(times, 40)) / np.median(generator.choice(before, 40)) for _ in range(3000)]
    low, high = np.percentile(ratios, (2.5, 97.5))
    assert compared.step_time.low == pytest.approx(low, rel=0.02)
    assert compared.step_time.high == pytest.approx(high, rel=0.02)


def test_what_differs_is_said():
    first, second = results.result(), copy.deepcopy(results.result())
    second["suite"] = "bench/v1-quick"
    second["hardware"]["cpu"] = "another CPU"
    second["workloads"][0] |= {"batch_size": 16, "compute_dtype": "float32"}
    second["workloads"].append(second["workloads"][0] | {"name": "compile"})
    (compared,), notes = compare.compare(first, second)
    assert len(compared.notes) == 2
    assert any("8 and 16" in note for note in compared.notes)
    assert len(notes) == 3
    assert any("compile" in note for note in notes)
