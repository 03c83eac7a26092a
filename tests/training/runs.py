"""Small pretraining runs, ways to disturb them, and what they leave behind."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dnabert_jax import optim, sharding
from dnabert_jax.config import DataConfig, LoopConfig, MeshConfig, ModelConfig, OptimizerConfig, PretrainConfig
from dnabert_jax.model.heads import initializer
from dnabert_jax.training import checkpoints, loop, state
from dnabert_jax.training.signals import StopSignals
from tests import tiny

STEPS = 10


def pretraining(shards: Path, workdir: Path, **loop_changes: int) -> PretrainConfig:
    """Ten steps, dropout on, two micro-batches a step; reports, validations and saves fall on different steps."""
    intervals = {"steps": STEPS, "report_every": 3, "validate_every": 5, "validation_rows": 8, "save_every": 4}
    return PretrainConfig(
        workdir=str(workdir),
        batch_size=8,
        accumulation=2,
        row_length=64,
        encoder=tiny.ENCODER,
        data=DataConfig(path=str(shards), reverse_complement=True),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=2, decay_steps=20),
        loop=LoopConfig(**{**intervals, **loop_changes}),
    )


def recipe(config: Any, file: Path) -> Path:
    """A recipe file that sets this config."""
    file.write_text(f"from dnabert_jax.config import *\n\nconfig = {config!r}\n")
    return file


Step = Callable[[state.State, Any], tuple[state.State, dict[str, jax.Array]]]


@contextlib.contextmanager
def steps_changed(change: Callable[[Step, StopSignals], Step]) -> Iterator[None]:
    """Every run begun inside takes its steps through what `change` makes of them."""
    original = loop.run

    def run(program: loop.Program, *arguments: Any, stop: StopSignals, **others: Any):
        changed = dataclasses.replace(program, step=change(program.step, stop))
        return original(changed, *arguments, stop=stop, **others)

    loop.run = run
    try:
        yield
    finally:
        loop.run = original


def stopped_in(step: int):
    """Inside, runs are asked to stop while they are in this step, as a signal would ask them."""

    def change(take: Step, stop: StopSignals) -> Step:
        def changed(current: state.State, batch: Any):
            if int(current.step) + 1 == step:
                stop.received = "SIGTERM"
            return take(current, batch)

        return changed

    return steps_changed(change)


def waiting_in(step: int, seconds: float = 120):
    """Inside, runs say `waiting` when they come to this step and take it once a signal came."""

    def change(take: Step, stop: StopSignals) -> Step:
        def changed(current: state.State, batch: Any):
            if int(current.step) + 1 == step:
                print("waiting", flush=True)
                end = time.monotonic() + seconds
                while stop.received is None and time.monotonic() < end:
                    time.sleep(0.01)
            return take(current, batch)

        return changed

    return steps_changed(change)


def spoiled_in(step: int):
    """Inside, runs meet params that are no numbers in this step."""

    def change(take: Step, stop: StopSignals) -> Step:
        def changed(current: state.State, batch: Any):
            if int(current.step) + 1 == step:
                current = current.replace(params=jax.tree.map(lambda x: x * np.nan, current.params))
            return take(current, batch)

        return changed

    return steps_changed(change)


def final(config: PretrainConfig) -> tuple[int, dict[str, np.ndarray]]:
    """The newest checkpoint of a pretraining run: its step, and every array of params and optimiser by name."""
    with sharding.use(sharding.make_mesh(MeshConfig())) as mesh:
        layout = state.layout(
            initializer(ModelConfig(config.encoder, "masked_lm")),
            optim.adamw(config.optimizer),
            jax.random.key(0),
            mesh,
        )
        with checkpoints.Checkpoints(Path(config.workdir) / "checkpoints", config.loop.keep) as kept:
            found, _ = kept.restore(layout, no_word)
    return int(found.step), arrays({"params": found.params, "optimizer": found.optimizer})


def arrays(tree: Any) -> dict[str, np.ndarray]:
    """Copies of the arrays of a pytree, by name."""
    return {jax.tree_util.keystr(path): np.array(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def assert_same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    different = [name for name in found if found[name].tobytes() != expected[name].tobytes()]
    assert not different


def metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """Every line of `metrics.jsonl` without what depends on the clock."""
    lines = [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]
    clock = ("step_time_ms", "tokens_per_second")
    return [{name: value for name, value in line.items() if name not in clock} for line in lines]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a workdir but its lock, with what is in it."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def cut_short(checkpoint: Path) -> None:
    """Leaves half of each array file of a checkpoint."""
    files = [path for path in checkpoint.rglob("d/*") if path.is_file()]
    assert files, f"{checkpoint} has no array files"
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_word(line: str) -> None:
    raise AssertionError(f"nothing was to be said, but: {line}")
