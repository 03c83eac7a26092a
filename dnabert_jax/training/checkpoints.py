"""Checkpoints of a run: `checkpoints/<step>/` with `params`, `optimizer` and `progress`, written by Orbax.

Arrays are copied off the devices and written in the background.

`progress` is JSON: how far the run and its input are. It also holds the shapes of the params, so that a checkpoint of
another model is told from a damaged one, a fingerprint of the arrays and a checksum of itself, so that a checkpoint
whose files were damaged but still can be read is told from a good one. Restoring takes the newest good checkpoint, sets
damaged ones aside under another name, and says so.

With several processes each writes its shards into the one folder that they share. When they read, each reads for
itself, without Orbax's barriers, at which the others would wait for one that failed; then all compare how it went, and
take the same checkpoint.

On an object store files are written in place, and a last one of them, `commit_success.txt`, says that a checkpoint is
whole; setting one aside copies its objects within the store.
"""

import contextlib
import gc
import json
import logging
import os
import secrets
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from dnabert_jax import errors, hosts, lost, places
from dnabert_jax.errors import InputError, RunStopped
from dnabert_jax.training import s3_arrays
from dnabert_jax.training.state import Params, State, check_shapes, shapes

Say = Callable[[str], None]

_DAMAGED = ".damaged"
_WHOLE = "commit_success.txt"
"""What Orbax writes last on an object store."""
_SEEN = ".seen-by-all-"
_SEEN_WITHIN_S = 10.0
"""How long a file that one process has made may take to show on another, as on NFS."""


class Checkpoints:
    """The checkpoints in one folder; a context manager that waits for saves under way.

    Args:
      folder: made when missing.
      keep: how many stay; older ones are deleted once a newer one is whole.

    Raises:
      InputError: not every process of the run sees the folder.
      RunStopped: it cannot be made or written.
    """

    def __init__(self, folder: str | Path, keep: int) -> None:
        self._folder = _place(folder)
        self._last_tried: int | None = None
        hosts.on_first(lambda: _make(self._folder))
        _check_shared(self._folder)
        self._manager = ocp.CheckpointManager(
            self._folder,
            item_names=("params", "optimizer", "progress"),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                create=True,
                cleanup_tmp_directories=True,
                enable_async_checkpointing=True,
                **_in_place(self._folder),
                **_failing_at_once(),
            ),
        )
        self._open = contextlib.ExitStack()

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
        found = _newest_good(self._folder, wanted, say, set_aside=True)
        self._manager.reload()
        if found is None:
            return None
        step, items, progress = found
        step_array = jax.device_put(jnp.asarray(step, state.step.dtype), state.step.sharding)
        return State(step_array, items["params"], items["optimizer"]), progress

    def newest(self) -> int | None:
        """The newest step that is whole on disk, damaged or not."""
        return max(_steps(self._folder), default=None)

    def close(self) -> None:
        """Waits for a save under way and lets go of the folder; a failed save is the caller's to hear of by `wait`."""
        with contextlib.suppress(Exception):
            self._manager.wait_until_finished()
        with contextlib.suppress(Exception):
            self._manager.close()

    def __enter__(self) -> "Checkpoints":
        self._open.enter_context(lost.saved_in(self.newest))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # A save under way waits for all processes, and they may know nothing of this one's error.
        if error is None or lost.tell(errors.line(error), errors.status(error)):
            self.close()
        self._open.close()


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
    folder = _place(folder)
    found = _newest_good(folder, {"params": params}, say, set_aside=False)
    if found is None:
        raise InputError(f"{folder}: holds no checkpoint; expected one that a run has saved")
    step, items, _ = found
    return items["params"], step


def _place(folder: str | Path) -> Path:
    if not places.is_remote(folder):
        return Path(folder).resolve()
    if os.fspath(folder).startswith("s3:"):
        s3_arrays.teach()
    return places.place(folder)


def _in_place(folder: Path) -> dict[str, Any]:
    """Options by which Orbax does on s3:// as it does on gs://, and renames no folders."""
    if not os.fspath(folder).startswith("s3:"):
        return {}
    mode = ocp.options.AtomicityMode.COMMIT_FILE
    return {"atomicity_options": ocp.options.AtomicityOptions(mode=mode)}


def _failing_at_once() -> dict[str, Any]:
    """Options by which a process whose save has failed does not wait 20 minutes for the others to say so.

    Orbax has all processes meet after a save, whether it failed or not, but those whose part was written wait for it
    elsewhere.
    """
    if hosts.count() == 1:
        return {}
    meet = ocp.multihost.get_barrier_sync_fn()

    def meet_unless_failed(*, key: str, timeout_ms: int) -> None:
        failed = sys.exc_info()[1]  # Orbax calls this on its way out of the save, too
        if failed is not None:
            raise failed
        meet(key=key, timeout_ms=timeout_ms)

    return {"async_options": ocp.options.AsyncOptions(barrier_sync_fn=meet_unless_failed)}


def _make(folder: Path) -> None:
    if places.is_remote(folder):
        return  # there are no folders to be made; config.json has been written there by now
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise RunStopped(f"{folder}: checkpoints cannot be written here ({error.strerror})") from None


def _check_shared(folder: Path) -> None:
    """Raises InputError, on every process, where one does not see what the first one has written to the folder."""
    if hosts.count() == 1:
        return

    def write() -> str:
        name = f"{_SEEN}{secrets.token_hex(8)}"  # new, as what was looked for before may be remembered as missing
        try:
            for left in folder.glob(f"{_SEEN}*"):  # by a run that was killed just here
                left.unlink(missing_ok=True)
            (folder / name).touch()
        except OSError as error:
            raise RunStopped(f"{folder}: checkpoints cannot be written here ({error.strerror})") from None
        return name

    token = folder / hosts.on_first(write)
    end = time.monotonic() + _SEEN_WITHIN_S
    while not (seen := token.exists()) and time.monotonic() < end:
        time.sleep(0.1)
    blind = [process for process, sees in enumerate(hosts.exchange(seen)) if not sees]
    if hosts.is_first():
        token.unlink(missing_ok=True)
    if blind:
        raise InputError(
            f"{folder}: {hosts.name(blind[0])} does not see what process 0 writes there; expected a workdir that all "
            "processes share, such as on NFS"
        )


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


def _newest_good(folder: Path, wanted: dict[str, Any], say: Say, *, set_aside: bool) -> Any:
    """The step, items and progress of the newest good checkpoint, the same on every process; None without any.

    Raises:
      InputError: every one is damaged, or the params have other shapes.
    """
    steps = hosts.on_first(lambda: sorted(_steps(folder), reverse=True))
    if not steps:
        return None
    # A process that reads alone is the only active one to Orbax, so that it waits for nobody.
    here = hosts.index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"reading-{here}"
    )
    options = ocp.CheckpointManagerOptions(
        read_only=True, **_in_place(folder), **({"multiprocessing_options": alone} if hosts.count() > 1 else {})
    )
    manager = ocp.CheckpointManager(folder, item_names=(*wanted, "progress"), options=options)
    with contextlib.closing(manager), _dropped_reads_unseen():
        for place, step in enumerate(steps):
            items, progress, wrong = _read(manager, step, wanted)
            if not wrong:
                if set_aside:
                    hosts.on_first(lambda damaged=steps[:place]: _set_aside(folder, damaged))
                return step, items, progress
            before = f"; taking step {steps[place + 1]}" if place + 1 < len(steps) else ""
            say(f"{folder / str(step)}: the checkpoint is damaged ({wrong}){before}")
    raise InputError(f"{folder}: every checkpoint is damaged; expected at least one that is whole")


def _read(manager: ocp.CheckpointManager, step: int, wanted: dict[str, Any]) -> tuple[Any, Any, str]:
    """The items and the progress of a checkpoint, and what is wrong with it; empty where every process finds it good.

    Raises:
      InputError: the params have other shapes.
    """
    items, progress, wrong = None, None, ""
    try:
        progress = manager.restore(step, args=ocp.args.Composite(progress=ocp.args.JsonRestore())).progress
        if progress["checksum"] != _checksum(progress):
            raise ValueError("the progress is not what was saved")
        check_shapes(manager.directory / str(step), shapes(wanted["params"]), progress["shapes"])
        arguments = {name: ocp.args.StandardRestore(tree) for name, tree in wanted.items()}
        read = manager.restore(step, args=ocp.args.Composite(**arguments))
        items = {name: read[name] for name in wanted}
    except (InputError, MemoryError):
        raise
    except Exception as error:  # what a damaged checkpoint raises depends on which byte is wrong
        if "RESOURCE_EXHAUSTED" in str(error):
            raise
        wrong = _first_line(error)
    wrong = next((each for each in hosts.exchange(wrong) if each), "")
    if not wrong and any(progress["fingerprint"][name] != value for name, value in _fingerprint(items).items()):
        wrong = "the arrays are not those that were saved"
    return items, progress, wrong


def _set_aside(folder: Path, steps: list[int]) -> None:
    """Gives damaged checkpoints another name; not before an older one has proved good."""
    for step in steps:
        if places.is_remote(folder):
            places.move(folder / str(step), folder / f"{step}{_DAMAGED}")
            continue
        shutil.rmtree(folder / f"{step}{_DAMAGED}", ignore_errors=True)
        (folder / str(step)).rename(folder / f"{step}{_DAMAGED}")


def _steps(folder: Path) -> list[int]:
    there = [each for each in folder.iterdir() if each.name.isdigit()] if folder.is_dir() else []
    if places.is_remote(folder):
        there = [each for each in there if (each / _WHOLE).exists()]
    return [int(each.name) for each in there]


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
