"""Runs of several processes, joined over loopback, against the same runs in one process."""

import dataclasses
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from dnabert_jax import hosts
from dnabert_jax.config import (
    FinetuneConfig,
    FinetunedEncoderConfig,
    HostsConfig,
    LabelledConfig,
    MeshConfig,
    PretrainConfig,
    from_json,
)
from dnabert_jax.errors import InputError, Interrupted
from dnabert_jax.training import pretrain
from tests import processes
from tests.training import runs
from tests.training.test_finetune import THREE, labelled

STEPS = 20
TIMEOUT_S = 1200.0
"""Of what takes seconds on a machine that is not busy."""

SLURM = {
    "SLURM_JOB_ID": "4097",
    "SLURM_STEP_NODELIST": "node[07-08]",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch):
    """Sets variables as a cluster does, and nothing else that would look like one."""
    others = (
        "KUBERNETES_SERVICE_HOST",
        "JOB_COMPLETION_INDEX",
        "TPU_WORKER_HOSTNAMES",
        "JAX_COORDINATOR_PORT",
        "CUDA_VISIBLE_DEVICES",
    )
    for name in (*SLURM, *others):
        monkeypatch.delenv(name, raising=False)

    def set_variables(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


def _found() -> tuple[Any, ...] | None:
    found = hosts._detected(HostsConfig(wait_s=1))
    return found and dataclasses.astuple(found)


def test_without_a_cluster_a_process_is_alone(cluster):
    assert _found() is None
    hosts.join(HostsConfig())
    assert (hosts.index(), hosts.count(), hosts.is_first()) == (0, 1, True)
    assert hosts.on_first(lambda: {1, 2}) == {1, 2}  # nothing but the call, so no JSON either
    assert hosts.exchange("word") == ["word"]
    assert [hosts.agree_all(True), hosts.agree_all(False)] == [True, False]
    hosts.check_same("here", {"a": 1})
    with pytest.raises(InputError, match=r"^mine$"), hosts.agreed():
        raise InputError("mine")


def test_a_coordinator_with_one_process_is_that_process_alone():
    hosts.join(HostsConfig("localhost:1", processes=1, process=0))
    assert hosts.count() == 1


def test_the_tasks_of_a_slurm_step(cluster):
    cluster(SLURM)
    coordinator, *rest = _found()
    assert coordinator.startswith("node07:")
    assert rest == [4, 3, [1]]


@pytest.mark.parametrize(
    "changes",
    [
        {"SLURM_STEP_TASKS_PER_NODE": "1(x4)", "SLURM_LOCALID": "0"},  # with all accelerators of a node
        {"CUDA_VISIBLE_DEVICES": "0"},  # as --gpus-per-task 1 shows each task its own
    ],
)
def test_a_slurm_task_takes_all_accelerators_that_are_its_own(cluster, changes):
    cluster({**SLURM, **changes})
    assert _found()[1:] == (4, 3, None)


@pytest.mark.parametrize("changes", [{"SLURM_NTASKS": "1"}, {"SLURM_STEP_NUM_TASKS": "1"}])
def test_a_slurm_shell_of_one_task_is_left_alone(cluster, changes):
    cluster({**SLURM, **changes})
    assert _found() is None


def test_a_pod_that_is_no_indexed_job_is_left_alone(cluster):
    cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _found() is None


def test_an_indexed_job_that_cannot_ask_kubernetes(cluster, monkeypatch):
    cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"})
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(InputError, match=r"pip install 'dnabert-jax\[k8s\]'.*--hosts\.detect False to run alone$"):
        _found()


def test_the_hosts_of_a_tpu_slice(cluster, monkeypatch):
    tpu = pytest.importorskip("jax._src.clusters.cloud_tpu_cluster")
    monkeypatch.setattr(tpu, "running_in_cloud_tpu_vm", True)
    cluster({"TPU_WORKER_HOSTNAMES": "localhost,localhost", "TPU_WORKER_ID": "1", "MEGASCALE_COORDINATOR_ADDRESS": ""})
    cluster({"MEGASCALE_NUM_SLICES": "1", "MEGASCALE_SLICE_ID": "0"})
    coordinator, count, index, _ = _found()
    assert coordinator.startswith("localhost:")
    assert (count, index) == (2, 1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"processes": 2}, "hosts.processes is 2; expected hosts.coordinator HOST:PORT beside it"),
        ({"process": 0}, "hosts.process is 0; expected hosts.coordinator HOST:PORT beside it"),
        ({"coordinator": "host"}, "hosts.coordinator is 'host'; expected HOST:PORT of process 0"),
        ({"coordinator": "host:0"}, "hosts.coordinator is 'host:0'; expected HOST:PORT of process 0"),
        ({"coordinator": "h:1", "process": 0}, "hosts.processes is 0; expected how many processes there are"),
        (
            {"coordinator": "h:1", "processes": 2},
            "hosts.process is -1; expected the number of this process, from 0 to 1",
        ),
        ({"coordinator": "h:1", "processes": 2, "process": 2}, "hosts.process is 2; expected the number"),
        ({"wait_s": 0}, "wait_s is 0; expected more than 0"),
    ],
)
def test_flags_that_do_not_go_together(values, said):
    with pytest.raises(InputError) as caught:
        HostsConfig(**values)
    assert str(caught.value).startswith(said)


@pytest.mark.slow
def test_what_processes_tell_each_other():
    done = processes.run(["-m", "tests.host_words"], 2, 2, TIMEOUT_S)
    assert [each.status for each in done] == [0, 0], [each.stderr for each in done]
    first, second = (json.loads(each.stderr.splitlines()[-1]) for each in done)
    assert (first.pop("place"), second.pop("place")) == ([0, 2, True], [1, 2, False])
    for name in ("value", "all", "agree", "none", "same"):
        assert first[name] == second[name], name
    assert first["value"] == {"from": 0}
    assert first["all"] == [0, 10]
    assert first["agree"] == [True, False]
    assert first["none"] == first["same"] == []
    # Kind, line, and whether another process says it: what the first met only that says.
    assert (first["first_raises"], second["first_raises"]) == (
        ["InputError", "refused by 0", False],
        ["InputError", "refused by 0", True],
    )
    for name in ("both", "first_left"):
        assert (first[name], second[name]) == (first["first_raises"], second["first_raises"])
    # What another met alone is said by both, in whose logs one looks.
    for name in ("one", "other_left"):
        assert first[name] == ["InputError", "process 1 of 2: refused by 1", False]
        assert second[name] == ["InputError", "refused by 1", False]
    assert first["other"][1] == (
        "process 1 of 2: here: not what process 0 has: b (0 → 1); expected the same for every process"
    )
    rows = {tensor: [each["meshes"][tensor]["rows"] for each in (first, second)] for tensor in ("1", "2", "4")}
    halves = [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert rows == {"1": halves, "2": halves, "4": [list(range(8))] * 2}
    for found in (*first["meshes"].values(), *second["meshes"].values()):
        assert found["same"]
        assert found["stopped"] == [None] * 4 + ["SIGHUP to process 1 of 2"] * 2  # the same call on both


def _train(config: PretrainConfig | FinetuneConfig, folder: Path, *flags: str) -> list[str]:
    """Arguments of Python that train by a recipe of this config."""
    command = "train" if isinstance(config, PretrainConfig) else "finetune"
    return ["-m", "dnabert_jax", command, str(runs.recipe(config, folder / "recipe.py")), *flags]


def _signalled(step: int, process: int, arguments: list[str]) -> list[str]:
    return ["-m", "tests.signalled", str(step), str(process), *arguments[2:]]


def _assert_silent(others: list[processes.Finished]) -> None:
    assert [(each.stdout, each.stderr) for each in others] == [("", "")] * len(others)


def _assert_same_figures(found: str | Path, expected: str | Path, rel: float) -> None:
    """Every report of two runs, to float tolerance: on another mesh Adam enlarges what rounding does to a gradient."""
    for a, b in zip(runs.metrics(found), runs.metrics(expected), strict=True):
        assert a.keys() == b.keys()
        for name, value in b.items():
            if isinstance(value, float):  # of two logits that are next to equal, either may win
                value = pytest.approx(value, rel=rel, abs=0.03 if "accuracy" in name else 1e-4)
            assert a[name] == value, (name, b["step"])


@pytest.fixture(scope="module")
def config(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> PretrainConfig:
    """Twenty steps with dropout, each of which is reported."""
    folder = tmp_path_factory.mktemp("alone")
    return runs.pretraining(shards, folder / "workdir", steps=STEPS, report_every=1, validate_every=8, save_every=16)


@pytest.fixture(scope="module")
def alone(config: PretrainConfig) -> PretrainConfig:
    """The run in one process, on four devices."""
    (done,) = processes.run(_train(config, Path(config.workdir).parent), 1, 4, TIMEOUT_S)
    assert (done.status, done.stderr) == (0, "")
    return config


def _in(workdir: Path, config: Any, **changes: Any) -> Any:
    return dataclasses.replace(config, workdir=str(workdir), **changes)


@pytest.mark.slow
def test_two_processes_train_as_one(alone, tmp_path):
    config = _in(tmp_path / "workdir", alone)
    first, *others = processes.run(_train(config, tmp_path), 2, 2, TIMEOUT_S)
    assert [first.status, *(each.status for each in others)] == [0, 0], [first.stderr, *others]
    assert f"step {STEPS}/{STEPS}  validation" in first.stdout
    assert first.stderr == ""
    _assert_silent(others)
    _assert_same_figures(config.workdir, alone.workdir, rel=1e-4)
    assert len(runs.metrics(config.workdir)) == STEPS + 4
    written = from_json(PretrainConfig, (tmp_path / "workdir" / "config.json").read_text(), "config.json")
    assert written == config  # and nothing of where the processes met
    one, two = (json.loads((Path(each) / "result.json").read_text()) for each in (alone.workdir, config.workdir))
    assert two["parameters"] == one["parameters"]
    assert two["validation"] == pytest.approx(one["validation"], rel=1e-3)


@pytest.mark.slow
def test_a_signal_to_one_process_saves_and_stops_all_after_the_same_step(alone, tmp_path):
    config = _in(tmp_path / "workdir", alone)
    first, *others = processes.run(_signalled(6, 1, _train(config, tmp_path)), 2, 2, TIMEOUT_S)
    assert [first.status, *(each.status for each in others)] == [75, 75], [first.stderr, *others]
    assert first.stderr == (
        "stopped by SIGTERM to process 1 of 2: saved step 8; start again with the same command to go on from there\n"
    )
    _assert_silent(others)
    said = []
    pretrain.run(config, said.append)  # goes on in one process with one device
    assert said == ["resuming from step 8"]
    _assert_same_figures(config.workdir, alone.workdir, rel=5e-3)


@pytest.mark.slow
def test_two_processes_go_on_with_the_run_of_one_and_share_rows_over_tensor(alone, tmp_path):
    config = _in(tmp_path / "workdir", alone)
    with runs.stopped_in(7), pytest.raises(Interrupted, match="saved step 7"):
        pretrain.run(config, runs.no_word)
    on_mesh = dataclasses.replace(config, mesh=MeshConfig(tensor=4))
    first, *others = processes.run(_train(on_mesh, tmp_path), 2, 2, TIMEOUT_S)
    assert [first.status, *(each.status for each in others)] == [0, 0], [first.stderr, *others]
    assert first.stderr == "resuming from step 7\n"
    _assert_silent(others)
    _assert_same_figures(config.workdir, alone.workdir, rel=5e-3)


@pytest.mark.slow
def test_two_processes_fine_tune_as_one(alone, tmp_path):
    files = {
        name: labelled(tmp_path / f"{name}.tsv", count, THREE, seed)
        for seed, (name, count) in enumerate({"train": 45, "validation": 21, "test": 27}.items())
    }
    config = FinetuneConfig(
        workdir=str(tmp_path / "one"),
        init=alone.workdir,
        encoder=FinetunedEncoderConfig(compute_dtype="float32"),
        batch_size=16,
        epochs=2,
        learning_rate=5e-3,
        report_every=2,
        data=LabelledConfig(**files),
    )
    (one,) = processes.run(_train(config, tmp_path), 1, 4, TIMEOUT_S)
    assert one.status == 0, one.stderr
    config = _in(tmp_path / "two", config)
    first, *others = processes.run(_train(config, tmp_path), 2, 2, TIMEOUT_S)
    assert [first.status, *(each.status for each in others)] == [0, 0], [first.stderr, *others]
    assert first.stderr == one.stderr
    _assert_silent(others)
    _assert_same_figures(tmp_path / "two", tmp_path / "one", rel=1e-3)
    one, two = (json.loads((tmp_path / each / "result.json").read_text()) for each in ("one", "two"))
    assert two["best_epoch"] == one["best_epoch"]
    assert two["mcc"] == pytest.approx(one["mcc"], abs=1e-3)
    tables = [(tmp_path / each / "predictions.tsv").read_text().splitlines() for each in ("one", "two")]
    assert [line.split("\t")[0] for line in tables[0]] == [line.split("\t")[0] for line in tables[1]]
    assert len(tables[0]) == 1 + 27


@pytest.mark.slow
def test_what_one_process_meets_alone_ends_all_with_a_line(config, tmp_path):
    (tmp_path / "data-0").symlink_to(config.data.path)
    arguments = _train(_in(tmp_path / "workdir", config), tmp_path, "--data.path", str(tmp_path / "data-{process}"))
    first, second = processes.run(arguments, 2, 1, TIMEOUT_S)
    assert [first.status, second.status] == [2, 2]
    assert first.stderr.startswith(f"error: process 1 of 2: {tmp_path / 'data-1'}")
    assert second.stderr == first.stderr.replace("error: process 1 of 2:", "process 1 of 2: error:")
    assert first.stderr.count("\n") == 1
    assert not (tmp_path / "workdir").exists()


@pytest.mark.slow
def test_a_process_that_never_comes(config, tmp_path):
    port = processes.free_port()
    flags = ["--hosts.coordinator", f"127.0.0.1:{port}", "--hosts.processes", "2", "--hosts.wait_s", "2"]
    arguments = _train(_in(tmp_path / "workdir", config), tmp_path, *flags)
    (first,) = processes.run([*arguments, "--hosts.process", "0"], 1, 1, TIMEOUT_S)
    assert (first.status, first.stdout) == (1, "")
    assert first.stderr == f"error: process 1 of 2 did not come to 127.0.0.1:{port} within 2 s\n"
    (second,) = processes.run([*arguments, "--hosts.process", "1"], 1, 1, TIMEOUT_S)
    assert (second.status, second.stdout) == (1, "")
    assert second.stderr.startswith(f"error: process 1 of 2 did not find process 0 at 127.0.0.1:{port} within 2 s;")
    assert second.stderr.count("\n") == 1
    assert not (tmp_path / "workdir").exists()
