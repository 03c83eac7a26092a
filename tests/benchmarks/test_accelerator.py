import argparse
import contextlib
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import time
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import environment
import jobs
import minutes
import pytest
import unattended
import variants

from dnabert_jax import embedded

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable


# --- the environment ---


def test_what_is_needed_is_what_the_project_says(tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert environment.requirements() == project["dependencies"]
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["numpy>=2", "einops"]\n')
    assert environment.requirements(tmp_path / "pyproject.toml") == ["numpy>=2", "einops"]
    scripts = "".join((ROOT / "benchmarks" / name).read_text() for name in ("accelerator.sh", "environment.py"))
    assert not [each for each in ("orbax", "pysam", "tensorflow", "grain", "pyarrow") if each in scripts]


def test_jax_and_torch_stay_as_they_are():
    held = environment.constraints()
    assert f"jax=={metadata.version('jax')}" in held
    assert any(line.startswith("jaxlib==") for line in held)
    assert not any(line.startswith(("numpy==", "flax==")) for line in held)


@pytest.mark.parametrize(
    "name", ["jax", "jaxlib", "jax-cuda13-plugin", "torch", "nvidia-cudnn-cu13", "libtpu", "triton"]
)
def test_what_belongs_to_the_driver_is_kept(name):
    assert environment.KEPT.fullmatch(name)


def _wheel(folder: Path, name: str, version: str, *needs: str) -> None:
    """A wheel with nothing in it but a module of its name."""
    about = f"{name}-{version}.dist-info"
    needed = "".join(f"Requires-Dist: {each}\n" for each in needs)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "")
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")


@pytest.mark.slow
def test_an_environment_has_the_machines_packages_and_those_of_the_wheels(tmp_path):
    python, wheels = environment.make(tmp_path / "env"), tmp_path / "wheels"
    wheels.mkdir()
    _wheel(wheels, "needed_for_a_test", "1.0", "jax", "needed_too_for_a_test")
    _wheel(wheels, "needed_too_for_a_test", "2.0")
    _wheel(wheels, "jax", "99.0")  # newer than the machine's
    wanted = ["numpy>=2", "needed-for-a-test", "no-such-package-of-any-name>=1", "jax>=0.7"]
    assert environment.install(python, wanted, wheels) == ["no-such-package-of-any-name>=1"]

    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]), sys.prefix)"
    command = [python, "-c", code, "jax", "numpy", "needed-too-for-a-test"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert found == [metadata.version("jax"), metadata.version("numpy"), "2.0", str(tmp_path / "env")]


# --- jobs ---


def test_a_job_tells_how_it_ended_and_leaves_its_output_in_the_log(tmp_path):
    log = tmp_path / "log.txt"
    code = "import os, sys; print('done', os.environ['COLOUR']); sys.exit(3)"
    ended = jobs.run([PYTHON, "-c", code], log, 60, {"COLOUR": "red"})
    assert (ended.status, ended.output) == (3, "done red\n")
    jobs.run([PYTHON, "-c", "print('second')"], log, 60)
    lines = log.read_text().splitlines()
    assert lines[1].startswith("$ COLOUR='red' ")
    assert next(line for line in lines if line.startswith("# ")).startswith("# exit status 3, ")
    assert lines.index("done red") < lines.index("second")


def test_a_job_whose_time_is_over_is_asked_to_stop(tmp_path):
    heard: list[float] = []
    ended = jobs.run(["sleep", "600"], tmp_path / "log.txt", 0.5, grace_s=300, meanwhile=heard.append)
    assert ended.status is None
    assert ended.seconds < 300  # it ended upon SIGTERM and was not waited for
    assert ended.why.startswith("not done within ")
    assert heard == sorted(heard)
    assert len(heard) > 1
    assert "its time was over" in (tmp_path / "log.txt").read_text()


def test_a_job_leaves_nothing_behind_where_the_program_around_it_is_stopped(tmp_path):
    code = "trap '' TERM; sleep 600 & echo $! > begun.tmp; mv begun.tmp begun; wait; sleep 600"

    def stop(seconds: float) -> None:
        if (tmp_path / "begun").exists():
            raise SystemExit(143)

    with pytest.raises(SystemExit):
        jobs.run(["bash", "-c", f"cd {tmp_path}; {code}"], tmp_path / "log.txt", 600, meanwhile=stop)
    state = Path("/proc", (tmp_path / "begun").read_text().strip(), "stat")
    for _ in range(600):  # a killed process is gone a moment later
        with contextlib.suppress(OSError):
            if state.read_text().rsplit(")", 1)[1].split()[0] != "Z":
                time.sleep(0.1)
                continue
        return
    pytest.fail("a process was left behind")


def test_the_line_of_an_error_says_why():
    output = "Traceback\nerror: encoder.attention 'cudnn' runs on a GPU\nbye\n\n"
    assert jobs.Ended(2, 1.0, output).why == "encoder.attention 'cudnn' runs on a GPU"
    assert jobs.Ended(-6, 1.0, "").why == "exit status -6"


# --- variants ---


def test_variants_have_names_of_their_own_and_predictions_that_the_docs_give():
    found = variants.variants()
    assert len({each.name for each in found}) == len(found)
    docs = (ROOT / "docs" / "performance.md").read_text()
    for each in found:
        assert f"`{each.name}`" in docs
        assert each.prediction in docs, each.name


def test_every_kernel_that_can_be_chosen_is_tried():
    names = {each.name for each in variants.variants()}
    assert {"attention-xla", "attention-cudnn", "attention-pallas"} <= names
    assert "attention-auto" not in names


def test_the_flags_of_variants_make_valid_encoders():
    from dnabert_jax import flags
    from dnabert_jax.config import PretrainConfig

    changes = [flag for each in variants.variants() for flag in each.encoder if each.name != "remat-full"]
    config = flags.override(PretrainConfig(), changes, "train")
    assert not config.encoder.scan_layers
    assert config.encoder.remat == "dots_saveable"


@pytest.mark.slow
def test_xla_knows_the_flags_of_all_variants():
    joined = variants.environment(variants.variants(), {})["XLA_FLAGS"]
    code = "import jax.numpy as jnp; print(float(jnp.ones(3).sum()))"
    environ = os.environ | {"XLA_FLAGS": joined, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([PYTHON, "-c", code], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_best_has_the_fastest_of_each_axis_that_gained():
    gains = {
        "unrolled": 1.05,
        "half-batch": 1.02,
        "quarter-batch": 1.03,
        "attention-pallas": 1.005,  # within noise
        "remat-dots": 0.95,
        "synthetic": 1.2,  # other work: it only tells what the input costs
        "latency-hiding": 1.02,
        "cublas-only": 1.04,
    }
    chosen = variants.combined(gains)
    assert {each.name for each in chosen} == {"unrolled", "quarter-batch", "latency-hiding", "cublas-only"}
    assert variants.batch_size(chosen, 512) == 128
    found = variants.environment(chosen, {"XLA_FLAGS": "--mine=1"})["XLA_FLAGS"].split()
    assert found[0] == "--mine=1"
    assert set(found[1:]) == {"--xla_gpu_enable_latency_hiding_scheduler=true", "--xla_gpu_enable_triton_gemm=false"}
    assert variants.combined({}) == []


# --- minutes ---


def test_the_plan_fills_the_time():
    seconds, speed = 375.0, 900_000.0
    plan = minutes.plan(seconds, speed, 512, 512)
    assert (plan.rows, plan.accumulation) == (256, 1)
    spent = plan.steps * plan.rows * 512 / speed
    assert 0.8 * 300 < spent <= 0.85 * 300
    assert minutes.plan(seconds, speed, 512, 100).accumulation == 4
    assert minutes.plan(seconds, 9_000.0, 512, 512).rows < 256
    assert minutes.plan(seconds, 10.0, 512, 512) is None
    assert minutes.plan(10.0, speed, 512, 512) is None


def test_the_plan_is_flags_of_the_training_program():
    from dnabert_jax import flags
    from dnabert_jax.config import PretrainConfig

    config = flags.override(PretrainConfig(), minutes.Plan(1000, 256, 2).flags, "train")
    assert (config.batch_size, config.accumulation, config.loop.steps, config.loop.validate_every) == (
        256,
        2,
        1000,
        100,
    )
    assert config.optimizer.decay_steps == 1000


def test_the_curve_takes_each_validation_once_and_waits_for_whole_lines(tmp_path):
    file, said = tmp_path / "metrics.jsonl", []
    curve = minutes.Curve(file, 100, said.append)
    curve.look(1.0)
    lines = [{"step": 0, "split": "validation", "bits_per_base": 2.0}, {"step": 5, "split": "train"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 5, "split": "valid')
    curve.look(30.0)
    curve.look(60.0)
    assert said == [{"minutes": 0.5, "step": 0, "tokens": 0, "bits_per_base": 2.0}]
    lines.append({"step": 5, "split": "validation", "bits_per_base": 1.9})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    curve.look(90.0)
    assert curve.points == said
    assert said[1] == {"minutes": 1.5, "step": 5, "tokens": 500, "bits_per_base": 1.9}


def test_the_end_of_the_first_record_is_held_out(tmp_path):
    (tmp_path / "two.fa").write_text(">one of two\n" + "ACGT" * 100 + "\n>two\nACGT\n")
    assert minutes.held_out(tmp_path / "two.fa") == "one:381-400"
    name, region = minutes.held_out(embedded.FASTA).split(":")
    first, last = map(int, region.split("-"))
    assert name == "20"
    assert last == 4_194_304
    assert last - first + 1 == 4_194_304 // 20


# --- phases ---


@pytest.mark.parametrize("phases", [list(unattended.PHASES), ["pretrain"], ["main", "best"]])
def test_the_phases_share_all_of_the_time(phases):
    found = unattended.deadlines(1000.0, 1500.0, phases)
    assert list(found) == phases
    assert list(found.values()) == sorted(found.values())
    assert found[phases[-1]] == pytest.approx(1000 + 1500 - 45)
    assert unattended.deadlines(0.0, 60.0, phases)[phases[-1]] == pytest.approx(54)


def _figures(useful: float, rows: int = 8) -> dict:
    return {
        "name": unattended.WORKLOAD,
        "batch_size": rows,
        "step_time_ms": 10.0,
        "step_time_ms_p10": 9.0,
        "step_time_ms_p90": 11.0,
        "tokens_per_second": useful,
        "useful_tokens_per_second": useful,
        "model_flops_utilization": 0.5,
        "model_flops_utilization_published": None,
        "peak_memory_gib": 1.0,
        "compile_time_s": 2.0,
        "peer": None,
    }


class _Bench:
    """Stands for `dnabert bench`: notes its flags and answers from a table by the name of the output."""

    def __init__(self, answers: dict[str, list[float | str]]) -> None:
        self.answers, self.calls = answers, []

    def __call__(self, command, log, limit_s, environment=None, **_):
        if "compare" in command:
            return jobs.Ended(0, 0.1, "compared")
        flags = argparse.ArgumentParser()
        flags.add_argument("--output", type=Path)
        flags.add_argument("--batch-size", type=int, default=8)
        known, _ = flags.parse_known_args(command[2:])
        name = known.output.stem
        self.calls.append((name, known.batch_size, environment or {}))
        answer = self.answers[name].pop(0)
        if isinstance(answer, str):
            return jobs.Ended(1, 0.1, answer)
        figures = _figures(answer, known.batch_size)
        if name == "peer":
            theirs = {"name": "eager, flash | attention", "step_time_ms": 20.0, "useful_tokens_per_second": 50.0}
            none = {"name": "eager, cudnn", "step_time_ms": None, "useful_tokens_per_second": None}
            ratio = {"ratio": 2.0, "low": 1.9, "high": 2.1}
            figures["peer"] = [
                theirs | {"skipped": None, "ours_per_theirs": ratio},
                none | {"skipped": "no such kernel", "ours_per_theirs": None},
            ]
        known.output.write_text(json.dumps({"workloads": [figures]}))
        return jobs.Ended(0, 0.1, "")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose programs are answered from a table."""

    def start(answers):
        bench = _Bench(answers)
        monkeypatch.setattr(jobs, "run", bench)
        tried = ("unrolled", "attention-xla", "latency-hiding")
        size = dataclasses.replace(unattended.SIZES["tiny"], tried=tried, peer=True)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
        return unattended.Run(tmp_path, size, time.time()), bench

    return start


def test_a_variant_that_fails_costs_itself_only_and_the_others_are_combined(run):
    here, bench = run(
        {
            "main": [100.0],
            "peer": [100.0],
            "compile": [1.0],
            "variant-unrolled": [110.0],
            "variant-attention-xla": ["RESOURCE_EXHAUSTED: out of memory", 50.0],
            "variant-latency-hiding": ["Unknown flag in XLA_FLAGS: --no-such"],
            "best": [112.0],
        }
    )
    until = time.time() + 600
    assert unattended.measure_main(here, until)
    unattended.measure_variants(here, until)
    unattended.measure_best(here, until)
    rows = [(name, rows) for name, rows, _ in bench.calls]
    assert ("variant-attention-xla", 8) in rows
    assert ("variant-attention-xla", 4) in rows
    assert bench.calls[-1][0] == "best"

    table = (here.out / "table.md").read_text()
    assert "| eager, flash / attention | 20.00 | 50 | 2.00 (1.90 to 2.10) |" in table
    assert "| eager, cudnn | no such kernel |  |  |" in table
    assert "| 1.100 |" in table
    assert "Unknown flag in XLA_FLAGS: --no-such" in table
    assert "Chosen: unrolled." in table
    summary = json.loads((here.out / "summary.json").read_text())
    ratios = {each["name"]: each.get("ratio") for each in summary["variants"]}
    assert ratios == pytest.approx({"unrolled": 1.1, "attention-xla": 0.5, "latency-hiding": None})
    assert summary["best"]["chosen"] == ["unrolled"]
    assert summary["best"]["ratio"] == pytest.approx(1.12)


def test_without_time_nothing_is_begun_and_the_table_says_so(run):
    here, bench = run({"main": [100.0], "peer": ["error: no"], "compile": [1.0]})
    unattended.measure_main(here, time.time() + 600)
    unattended.measure_variants(here, time.time())
    unattended.measure_best(here, time.time())
    assert [name for name, *_ in bench.calls] == ["main", "peer", "compile"]
    assert "no time was left" in (here.out / "table.md").read_text()


def test_a_run_without_main_figures_says_so(run):
    here, _ = run({"main": ["error: first", "error: second"]})
    assert not unattended.measure_main(here, time.time() + 600)
    unattended.measure_variants(here, time.time() + 600)
    table = (here.out / "table.md").read_text()
    assert "not measured: " in table
    assert "No variants" in table


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--out"], "--out"),
        (["--fasta", "no-such.fa"], "no-such.fa"),
        (["--wheels", "no-such"], "no-such"),
        (["--python", "no-such"], "no-such"),
    ],
)
@pytest.mark.slow
def test_bad_flags_are_told(tmp_path, flags, said):
    out = [] if "--out" in flags else ["--out", str(tmp_path / "out")]
    command = ["bash", str(ROOT / "benchmarks" / "accelerator.sh"), *out, "--python", PYTHON, *flags]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr + done.stdout


def test_help_installs_nothing(tmp_path):
    command = ["bash", str(ROOT / "benchmarks" / "accelerator.sh"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--wheels DIR" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_whole_script_on_the_cpu(tmp_path):
    out = tmp_path / "out"
    # The minutes are many more than it takes; tiny has few things to do and ends by itself.
    command = ["bash", str(ROOT / "benchmarks" / "accelerator.sh"), "--out", str(out), "--python", PYTHON]
    command += ["--minutes", "40", "--size", "tiny"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    log = (out / "log.txt").read_text()
    assert done.returncode == 0, log[-5000:]
    table = (out / "table.md").read_text()
    assert f"| {unattended.COMPILE} | not measured" not in table, log[-5000:]
    for title in ("## Workloads", "## What was tried", "## The best together", "## Pretraining"):
        assert title in table
    for name in (*unattended.WORKLOADS, unattended.COMPILE):
        assert f"| {name} | " in table
    assert not [name for name in unattended.WORKLOADS if f"| {name} | not measured" in table], log[-5000:]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["main"]["useful_tokens_per_second"] > 0
    by_name = {each["name"]: each for each in summary["variants"]}
    assert "failed" in by_name["attention-cudnn"]  # there is none on a CPU
    assert by_name["latency-hiding"]["ratio"] > 0
    steps = [point["step"] for point in summary["pretraining"]["validations"]]
    assert steps[0] == 0
    assert steps[-1] == unattended.SIZES["tiny"].plan.steps
    assert all(0 < point["bits_per_base"] < 4 for point in summary["pretraining"]["validations"])
