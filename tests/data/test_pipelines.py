"""Tasks that go to the workers of Apache Beam, where it is installed, and the line that there is where it is not."""

import functools
import importlib.util
import os
import signal
import subprocess
import sys

import pytest

from dnabert_jax.data import pipelines
from dnabert_jax.errors import InputError, RunStopped

HERE = ("direct_running_mode=in_memory",)
MISSING = importlib.util.find_spec("apache_beam") is None


def with_beam(test):
    return pytest.mark.slow(pytest.mark.skipif(MISSING, reason="Apache Beam (the extra `beam`) is not installed")(test))


def leave(folder, task):
    """A file for each task, with the process that did it."""
    (folder / f"{task}").write_text(str(os.getpid()))
    return task % 2, task


def gather(folder, group):
    key, tasks = group
    found = all((folder / f"{task}").exists() for task in range(6))
    (folder / f"all-{key}").write_text(f"{sorted(tasks)} {found}")


def fail(task):
    raise ValueError(f"no task like\n{task}")


def die(task):
    os.kill(os.getpid(), signal.SIGKILL)


def test_without_beam_a_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(InputError) as caught:
        pipelines.Pipeline("FlinkRunner", ())
    assert "pip install 'dnabert-jax[beam]'" in str(caught.value)
    assert "\n" not in str(caught.value)


@with_beam
def test_every_task_is_done_and_then_what_follows(tmp_path):
    pipelines.Pipeline("DirectRunner", HERE).run(
        tmp_path, list(range(6)), functools.partial(leave, tmp_path), functools.partial(gather, tmp_path)
    )
    assert {path.name for path in tmp_path.iterdir()} == {*map(str, range(6)), "all-0", "all-1"}
    assert (tmp_path / "all-0").read_text() == "[0, 2, 4] True"
    assert (tmp_path / "all-1").read_text() == "[1, 3, 5] True"


@with_beam
def test_a_task_that_raises_ends_the_pipeline_with_one_line(tmp_path, capfd):
    with pytest.raises(RunStopped) as caught:
        pipelines.Pipeline("DirectRunner", HERE).run(tmp_path, [7], fail)
    assert str(caught.value).startswith(f"{tmp_path}: the DirectRunner failed (")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@with_beam
@pytest.mark.parametrize(
    ("option", "part"),
    [("direct_num_worker=2", "did you mean 'direct_num_workers'?"), ("direct_num_workers=two", "'two'")],
)
def test_an_option_that_cannot_be_read(option, part, capfd):
    with pytest.raises(InputError) as caught:
        pipelines.Pipeline("DirectRunner", [option])
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@with_beam
def test_another_runner_may_know_options_that_beam_does_not():
    pipelines.Pipeline("FlinkRunner", ["some_option_of_a_cluster=2"])


def _processes(tmp_path, work):
    """Runs six tasks on two worker processes, in a process of its own because a defect would be to wait for ever."""
    program = f"""
import functools, os, sys
from pathlib import Path
from dnabert_jax import cli
from dnabert_jax.data import pipelines
from tests.data import test_pipelines
def run():
    pipelines._SECONDS_TO_END = 5.0
    options = ["direct_running_mode=multi_processing", "direct_num_workers=2"]
    pipelines.Pipeline("DirectRunner", options).run(Path(sys.argv[1]), list(range(6)), {work})
    print(os.getpid())
sys.exit(cli._status(run))
"""
    return subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=600, check=False
    )


@with_beam
def test_tasks_are_done_by_other_processes(tmp_path):
    ended = _processes(tmp_path, "functools.partial(test_pipelines.leave, Path(sys.argv[1]))")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    workers = {(tmp_path / str(task)).read_text() for task in range(6)}
    assert ended.stdout.strip() not in workers


@with_beam
def test_a_worker_that_is_killed_ends_the_pipeline(tmp_path):
    ended = _processes(tmp_path, "test_pipelines.die")
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.startswith(f"error: {tmp_path}: a worker process of the DirectRunner was lost")
    assert ended.stderr.count("\n") == 1
