"""Everything there is to measure on an accelerator, one thing after another within a number of minutes.

`accelerator.sh` runs this in an environment with the packages. It has four phases, each with a share of the time; what
one leaves is the next one's:

    main      the workloads of `dnabert bench`, and the first of them again in turn with its peer in PyTorch
    variants  the first workload again with each of `variants.py`, one at a time
    best      the variants that gained, together, and `dnabert bench compare` with the first measurement
    pretrain  DNABERT from random params for the time that is left: bits per base against minutes

Each program runs in a process of its own with a limit of its own, so one that hangs, aborts or runs out of memory costs
itself only. `table.md`, `summary.json` and `log.txt` are written as it goes: a run that is killed leaves what it had.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jobs
import minutes
import variants
from variants import Variant

from dnabert_jax import outputs

PHASES = {"main": 0.48, "variants": 0.26, "best": 0.08, "pretrain": 0.18}
"""Share of the time."""

_LEAST_S = 5.0
"""Nothing is begun in less time than this."""

_COMPILED_S = 120.0
"""Of a variant at base size that does not hang: it has started, compiled and run."""

WORKLOADS = (
    "pretrain-base-512",
    "pretrain-base-512-padded",
    "finetune-base-128",
    "predict-base-512",
    "input-pipeline",
)
WORKLOAD = WORKLOADS[0]
"""What is tried out, and set beside the peer."""
COMPILE = "compile"
"""Measured last, for how long its step takes to compile the first workload says, too."""


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
      bench: flags of `dnabert bench` and of `one_workload.py`.
      main: more flags of the first measurement.
      peer: whether the peer is measured where it is installed.
      steps: timed steps of the main and the last measurement, and of each variant.
      tried: names of the variants; empty for all.
      recipe: of pretraining, with flags.
      row_length: tokens of its rows.
      plan: of pretraining; None follows from the time and the speed.
    """

    bench: tuple[str, ...]
    main: tuple[str, ...]
    peer: bool
    steps: tuple[int, int]
    tried: tuple[str, ...]
    recipe: tuple[str, ...]
    row_length: int
    plan: minutes.Plan | None = None


SIZES = {
    "base": Size(
        bench=(),
        main=(),
        peer=True,
        steps=(30, 12),
        tried=(),
        # Attention dropout 0 and one rate of masking, as in the workload; a lower peak than the paper's, whose steps
        # have eight times the rows.
        recipe=(
            "dnabert6",
            "--encoder.attention_dropout", "0",
            "--masking.late_rate", "0.15",
            "--optimizer.learning_rate", "2e-4",
            "--loop.validation_rows", "1024",
        ),
        row_length=512,
    ),
    "tiny": Size(
        bench=("--quick",),
        main=("--no-breakdown",),
        peer=False,  # PyTorch takes minutes to compile on a CPU
        steps=(3, 2),
        tried=("attention-cudnn", "latency-hiding"),
        recipe=(
            "demo", "--row_length", "128", "--encoder.max_length", "128", "--loop.validation_rows", "8",
        ),
        row_length=128,
        plan=minutes.Plan(steps=4, rows=8),
    ),
}  # fmt: skip


class Run:
    """The state of a run and where it is written.

    Args:
      out: folder; it exists.
      size: how much is done.
      began: when, in seconds since 1970.
    """

    def __init__(self, out: Path, size: Size, began: float) -> None:
        self.out, self.size = out, size
        self.log = out / "log.txt"
        self._summary = out / "summary.json"
        self.summary: dict[str, Any] = json.loads(self._summary.read_text()) if self._summary.exists() else {}
        self.summary.setdefault("began", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)))

    def write(self, *lines: str) -> None:
        """Adds lines to the table, the log and the terminal."""
        text = "".join(f"{line}\n" for line in lines)
        for file in (self.out / "table.md", self.log):
            with open(file, "a", encoding="utf-8") as at_end:
                at_end.write(text)
        print(text, end="", flush=True)

    def keep(self, **entries: Any) -> None:
        """Adds entries to the summary."""
        self.summary |= entries
        with outputs.file(self._summary) as temporary:
            temporary.write_text(json.dumps(self.summary, indent=2) + "\n", encoding="utf-8")

    def bench(
        self, name: str, flags: Sequence[str], limit_s: float, environment: Mapping[str, str] | None = None
    ) -> tuple[dict[str, Any] | None, jobs.Ended]:
        """What `dnabert bench` with these flags leaves in NAME.json, or None, and how it ended."""
        return self._measured(name, ("-m", "dnabert_jax", "bench", *flags), limit_s, environment)

    def one_workload(
        self, name: str, flags: Sequence[str], limit_s: float, environment: Mapping[str, str], workload: str = WORKLOAD
    ) -> tuple[dict[str, Any] | None, jobs.Ended]:
        """The same of one workload alone by `one_workload.py`."""
        program = str(Path(__file__).with_name("one_workload.py"))
        flags = ("--workload", workload, "--shards", str(self.out / "embedded"), *flags)
        return self._measured(name, (program, *flags), limit_s, environment)

    def _measured(
        self, name: str, arguments: Sequence[str], limit_s: float, environment: Mapping[str, str] | None
    ) -> tuple[dict[str, Any] | None, jobs.Ended]:
        output = self.out / f"{name}.json"
        output.unlink(missing_ok=True)
        command = [sys.executable, *arguments, *self.size.bench, "--output", str(output)]
        ended = jobs.run(command, self.log, limit_s, environment)
        return self.result(name), ended

    def result(self, name: str) -> dict[str, Any] | None:
        """What was measured under this name in this or an earlier run."""
        file = self.out / f"{name}.json"
        return json.loads(file.read_text()) if file.exists() else None


def _left_s(until: float) -> float:
    """Seconds to a time of the clock, in seconds since 1970."""
    return max(0.0, until - time.time())


def figures(result: dict[str, Any] | None, name: str = WORKLOAD) -> dict[str, Any] | None:
    """The figures of a workload, None where it was not measured."""
    for each in (result or {}).get("workloads", []):
        if each["name"] == name:
            return each
    return None


def _why(result: dict[str, Any] | None, name: str, ended: jobs.Ended) -> str:
    """Why a workload is not in a result."""
    for each in (result or {}).get("failures", []):
        if each["name"] == name:
            return each["reason"] if ended.status is not None else f"{each['reason']}; {ended.why}"
    return ended.why


def deadlines(began: float, seconds: float, phases: Sequence[str]) -> dict[str, float]:
    """When each of these phases must have ended, in seconds since 1970 as `began`; a little is kept for ending."""
    seconds -= min(45.0, seconds / 10)
    whole = sum(PHASES[phase] for phase in phases)
    found, share = {}, 0.0
    for phase in phases:
        share += PHASES[phase] / whole
        found[phase] = began + seconds * share
    return found


def measure_main(run: Run, until: float) -> bool:
    """The workloads, and the peer; whether the first workload was measured."""
    steps = ("--steps", str(run.size.steps[0]), *run.size.main)
    run.write("", "## Workloads", "", *_HEAD)
    for names in (WORKLOADS, WORKLOADS[:1]):  # where something hung, the first alone
        flags = ("--workloads", *names, *steps, "--report", str(run.out / "main.html"))
        result, ended = run.bench("main", flags, 0.6 * _left_s(until))
        _write_rows(run, result, names, ended)
        found = figures(result)
        if found is not None:
            break
    else:
        return False
    run.keep(main=found)
    if run.size.peer and all(map(importlib.util.find_spec, ("torch", "transformers"))):
        flags = ("--workloads", WORKLOAD, "--peer", "torch", "--no-breakdown", *steps)
        peer, ended = run.bench("peer", flags, _left_s(until))
        _write_rows(run, peer, (WORKLOAD,), ended)
        _write_peer(run, peer)
    if _left_s(until) > _LEAST_S:
        flags = ("--steps", str(run.size.steps[0]), "--batch-size", str(found["batch_size"]))
        environment = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
        compiling, ended = run.one_workload(COMPILE, flags, _left_s(until), environment, COMPILE)
        _write_rows(run, compiling, (COMPILE,), ended)
    for name in ("hardware", "versions", "rates", "attention_checks"):
        run.write("", f"{name}: `{json.dumps(result.get(name))}`")
    return True


_HEAD = (
    "| workload | rows | step_time_ms (p10, p90) | useful_tokens_per_second | of the matrix product's rate | of the "
    "published rate | peak_memory_gib | compile_time_s |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
)


def _write_rows(run: Run, result: dict[str, Any] | None, names: Sequence[str], ended: jobs.Ended) -> None:
    for name in names:
        each = figures(result, name)
        if each is None:
            run.write(_row(name, f"not measured: {_why(result, name, ended)}"))
            continue
        cells = [
            name,
            str(each["batch_size"]),
            "{step_time_ms:.2f} ({step_time_ms_p10:.2f}, {step_time_ms_p90:.2f})".format(**each),
            _number(each["useful_tokens_per_second"], ",.0f"),
            _number(each["model_flops_utilization"], ".1%"),
            _number(each["model_flops_utilization_published"], ".1%"),
            _number(each["peak_memory_gib"], ".1f"),
            _number(each["compile_time_s"], ".1f"),
        ]
        run.write(_row(*cells))


def _row(*cells: str) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _write_peer(run: Run, result: dict[str, Any] | None) -> None:
    """The variants of the peer, if it was measured. Ours ran in turn with them, on half of the device's memory."""
    peers = (figures(result) or {}).get("peer") or []
    if not peers:
        return
    run.write("", "| peer | step_time_ms | useful_tokens_per_second | ours / theirs |", "| --- | ---: | ---: | ---: |")
    for peer in peers:
        cells = [peer["name"], peer["skipped"] or _number(peer["step_time_ms"], ".2f")]
        cells += [_number(peer["useful_tokens_per_second"], ",.0f"), ""]
        if peer["ours_per_theirs"]:
            cells[-1] = "{ratio:.2f} ({low:.2f} to {high:.2f})".format(**peer["ours_per_theirs"])
        run.write(_row(*cells))
    run.write("", *_HEAD)


def measure_variants(run: Run, until: float) -> None:
    """Each variant beside the main measurement."""
    found = figures(run.result("main"))
    if found is None:
        run.write("", "No variants, for there is no main measurement to set them beside.")
        return
    run.write(
        "",
        "## What was tried",
        "",
        f"Useful tokens per second on {WORKLOAD}, as a ratio to {found['useful_tokens_per_second']:,.0f} of the "
        "measurement above.",
        "",
        "| tried | rows | predicted | measured |",
        "| --- | ---: | --- | --- |",
    )
    tried = [each for each in variants.variants() if not run.size.tried or each.name in run.size.tried]
    entries: list[dict[str, Any]] = []
    for number, variant in enumerate(tried):
        # One that hangs is to leave time for others; one that compiles for long, as unrolled layers do, is to be done.
        limit = min(_left_s(until), max(_COMPILED_S, 3 * _left_s(until) / (len(tried) - number)))
        if limit < _LEAST_S:
            outcome: dict[str, Any] = {"failed": "no time was left"}
        else:
            outcome = _try(run, variant, found, run.size.steps[1], limit)
        measured = outcome.get("failed") or f"{outcome['ratio']:.3f}"
        run.write(_row(variant.name, str(outcome.get("batch_size", "")), variant.prediction, measured))
        entries.append({"name": variant.name, "prediction": variant.prediction, **outcome})
        run.keep(variants=entries)


def _try(run: Run, variant: Variant, base: dict[str, Any], steps: int, limit_s: float) -> dict[str, Any]:
    """Measures a variant; with half the rows where memory is out, twice at most."""
    rows = variants.batch_size([variant], base["batch_size"])
    until = time.time() + limit_s
    # What all of them compile alike is compiled once.
    environment = {"JAX_COMPILATION_CACHE_DIR": str(run.out / "compiled")}
    environment |= variants.environment([variant], os.environ)
    for _ in range(3):
        flags = ("--steps", str(steps), "--batch-size", str(rows), *variant.bench)
        result, ended = run.one_workload(f"variant-{variant.name}", flags, _left_s(until), environment)
        found = figures(result)
        if found is not None:
            ratio = found["useful_tokens_per_second"] / base["useful_tokens_per_second"]
            return {"batch_size": found["batch_size"], "ratio": ratio, "step_time_ms": found["step_time_ms"]}
        if "RESOURCE_EXHAUSTED" not in ended.output or variant.axis == "batch" or rows < 2:
            break
        rows //= 2
    return {"failed": f"failed: {ended.why}"}


def measure_best(run: Run, until: float) -> None:
    """The variants that gained, together; without any the first measurement again, to see how far two runs differ."""
    found = figures(run.result("main"))
    if found is None or _left_s(until) < _LEAST_S:
        run.write("", "No time was left to measure the best again.")
        return
    chosen = best(run)
    names = ", ".join(each.name for each in chosen) or "none gained: the first measurement again"
    rows = variants.batch_size(chosen, found["batch_size"])
    flags = ["--workloads", WORKLOAD, "--steps", str(run.size.steps[0]), "--batch-size", str(rows), "--no-breakdown"]
    flags += [flag for each in chosen for flag in each.bench]
    result, ended = run.bench("best", flags, _left_s(until), variants.environment(chosen, os.environ))
    run.write("", "## The best together", "", f"Chosen: {names}.", "", *_HEAD)
    _write_rows(run, result, (WORKLOAD,), ended)
    again = figures(result)
    if again is None:
        return
    gain = again["useful_tokens_per_second"] / found["useful_tokens_per_second"]
    run.keep(best={"chosen": [each.name for each in chosen], "ratio": gain, **again})
    command = [sys.executable, "-m", "dnabert_jax", "bench", "compare"]
    compared = jobs.run([*command, str(run.out / "main.json"), str(run.out / "best.json")], run.log, 60)
    run.write("", "```", compared.output.strip(), "```")


def best(run: Run) -> list[Variant]:
    """The variants that gained in this or an earlier run in the same folder."""
    return variants.combined({each["name"]: each.get("ratio", 0.0) for each in run.summary.get("variants", [])})


def pretrain(run: Run, fasta: Path | None, until: float) -> None:
    """Builds shards and pretrains on them for the time that is left."""
    run.write("", "## Pretraining", "")
    shards = run.out / "shards"
    genome = minutes.genome(fasta)
    command = [sys.executable, "-m", "dnabert_jax", "build", "--fasta", str(genome), "--out", str(shards)]
    command += ["--validation", minutes.held_out(genome), "--overwrite"]
    built = jobs.run(command, run.log, _left_s(until))
    if built.status != 0:
        run.write(f"No shards of {genome.name}: {built.why}")
        return
    # What gained is used only if it gained together, too.
    summary = run.summary.get("best", {})
    chosen = best(run) if summary.get("ratio", 0.0) > 1 else []
    measured = summary if chosen else run.summary.get("main", {})
    plan = run.size.plan or minutes.plan(
        _left_s(until), measured.get("tokens_per_second", 0.0), run.size.row_length, measured.get("batch_size", 0)
    )
    if plan is None:
        run.write("No pretraining: the time left is too short for it at the speed that was measured.")
        return
    workdir = run.out / "pretrained"
    shutil.rmtree(workdir, ignore_errors=True)
    flags = [flag for each in chosen for flag in each.encoder]
    command = [sys.executable, "-m", "dnabert_jax", "train", *run.size.recipe, *plan.flags, *flags]
    command += ["--workdir", str(workdir), "--data.path", str(shards)]
    run.write(
        f"{run.size.recipe[0]} from random params on {genome.name}, {plan.steps:,} steps of {plan.rows} rows, "
        f"with {', '.join(each.name for each in chosen) or 'nothing that was tried'}.",
        "",
        "| minutes | step | tokens | bits_per_base, validation |",
        "| ---: | ---: | ---: | ---: |",
    )
    curve = minutes.Curve(
        workdir / "metrics.jsonl",
        plan.rows * run.size.row_length,
        lambda point: run.write(
            _row(
                f"{point['minutes']:.2f}",
                f"{point['step']:,}",
                f"{point['tokens']:,}",
                _number(point["bits_per_base"], ".4f"),
            )
        ),
    )
    environment = variants.environment(chosen, os.environ)
    # It saves and stops when it is asked to.
    ended = jobs.run(command, run.log, _left_s(until), environment, grace_s=30.0, meanwhile=curve.look)
    run.keep(pretraining={"genome": genome.name, **dataclasses.asdict(plan), "validations": curve.points})
    shutil.rmtree(shards, ignore_errors=True)  # large, and made again in seconds
    if ended.status != 0:
        run.write("", f"Stopped before its end: {ended.why}.")


def describe(run: Run) -> None:
    """The machine as far as it can be told without touching the accelerator."""
    packages = [f"{name} {metadata.version(name)}" for name in ("jax", "jaxlib", "torch") if _has(name)]
    run.write(
        "",
        f"# {run.summary['began']}",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {', '.join(packages)}",
    )
    if shutil.which("nvidia-smi"):
        shown = jobs.run(["nvidia-smi"], run.log, 30)
        run.write("", "```", shown.output.strip(), "```")


def _has(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def main() -> int:
    """Exit status 0 where the first workload was measured, or was not asked for; 1 otherwise."""
    parser = argparse.ArgumentParser(prog="accelerator.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=25.0, help="for all of it (default 25)")
    parser.add_argument("--began", type=float, default=time.time(), help=argparse.SUPPRESS)
    parser.add_argument(
        "--fasta", type=Path, help="genome to pretrain on (default: the one that comes with the package)"
    )
    parser.add_argument("--size", choices=SIZES, default="base", help="tiny tries this script out on any CPU")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES), help="default: all")
    arguments = parser.parse_args()
    if arguments.fasta and not arguments.fasta.is_file():
        parser.error(f"--fasta {arguments.fasta}: no such file; expected a FASTA file")
    if not arguments.minutes > 0:
        parser.error(f"--minutes {arguments.minutes:g}: no time for anything; expected more than 0")
    # So that a program that runs is ended with this one.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    phases = [phase for phase in PHASES if phase in arguments.phases]
    ends = deadlines(arguments.began, 60 * arguments.minutes, phases)
    run = Run(arguments.out, SIZES[arguments.size], arguments.began)
    describe(run)
    measured = True
    if "main" in phases:
        measured = measure_main(run, ends["main"])
    if "variants" in phases:
        measure_variants(run, ends["variants"])
    if "best" in phases:
        measure_best(run, ends["best"])
    if "pretrain" in phases:
        pretrain(run, arguments.fasta, ends["pretrain"])
    run.write("", f"{(time.time() - arguments.began) / 60:.1f} minutes in all.")
    return 0 if measured else 1


if __name__ == "__main__":
    sys.exit(main())
