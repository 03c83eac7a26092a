"""Checkpoints: bit for bit there and back, damage passed over and said, a full disk that costs nothing saved before."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnabert_jax.errors import InputError, RunStopped
from dnabert_jax.training.checkpoints import Checkpoints, restore_params
from dnabert_jax.training.state import State

OPTIMIZER = optax.adam(1e-3)


def _state(step: int, width: int = 64) -> State:
    """A state whose every array differs from step to step."""
    generator = np.random.default_rng(step)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(generator.normal(size=shape), jnp.float32)

    params = {"encoder": {"kernel": normal(64, width), "bias": normal(width)}, "head": normal(width)}
    moments = jax.tree.map(
        lambda x: normal(*x.shape) if x.dtype == jnp.float32 else jnp.asarray(step, x.dtype), OPTIMIZER.init(params)
    )
    return State(jnp.asarray(step, jnp.int32), params, moments)


def _abstract(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


LIKE = _abstract(_state(0))


def _assert_same(found, expected) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def _save(folder: Path, *steps: int, keep: int = 3) -> None:
    with Checkpoints(folder, keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, _state(step), {"note": f"step {step}"})
        checkpoints.wait()


def _restore(folder: Path, like: State = LIKE):
    said = []
    with Checkpoints(folder, 3) as checkpoints:
        return checkpoints.restore(like, said.append), said


def _steps(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def _largest(folder: Path) -> Path:
    """The file that holds the arrays."""
    return max((each for each in folder.rglob("*") if each.is_file()), key=lambda each: each.stat().st_size)


def test_there_and_back_bit_for_bit(tmp_path):
    progress = {"identity": {"bases": "abc", "rows": 3}, "window": {"loss": 1 / 3, "masked": 7.0}, "none": None}
    expected = _state(5)
    with Checkpoints(tmp_path, 2) as checkpoints:
        checkpoints.save(5, expected, progress)
        checkpoints.wait()
        found, found_progress = checkpoints.restore(LIKE, pytest.fail)
    _assert_same(found, expected)
    assert found_progress["step"] == 5
    assert {name: found_progress[name] for name in progress} == progress


def test_special_values_survive(tmp_path):
    """Zeros of both signs, subnormals and infinities keep their bits."""
    odd = jnp.asarray([0.0, -0.0, 1e-42, -1e-42, np.inf, -np.inf, np.float32(np.pi)], jnp.float32)
    expected = State(jnp.asarray(1, jnp.int32), {"odd": odd}, OPTIMIZER.init({"odd": odd}))
    with Checkpoints(tmp_path, 1) as checkpoints:
        checkpoints.save(1, expected, {})
        checkpoints.wait()
        found, _ = checkpoints.restore(_abstract(expected), pytest.fail)
    _assert_same(found, expected)


def test_another_process_reads_what_one_wrote(tmp_path):
    _save(tmp_path, 3)
    (found, progress), said = _restore(tmp_path)
    _assert_same(found, _state(3))
    assert progress["note"] == "step 3"
    assert said == []


def test_nothing_to_restore(tmp_path):
    found, said = _restore(tmp_path / "new")
    assert found is None
    assert said == []


def test_the_newest_counts_and_the_oldest_goes(tmp_path):
    _save(tmp_path, 1, 2, 10, keep=2)
    assert _steps(tmp_path) == ["10", "2"]
    (found, _), _ = _restore(tmp_path)
    _assert_same(found, _state(10))


def test_saving_goes_on_after_restoring(tmp_path):
    _save(tmp_path, 1, 2)
    with Checkpoints(tmp_path, 2) as checkpoints:
        assert int(checkpoints.restore(LIKE, pytest.fail)[0].step) == 2
        checkpoints.save(3, _state(3), {})
        checkpoints.wait()
    assert _steps(tmp_path) == ["2", "3"]


def test_the_params_alone(tmp_path):
    _save(tmp_path, 1, 2)
    before = {each: each.stat().st_mtime_ns for each in tmp_path.rglob("*")}
    params, step = restore_params(tmp_path, LIKE.params, pytest.fail)
    _assert_same(params, _state(2).params)
    assert step == 2
    assert {each: each.stat().st_mtime_ns for each in tmp_path.rglob("*")} == before


def test_params_saved_without_an_optimiser(tmp_path):
    """As the best epoch of fine-tuning is kept."""
    with Checkpoints(tmp_path, 1) as checkpoints:
        for step in (4, 8):
            checkpoints.save(step, _state(step).replace(optimizer=None), {})
        checkpoints.wait()
    params, step = restore_params(tmp_path, LIKE.params, pytest.fail)
    _assert_same(params, _state(8).params)
    assert step == 8
    assert _steps(tmp_path) == ["8"]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()], ids=["no folder", "an empty folder"])
def test_params_of_a_folder_without_checkpoints(tmp_path, make):
    make(tmp_path / "checkpoints")
    with pytest.raises(InputError, match="checkpoints: holds no checkpoint; expected one that a run has saved"):
        restore_params(tmp_path / "checkpoints", LIKE.params, pytest.fail)


def _truncate(folder: Path) -> None:
    file = _largest(folder / "params")
    os.truncate(file, file.stat().st_size // 2)


def _remove(folder: Path) -> None:
    _largest(folder / "params").unlink()


def _zero(folder: Path) -> None:
    file = _largest(folder / "params")
    file.write_bytes(bytes(file.stat().st_size))


def _flip(folder: Path) -> None:
    file = _largest(folder / "params")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def _change_progress(folder: Path) -> None:
    file = next(each for each in (folder / "progress").rglob("*") if each.is_file() and b"note" in each.read_bytes())
    file.write_bytes(file.read_bytes().replace(b"note", b"nope"))


def _cut_progress(folder: Path) -> None:
    file = next(each for each in (folder / "progress").rglob("*") if each.is_file() and b"note" in each.read_bytes())
    os.truncate(file, file.stat().st_size // 2)


def _empty(folder: Path) -> None:
    for each in sorted(folder.rglob("*"), reverse=True):
        each.rmdir() if each.is_dir() else each.unlink()


DAMAGES = pytest.mark.parametrize(
    "damage",
    [_truncate, _remove, _zero, _flip, _change_progress, _cut_progress, _empty],
    ids=lambda damage: damage.__name__.strip("_"),
)


@DAMAGES
def test_a_damaged_newest_is_set_aside(tmp_path, damage):
    _save(tmp_path, 1, 2)
    damage(tmp_path / "2")
    (found, progress), said = _restore(tmp_path)
    _assert_same(found, _state(1))
    assert progress["note"] == "step 1"
    assert len(said) == 1
    assert said[0].startswith(f"{tmp_path / '2'}: the checkpoint is damaged (")
    assert said[0].endswith("; taking step 1")
    assert "\n" not in said[0]
    assert _steps(tmp_path) == ["1", "2.damaged"]
    _save(tmp_path, 2)  # the run comes by the same step again
    (found, _), said = _restore(tmp_path)
    _assert_same(found, _state(2))
    assert said == []


@DAMAGES
def test_damaged_params_are_passed_over_and_left(tmp_path, damage):
    _save(tmp_path, 1, 2)
    damage(tmp_path / "2")
    before = sorted(tmp_path.rglob("*"))
    said = []
    params, step = restore_params(tmp_path, LIKE.params, said.append)
    _assert_same(params, _state(1).params)
    assert step == 1
    assert len(said) == 1
    assert said[0].endswith("; taking step 1")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_optimiser_counts_only_where_it_is_read(tmp_path):
    _save(tmp_path, 1, 2)
    _largest(tmp_path / "2" / "optimizer").unlink()
    assert restore_params(tmp_path, LIKE.params, pytest.fail)[1] == 2
    (found, _), said = _restore(tmp_path)
    _assert_same(found, _state(1))
    assert len(said) == 1


def test_every_damaged_one_is_passed_over(tmp_path):
    _save(tmp_path, 1, 2, 3)
    _truncate(tmp_path / "3")
    _zero(tmp_path / "2")
    (found, _), said = _restore(tmp_path)
    _assert_same(found, _state(1))
    assert [line.rsplit("; ")[-1] for line in said] == ["taking step 2", "taking step 1"]
    assert _steps(tmp_path) == ["1", "2.damaged", "3.damaged"]


def test_all_damaged_is_an_error_that_starts_nothing_anew(tmp_path):
    _save(tmp_path, 1, 2)
    _truncate(tmp_path / "1")
    _remove(tmp_path / "2")
    with pytest.raises(InputError, match="every checkpoint is damaged; expected at least one that is whole"):
        _restore(tmp_path)
    # They stay under their names, so that another try does not take the folder for a new run's.
    assert _steps(tmp_path) == ["1", "2"]
    with pytest.raises(InputError, match="every checkpoint is damaged"):
        _restore(tmp_path)
    with pytest.raises(InputError, match="every checkpoint is damaged"):
        restore_params(tmp_path, LIKE.params, lambda line: None)


def test_other_shapes_name_the_param_and_are_no_damage(tmp_path):
    _save(tmp_path, 1, 2)
    wider = _abstract(_state(0, width=65))
    expected = f"{tmp_path / '2'}: param encoder/bias has shape (64,); expected (65,)"
    for read in (lambda: _restore(tmp_path, wider), lambda: restore_params(tmp_path, wider.params, pytest.fail)):
        with pytest.raises(InputError) as caught:
            read()
        assert str(caught.value) == expected
    assert _steps(tmp_path) == ["1", "2"]


def test_other_params_are_named_too(tmp_path):
    _save(tmp_path, 1)
    more = {**LIKE.params, "pooler": LIKE.params["head"]}
    with pytest.raises(InputError, match=r"param pooler has shape none; expected \(64,\)"):
        restore_params(tmp_path, more, pytest.fail)
    fewer = {"encoder": LIKE.params["encoder"]}
    with pytest.raises(InputError, match=r"param head has shape \(64,\); expected none"):
        restore_params(tmp_path, fewer, pytest.fail)


def test_a_save_that_was_killed_is_no_checkpoint(tmp_path):
    """Orbax writes under another name and renames; what a killed process leaves is cleared away."""
    _save(tmp_path, 1)
    (tmp_path / "1").rename(tmp_path / "2.orbax-checkpoint-tmp")
    _save(tmp_path, 3)
    assert _steps(tmp_path) == ["3"]
    (found, _), said = _restore(tmp_path)
    _assert_same(found, _state(3))
    assert said == []


@pytest.mark.parametrize(
    ("steps", "last"),
    [((1, 2), "the last good checkpoint is step 2"), ((), "there is no checkpoint before it")],
    ids=["two before", "none before"],
)
def test_a_save_that_fails_names_the_last_good_step(tmp_path, monkeypatch, steps, last):
    with Checkpoints(tmp_path, 3) as checkpoints:
        for step in steps:
            checkpoints.save(step, _state(step), {})
        checkpoints.wait()
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints._manager, "save", _raise(OSError(28, "No space left on device")))
            with pytest.raises(RunStopped) as caught:
                checkpoints.save(9, _state(9), {})
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: saving step 9 failed (")
    assert "No space left on device" in message
    assert message.endswith(last)
    assert "\n" not in message
    if steps:
        (found, _), said = _restore(tmp_path)
        _assert_same(found, _state(2))
        assert said == []


def _raise(error):
    def fails(*_args, **_keywords):
        raise error

    return fails


@contextlib.contextmanager
def _file_size_limit(size: int):
    """No file may grow beyond `size` bytes: the nearest thing to a full disk that needs no rights."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def _save_until_the_disk_is_full(folder: str) -> None:
    """What `test_a_full_disk` runs in a process of its own: prints the error."""
    with Checkpoints(folder, 3) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, _state(step), {"note": f"step {step}"})
        checkpoints.wait()
        with _file_size_limit(4096):
            try:
                checkpoints.save(3, _state(3), {})
                checkpoints.wait()
            except RunStopped as error:
                print(error)


def test_a_full_disk(tmp_path):
    code = f"from tests.training import test_checkpoints as t; t._save_until_the_disk_is_full({str(tmp_path)!r})"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=environment, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{tmp_path}: saving step 3 failed (")
    assert lines[0].endswith("the last good checkpoint is step 2")
    assert not (tmp_path / "3").exists()
    (found, progress), said = _restore(tmp_path)
    _assert_same(found, _state(2))
    assert progress["note"] == "step 2"
    assert said == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunStopped, match="checkpoints cannot be written here"):
        Checkpoints(tmp_path / "file" / "checkpoints", 1)
