"""Long runs: what the benchmark makes of step times, and that runs stay as fast and as small as they began."""

import dataclasses

import long_run
import numpy as np
import pytest

from tests import tiny


def watched(step_time_ms: list[float], save_every: int = 5) -> long_run.Watched:
    memory_mib = np.linspace(100, 200, len(step_time_ms))
    return long_run.Watched(np.array(step_time_ms, float), memory_mib, save_every)


def test_quarters_share_of_slow_steps_and_steps_that_save():
    # Steps 2 to 21: those after a multiple of 5 are quick, as the host runs ahead again, and steps 5, 10, ... save.
    times = [30.0 if number % 5 == 0 else 5.0 if number % 5 == 1 else 10.0 for number in range(2, 22)]
    found = watched(times)
    assert found.median_ms == 10
    assert found.slow_share == 4 / 20
    assert [len(each.step_time_ms) for each in found.quarters()] == [5, 5, 5, 5]
    assert list(found.by_place()) == [30, 5, 10, 10, 10]


def test_one_slow_step_is_not_the_place_of_its_step():
    times = [10.0] * 40
    times[17] = 500.0
    assert list(watched(times).by_place()) == [10] * 5


def test_the_table_has_a_row_for_each_quarter_and_the_whole():
    rows = long_run.table(watched([10.0] * 19 + [40.0])).splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:]] == [*(f"quarter {n}" for n in (1, 2, 3, 4)), "all"]
    assert [each.strip() for each in rows[-1].split("|")[2:-1]] == ["10.00", "11.50", "5.0 %", "200"]


def undisturbed_ms(found: long_run.Watched) -> float:
    """Time of a step where no other program was in the way: of five after one another, the fastest tenth."""
    fives = found.step_time_ms[: len(found.step_time_ms) // 5 * 5].reshape(-1, 5)
    return float(np.percentile(fives.mean(axis=1), 10))


@pytest.mark.slow
def test_two_thousand_steps_grow_neither_slower_nor_larger(shards, tmp_path):
    config = long_run.config(shards, tmp_path / "run", steps=2000, save_every=50)
    config = dataclasses.replace(config, encoder=tiny.ENCODER, row_length=64)
    found = long_run.watch(config)
    assert len(found.step_time_ms) == 1998
    quarters = found.quarters()
    assert undisturbed_ms(quarters[3]) < 3 * undisturbed_ms(quarters[1])
    middle, end = (float(np.median(each.memory_mib[-200:])) for each in (quarters[1], quarters[3]))
    assert end - middle < 50, f"{middle:.0f} MiB after half of the run, {end:.0f} at its end"


@pytest.mark.slow
def test_saving_slows_few_steps(shards, tmp_path):
    found = long_run.watch(long_run.config(shards, tmp_path / "run", steps=350, save_every=50))
    # Medians over the saves tell what saving does from what another program on the machine did.
    slow = found.by_place() > 2 * found.median_ms
    assert np.mean(slow) <= 0.1, f"of 50 steps these after a save are slow: {np.flatnonzero(slow)}"
