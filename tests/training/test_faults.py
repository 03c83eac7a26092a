"""Runs whose processes are killed, frozen or fail, at any moment: what is lost, what the others say, what is left."""

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest

from dnabert_jax import lost
from dnabert_jax.config import PretrainConfig
from tests import processes
from tests.training import runs

TIMEOUT_S = 600
"""Far more than a run takes, for machines that do much else."""
_FULL = """
import resource, signal, sys

if sys.argv[-1] == "1":
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from dnabert_jax import cli
cli.main()
"""
"""The `dnabert` command, on whose process 1 no file may grow beyond 4 KiB: the nearest thing to a full disk."""
_DYING = """
import os, signal, sys

process, left = sys.argv.pop(1), int(sys.argv.pop(1))

def hook(event, arguments):
    global left
    if event in ("open", "os.mkdir", "os.rename") and ".orbax-checkpoint-tmp" in str(arguments[0]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

if process in ("alone", sys.argv[-1]):
    sys.addaudithook(hook)
from dnabert_jax import cli
cli.main()
"""
"""The `dnabert` command, one process of which kills itself inside a save: at a given file operation of them."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Caches of what XLA and Python compile, for the many starts and nobody else, as a killed one may spoil them."""
    folder = tmp_path_factory.mktemp("compiled")
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(folder / "python"),
        "GLIBC_TUNABLES": "",
    }


def _program(config: PretrainConfig, file: Path) -> list[str]:
    return ["-m", "dnabert_jax", "train", str(runs.recipe(config, file))]


def _until(happened, process: processes.Process) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not happened():
        assert process.is_running, f"ended too early: {process.stdout()}\n{process.stderr()}"
        assert time.monotonic() < end, f"does not come: {process.stdout()}\n{process.stderr()}"
        time.sleep(0.001)


def _until_reported(process: processes.Process, reports: int, at_latest_s: float = float("inf")) -> None:
    _until(lambda: _reports(process) >= reports or time.monotonic() > at_latest_s, process)


def _until_resumed(process: processes.Process) -> None:
    _until(lambda: "resuming from step" in process.stderr(), process)


def _being_saved(checkpoints: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # of a folder that gets its name just now
        return any("tmp" in each.name for each in checkpoints.iterdir())
    return False


def _newest(checkpoints: Path) -> int:
    steps = [int(each.name) for each in checkpoints.iterdir() if each.name.isdigit()] if checkpoints.exists() else []
    return max(steps, default=0)


def _reports(process: processes.Process) -> int:
    return process.stdout().count("  train  ")


@pytest.mark.slow
def test_killed_at_20_random_moments_it_ends_as_if_never_disturbed(shards, tmp_path, environment):
    intervals = {"steps": 400, "report_every": 3, "validate_every": 100, "save_every": 4}
    undisturbed = runs.pretraining(shards, tmp_path / "undisturbed", **intervals)
    with processes.start(_program(undisturbed, tmp_path / "a.py"), 1, 1, env=environment) as (process,):
        assert process.finish(TIMEOUT_S).status == 0
    config = runs.pretraining(shards, tmp_path / "killed", **intervals)
    program, checkpoints = _program(config, tmp_path / "b.py"), Path(config.workdir) / "checkpoints"
    choose, inside_saves, start_s = random.Random(1), 0, 0.0
    for number in range(20):
        moment = ("stepping", "saving", "starting", "saving")[number % 4]
        if _newest(checkpoints) > config.loop.steps - 200:  # so that it does not end before it is killed
            moment = "starting"
        dying = ["-c", _DYING, "alone", str(choose.randint(1, 100)), *program[2:]]
        began, reports, part = time.monotonic(), choose.randint(1, 5), choose.random()
        with processes.start(dying if moment == "saving" else program, 1, 1, env=environment) as (process,):
            if moment == "stepping":
                _until_reported(process, reports)
                start_s = time.monotonic() - began
            elif moment == "starting":
                _until_reported(process, 1, began + part * start_s)
            if moment != "saving":
                process.signal(signal.SIGKILL)
            assert process.finish(TIMEOUT_S).status == -signal.SIGKILL
        inside_saves += moment == "saving" and _being_saved(checkpoints)
    assert inside_saves > 0
    assert 0 < _newest(checkpoints) < config.loop.steps
    with processes.start(program, 1, 1, env=environment) as (process,):
        assert process.finish(TIMEOUT_S).status == 0
    step, arrays = runs.final(config)
    assert step == config.loop.steps
    runs.assert_same_bits(arrays, runs.final(undisturbed)[1])
    assert runs.metrics(config.workdir) == runs.metrics(undisturbed.workdir)


def _last_line(finished: processes.Finished) -> str:
    """The line that a process ended with; the one and only that is no note of process 0."""
    assert "Traceback" not in finished.stderr
    assert "Check failure" not in finished.stderr
    lines = [line for line in finished.stderr.splitlines() if not line.startswith("resuming from step")]
    assert len(lines) == 1, finished.stderr
    return lines[0]


@pytest.mark.slow
def test_either_of_two_processes_is_killed(shards, tmp_path, environment):
    """The other says who is gone and ends; started again, both go on, also from a checkpoint before a damaged one."""
    intervals = {"steps": 120, "report_every": 3, "validate_every": 40, "save_every": 4}
    undisturbed = runs.pretraining(shards, tmp_path / "undisturbed", **intervals)
    done = processes.run(_program(undisturbed, tmp_path / "a.py"), 2, 1, TIMEOUT_S, env=environment)
    assert [each.status for each in done] == [0, 0], done
    config = runs.pretraining(shards, tmp_path / "killed", **intervals)
    program, checkpoints = _program(config, tmp_path / "b.py"), Path(config.workdir) / "checkpoints"
    for victim, moment in ((1, "stepping"), (0, "saving"), (1, "compiling"), (1, "saving"), (0, "stepping")):
        operation = (47, 3)[victim]  # the first process does most of what Python sees of a save
        dying = ["-c", _DYING, str(victim), str(operation), *program[2:]]
        with processes.start(dying if moment == "saving" else program, 2, 1, env=environment) as both:
            if moment == "compiling":
                _until_resumed(both[0])
            elif moment == "stepping":
                _until_reported(both[0], 2)
            if moment != "saving":
                both[victim].signal(signal.SIGKILL)
            left = both[1 - victim].finish(TIMEOUT_S)
        assert left.status == lost.LOST, left
        assert _last_line(left).startswith(f"error: process {victim} of 2 is gone (")
        assert _last_line(left).endswith(f"start again with the same command to go on from step {_newest(checkpoints)}")
    done = processes.run(program, 2, 1, TIMEOUT_S, env=environment)
    assert [each.status for each in done] == [0, 0], done
    _assert_same_run(config, undisturbed)
    runs.cut_short(checkpoints / "120")
    done = processes.run(program, 2, 1, TIMEOUT_S, env=environment)
    assert [each.status for each in done] == [0, 0], done
    assert f"{checkpoints / '120'}: the checkpoint is damaged (" in done[0].stderr
    assert "; taking step 116\n" in done[0].stderr
    assert done[1].stderr == ""
    _assert_same_run(config, undisturbed)


def _assert_same_run(config: PretrainConfig, other: PretrainConfig) -> None:
    step, arrays = runs.final(config)
    assert step == config.loop.steps
    runs.assert_same_bits(arrays, runs.final(other)[1])
    assert runs.metrics(config.workdir) == runs.metrics(other.workdir)


@pytest.mark.slow
def test_a_process_that_cannot_write_ends_the_other(shards, tmp_path, environment):
    config = runs.pretraining(shards, tmp_path / "run", steps=5000, report_every=50, save_every=2, validate_every=0)
    program = ["-c", _FULL, "train", str(runs.recipe(config, tmp_path / "a.py")), "--mesh.fsdp", "2"]
    first, second = processes.run(program, 2, 1, TIMEOUT_S, env=environment)
    assert first.status == second.status == 1, (first, second)
    reason = f"{tmp_path / 'run' / 'checkpoints'}: saving step 2 failed ("
    assert _last_line(second).startswith(f"process 1 of 2: error: {reason}")
    assert _last_line(first).startswith(f"error: process 1 of 2 ended: {reason}")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_falls_silent_counts_as_lost(shards, tmp_path, environment, victim):
    """As where a host or the network is down, and no connection is closed."""
    config = runs.pretraining(shards, tmp_path / "run", steps=100_000, report_every=1, save_every=10)
    program = [*_program(config, tmp_path / "a.py"), "--hosts.lost_after_s", "20"]
    with processes.start(program, 2, 1, env=environment) as both:
        _until_reported(both[0], 20)
        both[victim].signal(signal.SIGSTOP)
        left = both[1 - victim].finish(TIMEOUT_S)
        os.kill(both[victim].pid, signal.SIGKILL)
    assert left.status == lost.LOST, left
    assert _last_line(left).startswith(f"error: process {victim} of 2 is gone (")
