"""Checkpoints of a run: `checkpoints/<step>/` with `params`, `optimizer` and `progress`, written by Orbax.

Arrays are copied off the devices and written in the background.

`progress` is JSON: how far the run and its input are. It also holds the shapes of the params, so that a checkpoint of
another model is told from a damaged one, a fingerprint of the arrays and a checksum of itself, so that a checkpoint
whose files were damaged but still can be read is told from a good one. Restoring takes the newest good checkpoint, sets
damaged ones aside under another name, and says so.
"""

import contextlib
import gc
import json
import logging
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from dnabert_jax.errors import InputError, RunStopped
from dnabert_jax.training.state import Params, State, check_shapes, shapes

Say = Callable[[str], None]

_DAMAGED = ".damaged"


class Checkpoints:
    """The checkpoints in one folder; a context manager that waits for saves under way.

    Args:
      folder: made when missing.
      keep: how many stay; older ones are deleted once a newer one is whole.
    """

    def __init__(self, folder: str | Path, keep: int) -> None:
        self._folder = Path(folder).resolve()
        self._last_tried: int | None = None
        try:
            self._manager = ocp.CheckpointManager(
                self._folder,
                item_names=("params", "optimizer", "progress"),
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=keep, create=True, cleanup_tmp_directories=True, enable_async_checkpointing=True
                ),
            )
        except OSError as error:
            raise RunStopped(f"{folder}: checkpoints cannot be written here ({error.strerror})") from None

    def save(self, step: int, state: State, progress: dict[str, Any]) -> None:
        """Starts to save; returns once the arrays are copied off the devices.

        Args:
          step: optimiser steps done; names the checkpoint. One that is there already is replaced.
          state: params and optimiser state; without the latter (None) the checkpoint serves `restore_params` only.
          progress: what JSON can hold; `step`, `shapes`, `fingerprint` and `checksum` are added.

        Raises:
          RunStopped: this save or the one before it failed, such as on a full disk. The checkpoints before are whole.
        """
        kept = {"params": state.params}
        if state.optimizer is not None:
            kept["optimizer"] = state.optimizer
        progress = {**progress, "step": step, "shapes": shapes(state.params), "fingerprint": _fingerprint(kept)}
        progress["checksum"] = _checksum(progress)
        with self._failures():
            self._manager.wait_until_finished()
            self._last_tried = step
            if step in self._manager.all_steps():
                self._manager.delete(step)
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    progress=ocp.args.JsonSave(progress),
                    **{name: ocp.args.StandardSave(tree) for name, tree in kept.items()},
                ),
                force=True,
            )

    def wait(self) -> None:
        """Returns when the last save is whole on disk. Raises RunStopped if it failed."""
        with self._failures():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # Orbax and TensorStore raise a dozen kinds; whichever it is, the step was not saved.
            good = [step for step in _steps(self._folder) if step != self._last_tried]
            last = f"the last good checkpoint is step {max(good)}" if good else "there is no checkpoint before it"
            raise RunStopped(
                f"{self._folder}: saving step {self._last_tried} failed ({_first_line(error)}); {last}"
            ) from error

    def restore(self, state: State, say: Say) -> tuple[State, dict[str, Any]] | None:
        """The newest good checkpoint, laid out like `state` (abstract arrays with shardings), and its progress.

        None when there is none. Damaged ones are renamed to `<step>.damaged`, with a message each.

        Raises:
          InputError: there are checkpoints, and every one is damaged; or the params in one have other shapes.
        """
        wanted = {"params": state.params, "optimizer": state.optimizer}

        def read(step: int) -> tuple[State, dict[str, Any]]:
            items, progress = _read(self._manager, step, wanted)
            step_array = jax.device_put(jnp.asarray(step, state.step.dtype), state.step.sharding)
            return State(step_array, items["params"], items["optimizer"]), progress

        with _dropped_reads_unseen():
            found = _newest_good(self._folder, read, say, set_aside=True)
        self._manager.reload()
        return found

    def close(self) -> None:
        """Waits for a save under way and lets go of the folder; a failed save is the caller's to hear of by `wait`."""
        with contextlib.suppress(Exception):
            self._manager.wait_until_finished()
        with contextlib.suppress(Exception):
            self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def restore_params(folder: str | Path, params: Params, say: Say) -> tuple[Params, int]:
    """The params of the newest good checkpoint in a folder, which is left as it is.

    Args:
      folder: a run's `checkpoints`.
      params: pytree of abstract arrays: what is expected.
      say: hears of damaged checkpoints that were passed over.

    Returns:
      The params and the step that they come from.

    Raises:
      InputError: no checkpoint, none that is good, or one of other shapes.
    """
    folder = Path(folder).resolve()
    if not _steps(folder):
        raise InputError(f"{folder}: holds no checkpoint; expected one that a run has saved")
    options = ocp.CheckpointManagerOptions(read_only=True)
    manager = ocp.CheckpointManager(folder, item_names=("params", "progress"), options=options)
    with contextlib.closing(manager):

        def read(step: int) -> tuple[Params, int]:
            items, _ = _read(manager, step, {"params": params})
            return items["params"], step

        with _dropped_reads_unseen():
            return _newest_good(folder, read, say, set_aside=False)


@contextlib.contextmanager
def _dropped_reads_unseen() -> Iterator[None]:
    """Orbax reads arrays side by side; where one fails it drops the rest, and Python prints a traceback for each."""
    hook, chatter = sys.unraisablehook, logging.getLogger("asyncio")
    level = chatter.level
    sys.unraisablehook = lambda _: None
    chatter.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        gc.collect()
        sys.unraisablehook = hook
        chatter.setLevel(level)


def _read(manager: ocp.CheckpointManager, step: int, wanted: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    progress = manager.restore(step, args=ocp.args.Composite(progress=ocp.args.JsonRestore())).progress
    if progress["checksum"] != _checksum(progress):
        raise ValueError("the progress is not what was saved")
    check_shapes(manager.directory / str(step), shapes(wanted["params"]), progress["shapes"])
    items = {name: ocp.args.StandardRestore(tree) for name, tree in wanted.items()}
    read = manager.restore(step, args=ocp.args.Composite(**items))
    restored = {name: read[name] for name in wanted}
    if any(progress["fingerprint"][name] != value for name, value in _fingerprint(restored).items()):
        raise ValueError("the arrays are not those that were saved")
    return restored, progress


def _newest_good(folder: Path, read: Callable[[int], Any], say: Say, *, set_aside: bool) -> Any:
    steps = sorted(_steps(folder), reverse=True)
    for place, step in enumerate(steps):
        try:
            found = read(step)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # what a damaged checkpoint raises depends on which byte is wrong
            if "RESOURCE_EXHAUSTED" in str(error):
                raise
            before = f"; taking step {steps[place + 1]}" if place + 1 < len(steps) else ""
            say(f"{folder / str(step)}: the checkpoint is damaged ({_first_line(error)}){before}")
        else:
            for damaged in steps[:place] if set_aside else ():  # not before an older one has proved good
                shutil.rmtree(folder / f"{damaged}{_DAMAGED}", ignore_errors=True)
                (folder / str(damaged)).rename(folder / f"{damaged}{_DAMAGED}")
            return found
    if steps:
        raise InputError(f"{folder}: every checkpoint is damaged; expected at least one that is whole")
    return None


def _steps(folder: Path) -> list[int]:
    return [int(each.name) for each in folder.iterdir() if each.name.isdigit()] if folder.is_dir() else []


def _checksum(progress: dict[str, Any]) -> int:
    """Of every entry but `checksum`."""
    rest = {name: value for name, value in progress.items() if name != "checksum"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


def _fingerprint(items: dict[str, Any]) -> dict[str, int]:
    """For each pytree, a 32-bit sum over the bits of its arrays, each weighted by its place.

    Integer sums do not depend on their order, so the figure is the same on any mesh.
    """
    return {name: int(_fingerprint_of(jax.tree.leaves(tree))) for name, tree in items.items()}


@jax.jit
def _fingerprint_of(leaves: list[jax.Array]) -> jax.Array:
    total = jnp.zeros((), jnp.uint32)
    for place, leaf in enumerate(leaves):
        bits = jax.lax.bitcast_convert_type(leaf, jnp.uint32) if leaf.dtype == jnp.float32 else leaf.astype(jnp.uint32)
        total += jnp.uint32(2 * place + 1) * jnp.sum(bits, dtype=jnp.uint32)
    return total


def _first_line(error: BaseException) -> str:
    """The first line of an error, at a length that fits in one of ours."""
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    return line if len(line) <= 200 else line[:197] + "..."
