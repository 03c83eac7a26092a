"""The folder of a run: who it belongs to, who is using it, and files that are either whole or absent.

A workdir belongs to the run whose `config.json` lies in it. `claim` lets the same run come back, with the few fields
that change neither its data nor its params allowed to differ, and turns every other run away; `update` notes these
fields once the run does go on. `lock` keeps a second process out. The `write_` functions go through a temporary
sibling, so that a reader never meets half a file. A workdir may lie on an object store (`dnabert_jax.places`), which
writes files whole by itself, but knows no locks.
"""

import contextlib
import dataclasses
import errno
import fcntl
import functools
import json
import math
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dnabert_jax import hosts, outputs, places
from dnabert_jax.config import FinetuneConfig, HostsConfig, PretrainConfig, differences, field_names, from_json, to_json
from dnabert_jax.errors import InputError, RunStopped

CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
CLASSES = "classes.json"
"""Fine-tuning: the names of what the model puts out, in order."""
BEST = "best"
"""Fine-tuning: the params of the best epoch, as plain as a model without adapters has them."""

MAY_DIFFER = (
    "workdir",
    "accumulation",
    "data.path",
    "data.train",
    "data.validation",
    "data.test",
    "data.fasta",
    "init",
    "loop.steps",
    "loop.report_every",
    "loop.validate_every",
    "loop.validation_rows",
    "loop.save_every",
    "loop.keep",
    "mesh.data",
    "mesh.fsdp",
    "mesh.tensor",
    "hosts.coordinator",
    "hosts.processes",
    "hosts.process",
    "hosts.detect",
    "hosts.wait_s",
    "hosts.lost_after_s",
    "report_every",
    "profile",
)
"""Fields that may change when a run is started again: where it lies, how long it is, how it is spread and reported."""

_OF_EACH_HOST = ("data.path", "data.train", "data.validation", "data.test", "data.fasta", "init")
"""Fields that may differ from one process of a run to the other, as where each keeps its copy of the data."""

_KIND_OF_FIELD = {"masking": PretrainConfig, "freeze_encoder": FinetuneConfig}
_NAME_OF_KIND = {PretrainConfig: "pretraining", FinetuneConfig: "fine-tuning"}
_LOCK = ".lock"
_LEFT_BY_A_RUN = ("checkpoints", "metrics.jsonl", "result.json")
_LOCKS_UNKNOWN = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


def claim(path: str | Path, config: PretrainConfig | FinetuneConfig) -> bool:
    """Makes `path` the workdir of the run that `config` describes. Call it inside `lock`.

    Writes the `config.json` of a new run. Where a run was here before, the same or another, nothing is touched. All
    processes of the run have to call it; the first does it.

    Returns:
      Whether the run was here before.

    Raises:
      InputError: the folder cannot be made or written; its `config.json` is damaged, of the other kind of run, or
        differs in a field that decides the result (all of them are named, old value → new value); or it holds what a
        run left but no `config.json`.
    """
    return hosts.on_first(lambda: _claim(path, config))


def _claim(path: str | Path, config: PretrainConfig | FinetuneConfig) -> bool:
    folder = _folder(path)
    file = folder / CONFIG
    existed = file.exists()
    if existed:
        _check_same_run(folder, read_config(folder, type(config)), config)
    else:
        left = [name for name in _LEFT_BY_A_RUN if (folder / name).exists()]
        if left:
            raise InputError(f"{folder}: holds {left[0]} but no {CONFIG}; choose an empty or new folder as workdir")
        update(folder, config)
    return existed


def update(path: str | Path, config: PretrainConfig | FinetuneConfig) -> None:
    """Writes the `config.json` of a run that has the workdir `path` by `claim`.

    Which of several processes writes it, and where they meet, is not part of the run: `hosts` is left at its default.

    Raises:
      InputError: the file cannot be written.
    """
    file = places.place(path) / CONFIG
    try:
        _replace(file, to_json(dataclasses.replace(config, hosts=HostsConfig())))
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}); choose a workdir that can be") from None


def check_same_run_everywhere(config: PretrainConfig | FinetuneConfig) -> None:
    """Raises InputError where the processes of a run were given different configs, but for where their data lie."""
    own = (*(name for name in field_names(config) if name.startswith("hosts.")), *_OF_EACH_HOST)
    values = {name: _value(config, name) for name in field_names(config) if name not in own}
    hosts.check_same("the config", values)


def init_as_begun(config: Any, say: Callable[[str], None]) -> str | None:
    """The `init` that the params of a run came from which has saved in its workdir, whatever is given now.

    Args:
      config: of the run.
      say: is told of another `init`, which is not read.

    Returns:
      None for a run that has not saved.

    Raises:
      InputError: as `read_config`.
    """
    if not (config.workdir and has_checkpoint(config.workdir)):
        return None
    if not (places.place(config.workdir) / CONFIG).exists():
        return config.init  # `claim` says what is wrong with such a folder
    before = read_config(config.workdir, type(config)).init
    if config.init not in ("", before):
        say(f"init {config.init} is not read: the run in {config.workdir} began with {before or 'random params'}")
    return before


def _value(config: Any, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), config)


def _check_same_run(folder: Path, old: Any, new: Any) -> None:
    changed = [(name, a, b) for name, a, b in differences(old, new) if name not in MAY_DIFFER]
    if changed:
        listed = ", ".join(f"{name} ({a!r} → {b!r})" for name, a, b in changed)
        raise InputError(f"{folder}: belongs to a run with another config: {listed}; choose another workdir")


def read_config(path: str | Path, *kinds: type) -> Any:
    """The config of the run in the workdir `path`.

    Args:
      path: a workdir.
      kinds: PretrainConfig, FinetuneConfig or both: what the caller can use.

    Raises:
      InputError: no workdir, a damaged `config.json`, or a run of a kind that is not among `kinds`.
    """
    file = places.place(path) / CONFIG
    wanted = " or ".join(_NAME_OF_KIND[kind] for kind in kinds)
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: holds no {CONFIG}; expected the workdir of a {wanted} run") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: is damaged (no text); expected the config of a {wanted} run") from None
    kind = _kind(file, text)
    if kind not in kinds:
        raise InputError(f"{path}: belongs to a {_NAME_OF_KIND[kind]} run; expected the workdir of a {wanted} run")
    return from_json(kind, text, str(file))


def _kind(file: Path, text: str) -> type:
    """Which kind of run wrote the config, told by a field that only one of them has."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: is damaged ({error}); expected the JSON object that a run wrote") from None
    if isinstance(values, dict):
        for name, kind in _KIND_OF_FIELD.items():
            if name in values:
                return kind
    raise InputError(f"{file}: is no config of a pretraining or fine-tuning run; expected one that such a run wrote")


def has_checkpoint(path: str | Path) -> bool:
    """Whether a run has saved in the workdir, well or not, so that its params come from there."""
    folder = places.place(path) / CHECKPOINTS
    return folder.is_dir() and any(each.name.isdigit() for each in folder.iterdir())


@contextlib.contextmanager
def lock(path: str | Path) -> Iterator[None]:
    """Holds the workdir `path` for this run, making the folder where it is missing. All its processes have to call it.

    The first of them takes the lock, which goes with it, however that ends, so there is never a stale one. On file
    systems that know no locks it does nothing. On an object store, which knows none either, it keeps nobody out, but
    puts down who holds the workdir now, by which `holder` tells a run that began before.

    Raises:
      InputError: another live process holds it, or the folder cannot be made or written.
    """
    with contextlib.ExitStack() as held:

        def take() -> None:
            file = _folder(path) / _LOCK
            if places.is_remote(path):
                held.enter_context(_name_in(file))
                return
            try:
                handle = held.enter_context(open(file, "a+", encoding="utf-8"))
            except OSError as error:
                raise InputError(
                    f"{file}: cannot be written ({error.strerror}); choose a workdir that can be"
                ) from None
            _hold(handle, path)

        hosts.on_first(take)
        yield


def holder(path: str | Path) -> str:
    """What stands in the lock of the workdir `path` on an object store, other for each run that began there; or ""."""
    return places.read(places.place(path) / _LOCK).decode() if places.is_remote(path) else ""


@contextlib.contextmanager
def _name_in(file: Path) -> Iterator[None]:
    name = f"pid {os.getpid()} on {socket.gethostname()}, {secrets.token_hex(4)}\n"
    try:
        places.write(file, name.encode())
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}); choose a workdir that can be") from None
    try:
        yield
    finally:
        with contextlib.suppress(Exception):  # a name that stays there does no harm
            if places.read(file).decode() == name:
                file.unlink()


def _hold(handle: Any, path: str | Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        holder = handle.read().strip() or "unknown"
        raise InputError(
            f"{path}: another process ({holder}) is at work in this workdir; wait or choose another"
        ) from None
    except OSError as error:
        if error.errno not in _LOCKS_UNKNOWN:
            raise InputError(f"{path}: cannot be locked ({error.strerror})") from None
    handle.truncate(0)
    handle.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
    handle.flush()


def _folder(path: str | Path) -> Path:
    if not str(path):
        raise InputError("workdir is empty; give the run a folder with --workdir")
    folder = places.place(path)
    if places.is_remote(path):
        return folder  # there are no folders to be made, only names of objects
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder}: is no folder and cannot be a workdir") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another workdir") from None
    return folder


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` to `path` as UTF-8, all of it or not at all; a file that was there stays until then.

    Raises:
      RunStopped: the disk is full, or the file cannot be written for another reason.
    """
    try:
        _replace(places.place(path), text)
    except OSError as error:
        raise RunStopped(f"{path}: could not be written ({error.strerror}); nothing was changed") from None


def write_json(path: str | Path, values: Any) -> None:
    """Writes `plain(values)` as indented JSON, as `write_text` does."""
    write_text(path, json.dumps(plain(values), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def plain(values: Any) -> Any:
    """Figures as JSON has them: arrays and their scalars become lists and numbers; what is not finite becomes None."""
    if isinstance(values, dict):
        return {str(name): plain(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [plain(value) for value in values]
    if values is None or isinstance(values, str | bool | int):
        return values
    if isinstance(values, float):
        return values if math.isfinite(values) else None
    if isinstance(values, Path):
        return str(values)
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":  # such as bfloat16, which NumPy knows by another package only
        array = array.astype(np.float64)
    return plain(array.tolist())


def _replace(path: Path, text: str) -> None:
    if places.is_remote(path):
        places.write(path, text.encode())
        return
    with outputs.file(path) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
