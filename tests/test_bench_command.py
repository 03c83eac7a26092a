"""`dnabert bench` and `dnabert bench compare` as commands: what they print, write and refuse."""

import json

import pytest

from dnabert_jax import cli
from dnabert_jax.bench import suite
from dnabert_jax.bench import table as table_
from tests.bench import results


def status(*arguments: str) -> int:
    return cli._status(lambda: cli._dispatch("dnabert", cli.COMMANDS, ["bench", *arguments]))


@pytest.fixture
def measured(monkeypatch):
    """No measuring: what the suite would have been asked to do."""
    asked = []

    def run(choices, names, **others):
        asked.append((choices, names, others))
        found = results.result(**run.changes)
        others["so_far"](found)
        return found

    run.changes = {}
    run.asked = asked
    monkeypatch.setattr(suite, "run", run)
    return run


def test_the_table_goes_to_standard_output_and_the_result_into_a_file(measured, tmp_path, capsys):
    output = tmp_path / "a.json"
    assert status("--quick", "--steps", "40", "--no-scan-layers", "--output", str(output)) == 0
    printed = capsys.readouterr().out
    assert "pretrain-base-512" in printed
    assert "119.50" in printed
    assert json.loads(output.read_text()) == results.result()
    ((choices, names, others),) = measured.asked
    assert (choices.quick, choices.steps, choices.scan_layers, names) == (True, 40, False, ())
    assert others["peer"] == "none"


def test_what_failed_is_said_and_the_rest_is_written(measured, tmp_path, capsys):
    measured.changes = {"failures": [{"name": "compile", "reason": "out of memory"}]}
    assert status("--output", str(tmp_path / "a.json")) == 1
    said = capsys.readouterr()
    assert "compile failed: out of memory" in said.out
    assert len(said.err.strip().splitlines()) == 1
    assert (tmp_path / "a.json").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--steps", "0"),
        ("--steps", "many"),
        ("--frobnicate",),
        ("--peer", "tensorflow"),
        ("--output", "missing/folder/a.json"),
        ("--report", "a.txt"),
        ("--report", "a.html", "--output", "a.html"),
    ],
)
def test_what_is_refused_before_anything_is_measured(measured, tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert status(*arguments) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not measured.asked
    assert not list(tmp_path.iterdir())


def test_an_unknown_workload_is_refused(capsys):
    assert status("--workloads", "pretrain") == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_comparing_a_result_with_itself(tmp_path, capsys):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(results.result()))
    assert status("compare", str(file), str(file)) == 0
    assert capsys.readouterr().out.count("1.000 (") == 2


def test_comparing_what_is_no_result(tmp_path, capsys):
    good, bad = tmp_path / "a.json", tmp_path / "b.json"
    good.write_text(json.dumps(results.result()))
    bad.write_text("{}")
    for arguments in ((str(good), str(bad)), (str(good), str(tmp_path / "c.json")), (str(good),)):
        assert status("compare", *arguments) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_table_shows_the_peer_the_parts_and_few_steps(capsys):
    (workload,) = results.result()["workloads"]
    peer = {
        "name": "eager, math",
        "skipped": None,
        "best": True,
        "step_time_ms": 12.0,
        "useful_tokens_per_second": 5.0,
        "ours_per_theirs": {"ratio": 1.5, "low": 1.4, "high": 1.6},
    }
    workload |= {"peer": [peer], "steps": 3, "breakdown": {"attention": 1.25, "rest": -0.5}}
    table_.show(results.result(workload), table_.console())
    printed = capsys.readouterr().out
    for text in ("eager, math (best)", "1.50 (1.40 to 1.60)", "1.25", "-0.50", "3 steps"):
        assert text in printed
