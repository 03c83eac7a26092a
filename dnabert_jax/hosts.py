"""The processes of a run, one or several: how they find each other, which one speaks, and what all must agree on.

With several processes each runs the same program on its own devices. What only one may do, such as writing a file, is
done by the first, and what it found or raised reaches the others; what each may meet alone is told to all, so that all
go on or all end. These words go through JAX's coordination service and not through the devices. With one process all
of this is nothing but the call itself.
"""

import contextlib
import dataclasses
import functools
import inspect
import itertools
import json
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from dnabert_jax import errors, lost, rendezvous
from dnabert_jax.config import HostsConfig
from dnabert_jax.errors import InputError, Interrupted, RunStopped

T = TypeVar("T")
Say = Callable[[str], None]

_ERRORS = {kind.__name__: kind for kind in (InputError, RunStopped, Interrupted)}
_SLICE_MS = 1_000
"""Waits for a word of another process are cut into such pieces, between which Python hears of signals."""
_SIGNS_OF_A_CLUSTER = ("SLURM_STEP_NODELIST", "JOB_COMPLETION_INDEX", "TPU_WORKER_HOSTNAMES", "OMPI_MCA_orte_hnp_uri")


@dataclasses.dataclass(frozen=True)
class _Place:
    index: int
    count: int


_ALONE = _Place(0, 1)
_place = _ALONE
_numbers = itertools.count()


def index() -> int:
    """Number of this process, from 0."""
    return _place.index


def count() -> int:
    """How many processes this run has."""
    return _place.count


def is_first() -> bool:
    """Whether this process is the one that prints, and writes what is written once."""
    return index() == 0


def name(process: int | None = None) -> str:
    """`process I of N`, counted from 0, of this process or another."""
    return f"process {index() if process is None else process} of {count()}"


def only_first(say: Say) -> Say:
    """`say` on the first process, and silence on the others."""
    return say if is_first() else lambda _: None


def join(config: HostsConfig) -> None:
    """Joins the processes of a run. To be called before anything asks JAX for its devices.

    Where no coordinator is given and no cluster is found, or one of a single process, nothing happens.

    Raises:
      InputError: a cluster is there that does not say where its processes are, or processes were told different things.
      RunStopped: the others did not come within `wait_s`.
    """
    global _place
    if count() > 1:
        return
    if config.coordinator or (config.detect and any(sign in os.environ for sign in _SIGNS_OF_A_CLUSTER)):
        lost.quieten()
    import jax

    if jax.distributed.is_initialized():  # by the program that calls this
        _place = _Place(jax.process_index(), jax.process_count())
        return
    found = _given(config) or (_detected(config) if config.detect else None)
    if found is None or found.processes == 1:
        return
    rendezvous.meet(found.coordinator, found.processes, found.process, config.wait_s)
    # JAX's own service for preemption takes SIGTERM for itself; here StopSignals agree on a step. Before JAX
    # 0.9 it cannot be left out, but gives way to them.
    with contextlib.suppress(AttributeError):
        jax.config.update("jax_enable_preemption_service", False)
    options = {"shutdown_timeout_seconds": config.lost_after_s}  # which came with 0.9
    known = inspect.signature(jax.distributed.initialize).parameters
    with lost.joining(found.processes):
        with lost.aborts_caught():
            jax.distributed.initialize(
                found.coordinator,
                found.processes,
                found.process,
                found.devices,
                cluster_detection_method="deactivate",
                initialization_timeout=config.wait_s,
                heartbeat_timeout_seconds=config.lost_after_s,
                **{name: value for name, value in options.items() if name in known},
            )
        lost.watch(found.process, found.processes, found.coordinator, _client())
        jax.devices()  # these, too, are exchanged, and all processes have to be there for it
    _place = _Place(found.process, found.processes)


@contextlib.contextmanager
def together(config: HostsConfig) -> Iterator[None]:
    """Joins the processes of a run for a block, and on its error lets the first one speak for all that met the same."""
    join(config)
    try:
        yield
    except BaseException as error:
        line = errors.line(error)
        if count() > 1 and lost.tell(line, errors.status(error)) and lost.is_said_by_first(line):
            error.told = True
        raise


def is_told(error: Exception) -> bool:
    """Whether another process says this error to the user."""
    return getattr(error, "told", False)


def on_first(function: Callable[[], T]) -> T:
    """Calls `function` on the first process. What it returns, which JSON must be able to hold, or raises reaches all.

    Every process has to call this, in the same order among the other calls of this module.

    Raises:
      InputError, RunStopped, Interrupted: whichever `function` raised.
    """
    if count() == 1:
        return function()
    key = _next_key()
    if not is_first():
        said = json.loads(_wait(key))
        if "error" in said:
            raise _told(said)
        return said["value"]
    try:
        said = json.dumps({"value": function()})
    except BaseException as error:
        _client().key_value_set(key, json.dumps(_refusal(error)))
        error.known = True
        raise
    _client().key_value_set(key, said)
    return json.loads(said)["value"]


def exchange(value: T) -> list[T]:
    """The values of all processes, which JSON must be able to hold, in the order of their numbers; a call of all.

    Raises:
      InputError, RunStopped: what another process met in a block of `agreed`, where it should have come to this call.
    """
    if count() == 1:
        return [value]
    key = _next_key()
    if not is_first():
        _client().key_value_set(f"{key}/{index()}", json.dumps({"value": value}))
        said = json.loads(_wait(key))
        if "error" in said:
            raise _told(said)
        return said["values"]
    others = [json.loads(_wait(f"{key}/{process}")) for process in range(1, count())]
    refused = next((each for each in others if "error" in each), None)
    if refused is None:
        values = [value, *(each["value"] for each in others)]
        _client().key_value_set(key, json.dumps({"values": values}))
        return values
    _client().key_value_set(key, json.dumps(refused))
    error = _told(refused)
    error.told = False  # its own process says it, and so does the first, whose output is what people look at
    raise error


def agree_all(ok: bool) -> bool:
    """Whether it is so on every process; a call of all."""
    return all(exchange(bool(ok)))


@contextlib.contextmanager
def agreed() -> Iterator[None]:
    """Where the block raises an InputError or RunStopped on one process, it does so on all.

    The first process says it, and so does the one that met it alone. Every process has to enter the block. The others
    hear of it at its end, or before, where they call something else of this module in it.
    """
    if count() == 1:
        yield
        return
    try:
        yield
    except (InputError, RunStopped) as error:
        if not getattr(error, "known", False):
            _refuse(error)
        raise
    exchange(None)


def _refuse(error: Exception) -> None:
    """Tells all processes of an error; returns where it is the one that ends them all.

    Raises:
      InputError, RunStopped: that of another process, which comes before.
    """
    word = json.dumps(_refusal(error))
    while True:
        key = _next_key()
        if is_first():
            _client().key_value_set(key, word)
            break
        _client().key_value_set(f"{key}/{index()}", word)
        said = json.loads(_wait(key))
        if "error" in said:
            if said["process"] != index():
                raise _told(said) from None
            break  # otherwise the others called `on_first`, which does not ask; they will come to a call that does
    error.known = True


def _refusal(error: BaseException) -> dict[str, Any]:
    kind = type(error).__name__
    said = [kind, str(error)] if kind in _ERRORS else ["RunStopped", f"{name()} failed ({kind})"]
    return {"error": said, "process": index()}


def _told(said: dict[str, Any]) -> Exception:
    """The error of another process."""
    kind, line = said["error"]
    error = _ERRORS[kind](line if said["process"] == 0 else f"{name(said['process'])}: {line}")
    error.told = error.known = True
    return error


def check_same(where: str, found: dict[str, Any]) -> None:
    """Raises InputError, on all, unless every process found what the first one did; a call of all.

    Args:
      where: what these are values of, for people.
      found: by name; values that JSON can hold.
    """
    here = json.loads(json.dumps(found))
    first = on_first(lambda: here)
    with agreed():
        other = [each for each in here if here[each] != first.get(each)]
        if other:
            listed = ", ".join(f"{each} ({first.get(each)!r} → {here[each]!r})" for each in other)
            raise InputError(f"{where}: not what process 0 has: {listed}; expected the same for every process")


def gather(array: Any) -> np.ndarray:
    """A global array, whole, on every process; a call of all."""
    if count() == 1 or array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def _next_key() -> str:
    return f"dnabert/{next(_numbers)}"


def _wait(key: str) -> str:
    """What another process sets `key` to, however long it takes: one that is lost ends this one from elsewhere."""
    while True:
        try:
            return _client().blocking_key_value_get(key, _SLICE_MS)
        except Exception as error:  # of a kind that JAX does not name in public
            if "DEADLINE_EXCEEDED" not in str(error):
                raise RunStopped(f"{name()}: lost the others ({str(error).splitlines()[0]})") from None


@functools.cache
def _client() -> Any:
    """JAX's client of the coordination service, which has no public name but is what Orbax uses, too."""
    try:
        from jax._src import distributed

        client = distributed.global_state.client
        client.blocking_key_value_get, client.key_value_set  # noqa: B018 - there, or this is another JAX
    except (ImportError, AttributeError):
        raise RunStopped(
            "several processes need JAX's coordination service, which this version of JAX keeps elsewhere; "
            "expected JAX 0.7 to 0.12"
        ) from None
    return client


@dataclasses.dataclass(frozen=True)
class _Found:
    coordinator: str
    processes: int
    process: int
    devices: list[int] | None
    """Numbers of the accelerators that this process takes of those that it sees; None for all."""


def _given(config: HostsConfig) -> _Found | None:
    if not config.coordinator:
        return None
    return _Found(config.coordinator, config.processes, config.process, None)


def _detected(config: HostsConfig) -> _Found | None:
    """What JAX finds of the Slurm step, TPU pod or Kubernetes job around this process; None where it runs alone."""
    if _is_lone_task():
        return None
    kinds = _cluster_kinds()
    try:
        kind = next((each for each in kinds if _is_here(each)), None)
        if kind is None or kind.get_process_count() == 1:
            return None
        port = os.environ.get("JAX_COORDINATOR_PORT")
        coordinator = kind.get_coordinator_address(timeout_secs=config.wait_s, override_coordinator_port=port)
        here = kind.get_local_process_id()
        return _Found(coordinator, kind.get_process_count(), kind.get_process_id(), _devices(here))
    except Exception as error:  # what the interfaces of three kinds of cluster raise
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"the cluster does not say where the processes of this run are ({line}); expected --hosts.coordinator, "
            "--hosts.processes and --hosts.process, or --hosts.detect False to run alone"
        ) from None


def _is_lone_task() -> bool:
    """Whether this is a Slurm step of one task, as an interactive shell is, whatever the job has reserved beside it."""
    return os.environ.get("SLURM_STEP_NUM_TASKS") == "1"


def _cluster_kinds() -> list[Any]:
    try:
        from jax._src.clusters import ClusterEnv

        return [each for each in ClusterEnv._cluster_types if not each.opt_in_only_method]
    except (ImportError, AttributeError):
        if any(sign in os.environ for sign in _SIGNS_OF_A_CLUSTER):
            raise RunStopped(
                "this version of JAX keeps its detection of clusters elsewhere; expected JAX 0.7 to 0.12, "
                "--hosts.coordinator with its two companions, or --hosts.detect False"
            ) from None
        return []


def _is_here(kind: Any) -> bool:
    if kind.__name__ != "K8sCluster":
        return kind.is_env_present()
    if "JOB_COMPLETION_INDEX" not in os.environ:  # a pod of no indexed job, such as a notebook's
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind.is_env_present():
            return True
    raise RuntimeError("asking Kubernetes takes its Python package, `pip install 'dnabert-jax[k8s]'`")


def _devices(here: int | None) -> list[int] | None:
    """JAX's rule is one accelerator for each task of a node; a lone task, or one that sees only its own, takes all."""
    if here is None:
        return None
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "").split(",")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    alone = all(each.split("(")[0] == "1" for each in tasks)
    if alone or (visible is not None and here >= len(visible.split(","))):
        return None
    return [here]
