"""The best epoch is the one that is kept, whatever comes between: equals, resumes, and files that are damaged."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from dnabert_jax.training.best import Best
from dnabert_jax.training.checkpoints import Checkpoints, restore_params
from dnabert_jax.training.state import State
from tests.training import runs


def best_of(folder: Path, say: Callable[[str], None] = runs.no_word) -> tuple[float, int]:
    like = {
        "weight": jax.ShapeDtypeStruct((), jnp.float32, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    }
    params, step = restore_params(folder, like, say)
    return float(params["weight"]), step


def considered(folder: Path, kept: Any, epochs: dict[int, float | None], weight: Callable[[int], float]) -> Any:
    """Returns what is kept in the end, as it comes back from a checkpoint."""
    with Checkpoints(folder, keep=2) as checkpoints:
        keeper = Best(checkpoints, "mcc", lambda params: params, kept)
        for step, mcc in epochs.items():
            current = State(jnp.int32(step), {"weight": jnp.float32(weight(step))}, {"unused": jnp.zeros(())})
            kept = keeper.consider(step, current, {"mcc": mcc})
    return json.loads(json.dumps(kept))


def test_the_best_is_kept_through_worse_and_equal_epochs(tmp_path):
    considered(tmp_path, None, {6: 0.2, 12: 0.6, 18: 0.6, 24: 0.5}, weight=math.sqrt)
    assert best_of(tmp_path) == (pytest.approx(math.sqrt(12)), 12)


def test_the_best_before_a_resume_counts(tmp_path):
    kept = considered(tmp_path, None, {6: 0.6}, weight=float)
    assert considered(tmp_path, kept, {12: 0.5, 18: 0.6}, weight=float) == kept
    assert best_of(tmp_path) == (6, 6)
    considered(tmp_path, kept, {12: 0.7}, weight=float)
    assert best_of(tmp_path) == (12, 12)


def test_a_damaged_best_gives_way_to_the_one_before(tmp_path):
    considered(tmp_path, None, {6: 0.2, 12: 0.6, 18: 0.7, 24: 0.5}, weight=float)
    runs.cut_short(tmp_path / "18")
    said: list[str] = []
    assert best_of(tmp_path, said.append) == (12, 12)
    assert len(said) == 1
    assert "the checkpoint is damaged" in said[0]
    assert said[0].endswith(" step 12")


def test_a_best_that_the_killed_run_had_saved_ahead_of_its_state_is_replaced(tmp_path):
    considered(tmp_path, None, {6: 0.6}, weight=lambda step: -1.0)
    considered(tmp_path, None, {6: 0.6}, weight=float)
    assert best_of(tmp_path) == (6, 6)


def test_a_best_saved_ahead_does_not_outlive_what_the_resumed_run_finds(tmp_path):
    considered(tmp_path, None, {18: 0.9}, weight=lambda step: -1.0)
    considered(tmp_path, None, {6: 0.5, 12: 0.6, 18: 0.9, 24: 0.8}, weight=float)
    assert best_of(tmp_path) == (18, 18)


def test_a_criterion_that_is_not_defined_is_lower_than_any(tmp_path):
    kept = considered(tmp_path, None, {6: None, 12: None}, weight=float)
    assert kept == {"mcc": None}
    assert best_of(tmp_path) == (6, 6)
    assert considered(tmp_path, kept, {18: -0.5, 24: None, 30: -0.6}, weight=float) == {"mcc": -0.5}
    assert best_of(tmp_path) == (18, 18)


def test_what_is_kept_is_finished(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        keeper = Best(checkpoints, "r2", lambda params: {"weight": params["weight"] + params["lora"]}, None)
        params = {"weight": jnp.float32(3), "lora": jnp.float32(0.5)}
        keeper.consider(7, State(jnp.int32(7), params, {"unused": jnp.zeros(())}), {"r2": 0.1})
    assert best_of(tmp_path) == (3.5, 7)
