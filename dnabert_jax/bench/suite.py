"""A run of the benchmark: what the machine is and can do, then each workload, in processes of their own.

So one workload's memory, caches and failures do not reach the next, and this process starts no JAX. Only the quick
suite does all in one process, for starting takes as long as what it measures. A process gets a list of jobs, and says
over a pipe what comes of each; where it dies, the job that it was at has failed and the next process takes the others.
"""

import contextlib
import dataclasses
import gc
import hashlib
import json
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from dnabert_jax import embedded
from dnabert_jax.bench.choices import Choices
from dnabert_jax.bench.result import SCHEMA, Measured, Rates, entry
from dnabert_jax.bench.timing import Say
from dnabert_jax.bench.workloads import Workload, workloads
from dnabert_jax.data import build
from dnabert_jax.errors import InputError, RunStopped

Peer = Literal["none", "torch"]

MACHINE = "machine"
"""The first job, by which the result knows what the figures are of."""

_ON_A_CPU = 8
_OF_THE_PIPELINE = 2_000
"""Rows of a batch of the input pipeline: the paper's batch, of which no device has to hold anything."""
_READ_AHEAD = 16
"""Batches of the pipeline that are not timed: more than its threads have ready."""
_COMPILATIONS = 3
"""Most steps of the workload that compiles, each of which takes as long as many of the others; one if quick."""
_SMALL = 8
"""Rows of the smaller of the two batches by whose plans the largest batch is found."""
_ENDING_S = 30.0
"""After its last word a process has so long to end by itself."""
_OF_THE_LIMIT = 0.95
"""Of the memory that a device gives, that a plan may fill: what is left is lost between its blocks."""


@dataclass(frozen=True)
class Job:
    """What a process is to do.

    Attributes:
      name: of a workload, or `MACHINE`.
      batch_size: rows of a step where the user did not say; 0 looks for the most that fit.
    """

    name: str
    batch_size: int = 0


@dataclass(frozen=True)
class Plan:
    """What all processes of a run know.

    Attributes:
      choices: the user's.
      shards: folder of the genome.
      peer: what is timed in turn with workloads of pretraining.
      breakdown: whether the parts of `pretrain-base-512` are timed by themselves.
    """

    choices: Choices
    shards: str
    peer: Peer = "none"
    breakdown: bool = True


@dataclass(frozen=True)
class Said:
    """What a process says about a job.

    Attributes:
      name: of the job.
      kind: `begun`; `progress`, a text; `done`, what came of it; `failed`, why; `refused`, what is wrong with what was
        asked for; `too_large`, the batch size that did not fit in memory.
      value: as the kind says.
    """

    name: str
    kind: Literal["begun", "progress", "done", "failed", "refused", "too_large"]
    value: Any = None


_ENDS = ("done", "failed", "refused", "too_large")


def run(
    choices: Choices,
    names: tuple[str, ...],
    *,
    peer: Peer = "none",
    breakdown: bool = True,
    command: str,
    heard: Callable[[Said], None],
    so_far: Callable[[dict[str, Any]], None] = lambda result: None,
) -> dict[str, Any]:
    """Runs workloads.

    Args:
      choices: how.
      names: of the workloads; none runs all.
      peer: what is timed in turn with workloads of pretraining.
      breakdown: whether the parts of `pretrain-base-512` are timed by themselves.
      command: the command line, for the result.
      heard: hears what goes on.
      so_far: gets the result after each workload, in which those to come are failures, too: who stops a run that takes
        long has what it measured.

    Returns:
      The result, as `schema.json` has it. Workloads that failed are in `failures` with their reason.

    Raises:
      InputError: an unknown workload, a peer that is not installed, an attention kernel that cannot be used here; or
        something else that is asked for of which all of the workloads say that it cannot be.
      RunStopped: what the machine is could not be found out, such as where JAX does not start.
    """
    known = workloads(choices.suite)
    for name in names:
        if name not in known:
            raise InputError(f"unknown workload {name!r}; expected some of {', '.join(known)}")
    if peer == "torch":
        from dnabert_jax.bench import peer as peers

        peers.require()
    jobs = [Job(MACHINE), *(Job(name) for name in known if not names or name in names)]
    with tempfile.TemporaryDirectory(prefix="dnabert-bench-") as folder:
        shards = Path(folder, "genome")
        build.build([embedded.FASTA], shards)
        plan = Plan(choices, str(shards), peer, breakdown)
        with contextlib.closing(_all(jobs, plan, heard)) as news:
            for found, failures in news:
                result = _result(plan, command, found, failures)
                so_far(result)
    return result


def _result(plan: Plan, command: str, found: dict[str, Any], failures: dict[str, str]) -> dict[str, Any]:
    """The result of what was found of the machine and the workloads, as `schema.json` has it."""
    known, machine = workloads(plan.choices.suite), found[MACHINE]
    values = {name: known[name].digest for name in sorted(known)}
    rates = machine["rates"]
    return {
        "schema": SCHEMA,
        "suite": plan.choices.suite,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        **{name: machine[name] for name in ("hardware", "versions", "flags")},
        "choices": dataclasses.asdict(plan.choices) | {"peer": plan.peer, "breakdown": plan.breakdown},
        "config_hash": hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16],
        "rates": rates,
        "attention_checks": machine["attention_checks"],
        "workloads": [
            entry(found[name], _rates(found[name].compute_dtype, rates, machine["hardware"]))
            for name in known
            if name in found
        ],
        "failures": [{"name": name, "reason": reason} for name, reason in failures.items()],
    }


def _rates(dtype: str, rates: dict[str, Any], hardware: dict[str, Any]) -> Rates:
    published = hardware["published"] or {"flops_per_second": {}, "bytes_per_second": None}
    return Rates(
        measured_flops=rates["matrix_product_flops_per_second"].get(dtype),
        measured_bytes=rates["memory_bytes_per_second"],
        published_flops=published["flops_per_second"].get(dtype),
        published_bytes=published["bytes_per_second"],
    )


def _all(
    jobs: list[Job], plan: Plan, heard: Callable[[Said], None]
) -> Generator[tuple[dict[str, Any], dict[str, str]], None, None]:
    """What came of the jobs that were done, and why the others were not, by name: after each workload.

    Raises:
      InputError, RunStopped: as `run`.
    """
    found: dict[str, Any] = {}
    failures: dict[str, str] = {}
    refused: list[str] = []
    waiting = list(jobs)
    while waiting:
        these = waiting if plan.choices.quick else waiting[:1]
        open_jobs = {each.name: each for each in these}
        waiting = waiting[len(these) :]
        with contextlib.closing(_said(these, plan)) as news:
            for said in news:
                if said.kind == "done":
                    found[said.name] = said.value
                elif said.kind in ("failed", "refused"):
                    _require_machine(said)
                    failures[said.name] = said.value
                    refused += [said.value] * (said.kind == "refused")
                elif said.kind == "too_large":
                    waiting.insert(0, Job(said.name, said.value // 2))
                if said.kind in _ENDS:
                    del open_jobs[said.name]
                if len(refused) == len(jobs) - 1:  # the first job is the machine
                    raise InputError(refused[0])
                heard(said)
                if said.kind in _ENDS and said.name != MACHINE:
                    to_come = (each.name for each in (*open_jobs.values(), *waiting))
                    yield found, failures | dict.fromkeys(to_come, "not measured yet")
        waiting = [*open_jobs.values(), *waiting]
        if "pretrain-base-512" in found and not plan.choices.batch_size:
            batch = found["pretrain-base-512"].batch_size
            waiting = [
                dataclasses.replace(each, batch_size=batch) if each.name == "compile" else each for each in waiting
            ]


def _require_machine(said: Said) -> None:
    """Raises what ends a run where this is said of the machine."""
    if said.name == MACHINE and said.kind == "refused":
        raise InputError(said.value)
    if said.name == MACHINE:
        raise RunStopped(f"the machine could not be measured: {said.value}")


def _said(jobs: list[Job], plan: Plan) -> Generator[Said, None, None]:
    """What a new process says about these jobs, until it ends. At its death it is said that its job has failed."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit threads that hold locks
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, jobs, plan), daemon=True)
    begun = jobs[0].name
    try:
        _start(process)
        theirs.close()
        while True:
            try:
                said = ours.recv()
            except (EOFError, OSError):  # it has ended, or died within a message
                break
            begun = None if said.kind in _ENDS else said.name
            yield said
        process.join(_ENDING_S)
        if begun is not None:
            yield Said(begun, "failed", _death(process.exitcode))
    finally:
        if process.pid is not None and process.is_alive():
            process.kill()  # what it holds is on no disk
            process.join()
        ours.close()


def _start(process: multiprocessing.process.BaseProcess) -> None:
    """Starts a process that Ctrl-C does not reach, from its first moment: this one hears it and ends that one."""
    resource_tracker.ensure_running()  # by itself it would start, and unblock signals, in between
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()  # inherits what is blocked
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _death(status: int | None) -> str:
    if status is None:
        return "its process went silent and did not end"
    if status < 0:
        name = signal.Signals(-status).name
        return f"its process ended by {name}" + (", as when memory runs out" if name == "SIGKILL" else "")
    return f"its process ended with status {status}"


def _serve(connection: Connection, jobs: list[Job], plan: Plan) -> None:
    """The process: does the jobs in order."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    known = workloads(plan.choices.suite)
    if plan.peer == "torch" and any(each.name in known and known[each.name].kind == "pretrain" for each in jobs):
        from dnabert_jax.bench import peer

        os.environ.update(peer.environment())
    import jax

    # What is compiled is to be compiled, not read from an earlier run's cache.
    jax.config.update("jax_enable_compilation_cache", False)
    for job in jobs:
        connection.send(Said(job.name, "begun"))
        for said in _outcome(job, plan, lambda text, name=job.name: connection.send(Said(name, "progress", text))):
            connection.send(said)
    connection.close()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _outcome(job: Job, plan: Plan, say: Say) -> Iterator[Said]:
    """What became of a job: one item."""
    try:
        value = machine(plan.choices) if job.name == MACHINE else measure(job, plan, say)
        yield Said(job.name, "done", value)
    except _TooLarge as error:
        yield Said(job.name, "too_large", error.batch_size)
    except InputError as error:
        yield Said(job.name, "refused", str(error))
    except RunStopped as error:
        yield Said(job.name, "failed", str(error))
    except Exception as error:
        if _is_exhausted(error):
            yield Said(job.name, "failed", "the memory of the device is too small; expected a smaller --batch-size")
        else:
            traceback.print_exc(file=sys.stderr)
            yield Said(job.name, "failed", _one_line(error))


def _one_line(error: Exception) -> str:
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


class _TooLarge(Exception):
    """A batch size that was found by itself does not fit."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self.batch_size = batch_size


def _is_exhausted(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _here(choices: Choices) -> Choices:
    """With what is decided by the kind of device that JAX starts.

    Raises:
      RunStopped: JAX starts none.
    """
    import jax

    try:
        return choices.on(jax.default_backend())
    except Exception as error:  # without the backend that JAX_PLATFORMS names it is an AssertionError
        asked = os.environ.get("JAX_PLATFORMS")
        told = f"; JAX_PLATFORMS is {asked!r}" if asked else ""
        raise RunStopped(f"JAX does not start: {_one_line(error)}{told}") from None


def machine(choices: Choices) -> dict[str, Any]:
    """What this machine is and can do: the result's `hardware`, `versions`, `flags`, `rates`, `attention_checks`.

    Raises:
      InputError: the chosen attention kernel does not run here, or does not keep packed segments apart.
      RunStopped: JAX does not start.
    """
    from dnabert_jax.bench import hardware, rates, result
    from dnabert_jax.model import attention_check

    choices = _here(choices)
    first = next(iter(workloads(choices.suite).values()))
    encoder = choices.encoder(first)
    attention_check.require(encoder, first.row_length)
    checks = attention_check.all_here(first.row_length, encoder.heads, encoder.hidden // encoder.heads)
    return {
        "hardware": hardware.describe(),
        "versions": hardware.versions(),
        "flags": hardware.flags(),
        "rates": {
            "matrix_product_flops_per_second": {encoder.compute_dtype: rates.matrix_product(encoder.compute_dtype)},
            "memory_bytes_per_second": rates.memory_bandwidth(),
        },
        "attention_checks": [result.agreement(each) for each in checks],
    }


def measure(job: Job, plan: Plan, say: Say) -> Measured:
    """Runs one workload in this process.

    Raises:
      InputError: what `work.start` raises.
      RunStopped: JAX does not start.
      _TooLarge: the batch size that was found does not fit, and a smaller one may.
    """
    import jax

    from dnabert_jax.bench import energy, timing, work
    from dnabert_jax.data import shards

    choices = _here(plan.choices)
    workload = workloads(choices.suite)[job.name]
    split = shards.open_split(plan.shards, "train")
    batch_size = choices.batch_size or _batch_size(workload, choices, job.batch_size, say)
    peer = None
    try:
        begun = work.start(workload, choices, batch_size, split)
        with contextlib.closing(begun):
            if plan.peer == "torch" and workload.kind == "pretrain":
                from dnabert_jax.bench import peer as peers

                peer, timed = peers.measure(workload, choices, batch_size, begun, split, say)
            else:
                steps, warmup = _steps(workload, choices)
                meter = energy.Meter()
                timed = timing.in_turn({workload.name: begun.step}, steps, warmup, say, meter.joules)[workload.name]
            # The allocator's peak is that of the process, in which the quick suite runs all of its workloads.
            allocated = None if choices.quick else _allocated_bytes(begun.devices)
    except Exception as error:
        may_be_less = not choices.batch_size and batch_size > jax.device_count()
        if _is_exhausted(error) and may_be_less and jax.default_backend() != "cpu":
            raise _TooLarge(batch_size) from None
        raise
    measured = Measured(
        name=workload.name,
        kind=workload.kind,
        digest=workload.digest,
        batch_size=begun.batch_size,
        compute_dtype=choices.encoder(workload).compute_dtype,
        devices=begun.devices,
        timing=timed,
        compile_time_s=begun.compile_time_s,
        memory_bytes=begun.memory_bytes,
        bytes_accessed=begun.bytes_accessed,
        allocated_bytes=allocated,
        peer=peer,
    )
    if not plan.breakdown or workload.name != "pretrain-base-512":
        return measured
    del begun  # its memory is needed
    gc.collect()
    say("timing the parts of a step")
    from dnabert_jax.bench import breakdown

    step_s = timed.median_ms / 1000
    parts = breakdown.measure(workload, choices, batch_size, step_s, timed.input_wait_share * step_s)
    return dataclasses.replace(measured, breakdown=parts)


def _steps(workload: Workload, choices: Choices) -> tuple[int, int]:
    """Steps that are timed, and steps before those."""
    if workload.kind == "compile":
        return min(choices.steps, 1 if choices.quick else _COMPILATIONS), 0
    return choices.steps, _READ_AHEAD if workload.kind == "input" else choices.warmup


def _allocated_bytes(devices: int) -> int | None:
    import jax

    if not devices:
        return None
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def _batch_size(workload: Workload, choices: Choices, known: int, say: Say) -> int:
    """Rows of a step where the user did not say; `known` where it is more than 0."""
    import jax

    from dnabert_jax.bench import hardware, work

    if workload.kind == "input":
        return _OF_THE_PIPELINE
    if known:
        return known
    limit = hardware.device_memory_bytes()
    if jax.default_backend() == "cpu" or limit is None:
        return _ON_A_CPU * jax.device_count()
    say("looking for the largest batch")
    small = _SMALL * jax.device_count()
    plans = [work.planned_bytes(workload, choices, rows) for rows in (small, 2 * small)]
    return largest_power(small, *plans, _OF_THE_LIMIT * limit)


def largest_power(rows: int, bytes_of_rows: int, bytes_of_twice: int, limit: float) -> int:
    """The largest `rows` times a power of two, less than 1 too, whose plan fits in so many bytes.

    Plans grow with the rows on a straight line, which two of them give. At least 1.

    Args:
      rows: of the first plan.
      bytes_of_rows, bytes_of_twice: of plans of `rows` and of twice as many.
      limit: bytes.
    """
    slope = max(bytes_of_twice - bytes_of_rows, 1) / rows
    fixed = bytes_of_rows - slope * rows
    most = max((limit - fixed) / slope, 1)
    return max(int(rows * 2.0 ** math.floor(math.log2(most / rows))), 1)
