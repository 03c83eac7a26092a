"""The launch scripts, as far as they can be tried without a cluster: what they run, and what its status leads to."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dnabert_jax import cli, flags, lost, recipes
from dnabert_jax.config import FinetuneConfig, PretrainConfig

SCRIPTS = Path(__file__).parents[1] / "scripts"
KINDS = {"train": PretrainConfig, "finetune": FinetuneConfig}


def config_of(arguments: list[str]) -> Any:
    """The config that the `dnabert` command has for these arguments; InputError where a flag is none."""
    program, recipe, *rest = arguments
    return flags.override(recipes.load(recipe, KINDS[program]), rest, program)


def slurm(folder: Path, status: int, restarts: int = 0) -> tuple[int, list[str]]:
    """Runs slurm.sh where srun ends with `status`.

    Returns:
      The script's own status, and the commands that it called, a line each.
    """
    calls = folder / "calls"
    for name, ends in (("srun", status), ("scontrol", 0)):
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >> "{calls}"\nexit {ends}\n')
        (folder / name).chmod(0o755)
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "HOME": str(folder),
        "SLURM_JOB_ID": "17",
        "SLURM_CPUS_PER_TASK": "6",
        "SLURM_RESTART_COUNT": str(restarts),
    }
    ended = subprocess.run(
        ["bash", str(SCRIPTS / "slurm.sh"), "train", "dnabert6", "--workdir", "a folder"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stderr == ""
    return ended.returncode, calls.read_text().splitlines()


@pytest.mark.parametrize(
    ("status", "restarts", "queued_again"),
    [
        (0, 0, False),
        (1, 0, False),
        (2, 0, False),
        (cli.INTERRUPTED, 0, True),
        (cli.INTERRUPTED, 1000, True),
        (lost.LOST, 0, True),
        (lost.LOST, 1000, False),
        (137, 0, True),
        (137, 1000, False),
    ],
)
def test_slurm_queues_the_job_again_after_what_a_new_start_mends(tmp_path, status, restarts, queued_again):
    found, calls = slurm(tmp_path, status, restarts)
    assert found == status
    assert calls[0] == "srun --kill-on-bad-exit=0 --cpus-per-task=6 dnabert train dnabert6 --workdir a folder"
    assert calls[1:] == (["scontrol requeue 17"] if queued_again else [])


def test_slurm_reads_every_directive_and_what_it_names_is_there():
    lines = (SCRIPTS / "slurm.sh").read_text().splitlines()
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert directives
    assert max(directives) < first_command  # sbatch reads no further
    assert sum("EDIT:" in line for line in lines) == 1
    options = dict(lines[number].removeprefix("#SBATCH --").partition("=")[::2] for number in directives)
    assert options["ntasks-per-node"] == "1"
    assert options["signal"].startswith("TERM@")  # to the processes of the step and not to the script
    assert {"requeue", "nodes", "gpus-per-node", "time"} <= options.keys()


def test_the_commands_in_slurm_sh_are_read_by_the_programs():
    commands = re.findall(r"^# +sbatch scripts/slurm.sh (.+?)(?: \.\.\.)?$", (SCRIPTS / "slurm.sh").read_text(), re.M)
    assert [command.split()[0] for command in commands] == ["train", "finetune"]
    for command in commands:
        assert config_of(command.split()).workdir.startswith("/shared/")


def test_the_commands_in_the_docs_are_read_by_bash_and_by_the_programs():
    text = (SCRIPTS.parent / "docs" / "clusters.md").read_text()
    blocks = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S))
    read = subprocess.run(["bash", "-n"], input=blocks, capture_output=True, text=True, timeout=60)
    assert (read.returncode, read.stderr) == (0, "")
    lines = blocks.replace("\\\n", " ").replace('"$number"', "0").splitlines()
    found = [re.search(r"\bdnabert ((?:train|finetune) [^>&]+)", line) for line in lines]
    commands = [each[1].split() for each in found if each and "pkill" not in each.string]
    assert len(commands) == 2
    for command in commands:
        assert config_of(command).workdir


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    """The objects of gke.yaml by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((SCRIPTS / "gke.yaml").read_text())}


@pytest.fixture(scope="module")
def job(manifest) -> dict[str, Any]:
    (hosts,) = manifest["JobSet"]["spec"]["replicatedJobs"]
    return hosts["template"]["spec"]


def test_kubernetes_numbers_the_pods_as_jax_looks_for_them(manifest, job):
    assert job["completionMode"] == "Indexed"
    assert job["completions"] == job["parallelism"]
    assert job["backoffLimit"] == 0  # a pod by itself cannot come back into a run
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    account = manifest["ServiceAccount"]["metadata"]["name"]
    assert job["template"]["spec"]["serviceAccountName"] == account
    assert [each["name"] for each in manifest["RoleBinding"]["subjects"]] == [account]
    assert manifest["RoleBinding"]["roleRef"]["name"] == manifest["Role"]["metadata"]["name"]
    readable = {resource for rule in manifest["Role"]["rules"] for resource in rule["resources"]}
    assert readable >= {"pods", "jobs"}


def test_kubernetes_runs_a_command_that_the_program_reads(job):
    (container,) = job["template"]["spec"]["containers"]
    assert container["command"] == ["dnabert"]  # no shell between it and SIGTERM
    config = config_of(container["args"])
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounts.keys() == {each["name"] for each in job["template"]["spec"]["volumes"]}
    for place in (config.workdir, config.data.path, container["env"][0]["value"]):
        assert place.startswith(f"{mounts['shared']}/")


@pytest.mark.parametrize(
    ("status", "action"),
    [
        (2, "FailJobSet"),
        (cli.INTERRUPTED, "RestartJobSetAndIgnoreMaxRestarts"),
        (lost.LOST, None),  # a restart that counts
        (1, None),
    ],
)
def test_kubernetes_starts_again_after_what_a_new_start_mends(manifest, job, status, action):
    (container,) = job["template"]["spec"]["containers"]
    on_exit = next(rule["onExitCodes"] for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule)
    assert on_exit["containerName"] == container["name"]
    assert on_exit["operator"] == "In"
    reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    if status in on_exit["values"]:
        reason = "PodFailurePolicy"
        message = f"Container dnabert for pod default/x failed with exit code {status} matching FailJob rule at index 0"
    policy = manifest["JobSet"]["spec"]["failurePolicy"]
    assert policy["maxRestarts"] > 0

    def holds(rule: dict[str, Any]) -> bool:
        patterns = rule.get("onJobFailureMessagePatterns", [""])
        return reason in rule["onJobFailureReasons"] and any(re.search(each, message) for each in patterns)

    assert next((rule["action"] for rule in policy["rules"] if holds(rule)), None) == action
