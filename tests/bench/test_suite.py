"""A run: its jobs, what becomes of those that fail, and the result."""

import dataclasses
import os

import jax
import pytest

from dnabert_jax.bench import result, suite
from dnabert_jax.bench.choices import Choices
from dnabert_jax.bench.suite import MACHINE, Job, Plan, Said
from dnabert_jax.errors import InputError, RunStopped
from tests.bench import results

QUICK = Choices(quick=True, steps=2, warmup=1)
MACHINE_FOUND = {
    name: results.result()[name] for name in ("hardware", "versions", "flags", "rates", "attention_checks")
}


def no_word(said: Said) -> None:
    pass


@pytest.fixture
def processes(monkeypatch):
    """Processes that are none: the list of the jobs that each was given; `fate` says what each says of a job."""
    given = []

    def fate(job):
        if job.name == MACHINE:
            return "done", MACHINE_FOUND
        return "done", dataclasses.replace(results.MEASURED, name=job.name)

    def said(jobs, plan):
        given.append([each.name for each in jobs])
        for job in jobs:
            kind, value = said.fate(job)
            if kind == "dies":
                yield Said(job.name, "failed", suite._death(-9))
                return
            yield Said(job.name, kind, value)

    said.fate = fate
    said.given = given
    monkeypatch.setattr(suite, "_said", said)
    return said


def test_each_workload_has_a_process_of_its_own_and_the_quick_ones_share_one(processes):
    names = ("predict-base-512", "input-pipeline")
    found = suite.run(Choices(), names, command="", heard=no_word)
    assert processes.given == [[MACHINE], ["predict-base-512"], ["input-pipeline"]]
    assert [each["name"] for each in found["workloads"]] == list(names)
    assert not found["failures"]
    result._validator().validate(found)
    processes.given.clear()
    suite.run(QUICK, names, command="", heard=no_word)
    assert processes.given == [[MACHINE, *names]]


def test_a_process_that_dies_fails_its_job_and_another_goes_on(processes):
    fate = processes.fate
    processes.fate = lambda job: ("dies", None) if job.name == "finetune-base-128" else fate(job)
    found = suite.run(QUICK, (), command="", heard=no_word)
    assert len(processes.given) == 2
    assert processes.given[1] == ["predict-base-512", "input-pipeline", "compile"]
    (failure,) = found["failures"]
    assert failure["name"] == "finetune-base-128"
    assert "SIGKILL" in failure["reason"]
    assert len(found["workloads"]) == 5
    result._validator().validate(found)


def test_a_batch_that_does_not_fit_is_halved(processes):
    fate, tried = processes.fate, []

    def of(job):
        if job.name == "pretrain-base-512":
            tried.append(job.batch_size)
            return ("too_large", job.batch_size or 64) if len(tried) < 3 else fate(job)
        return fate(job)

    processes.fate = of
    found = suite.run(Choices(), ("pretrain-base-512",), command="", heard=no_word)
    assert tried == [0, 32, 16]
    assert len(found["workloads"]) == 1


def test_compiling_takes_the_batch_that_pretraining_found(processes):
    fate, seen = processes.fate, {}

    def of(job):
        seen[job.name] = job.batch_size
        return fate(job)

    processes.fate = of
    suite.run(Choices(), ("pretrain-base-512", "compile"), command="", heard=no_word)
    assert seen["compile"] == results.MEASURED.batch_size


def test_without_a_machine_there_is_no_result(processes):
    processes.fate = lambda job: ("failed", "no backend")
    with pytest.raises(RunStopped, match="no backend"):
        suite.run(Choices(), (), command="", heard=no_word)


def test_what_the_machine_cannot_do_is_bad_input(processes):
    processes.fate = lambda job: ("refused", "encoder.attention is 'cudnn'; expected another")
    with pytest.raises(InputError, match="expected another"):
        suite.run(QUICK, (), command="", heard=no_word)


def test_what_all_workloads_refuse_is_bad_input(processes):
    fate = processes.fate
    processes.fate = lambda job: fate(job) if job.name in (MACHINE, "compile") else ("refused", "bad; expected good")
    with pytest.raises(InputError, match="expected good"):
        suite.run(Choices(), ("pretrain-base-512", "predict-base-512"), command="", heard=no_word)
    found = suite.run(Choices(), ("predict-base-512", "compile"), command="", heard=no_word)
    assert [each["name"] for each in found["failures"]] == ["predict-base-512"]


@pytest.mark.parametrize("choices", [QUICK, Choices()])
def test_a_run_that_is_stopped_has_given_what_it_had(processes, choices):
    given = []
    names = ("predict-base-512", "input-pipeline")
    found = suite.run(choices, names, command="", heard=no_word, so_far=given.append)
    assert given[-1] == found
    for each in given:
        result._validator().validate(each)
    done = [[each["name"] for each in result["workloads"]] for result in given]
    assert done == [["predict-base-512"], list(names)]
    assert given[0]["failures"] == [{"name": "input-pipeline", "reason": "not measured yet"}]


def test_where_jax_does_not_start_one_line_says_so(monkeypatch):
    def fails():
        raise RuntimeError("Unable to initialize backend 'cuda'\nmore")

    monkeypatch.setattr(jax, "default_backend", fails)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    (said,) = suite._outcome(Job(MACHINE), Plan(QUICK, ""), lambda text: None)
    told = "JAX does not start: RuntimeError: Unable to initialize backend 'cuda'; JAX_PLATFORMS is 'cuda'"
    assert said == Said(MACHINE, "failed", told)


def test_an_unknown_workload():
    with pytest.raises(InputError, match="unknown workload 'pretrain'; expected some of pretrain-base-512"):
        suite.run(QUICK, ("pretrain",), command="", heard=no_word)


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (InputError("bad; expected good"), "refused"),
        (RunStopped("the peer does not run here"), "failed"),
        (RuntimeError("RESOURCE_EXHAUSTED: out of memory"), "failed"),
        (suite._TooLarge(16), "too_large"),
        (ValueError("a defect\nin two lines"), "failed"),
    ],
)
def test_what_is_said_of_a_job_that_fails(monkeypatch, raised, kind):
    def fails(*_):
        raise raised

    monkeypatch.setattr(suite, "measure", fails)
    (said,) = suite._outcome(Job("compile"), Plan(QUICK, ""), lambda text: None)
    assert said.kind == kind
    assert said.value == 16 if kind == "too_large" else "\n" not in said.value


def test_the_largest_power_of_two_on_a_straight_line():
    def plan(rows):
        return 100 + 7 * rows

    for limit, expected in ((100 + 7 * 64, 64), (100 + 7 * 64 - 1, 32), (100 + 7 * 5, 4), (50, 1)):
        assert suite.largest_power(8, plan(8), plan(16), limit) == expected


def test_a_process_that_ends_by_itself_has_failed_its_job(monkeypatch):
    class Broken(Plan):
        def __reduce__(self):
            return os._exit, (7,)

    said = list(suite._said([Job("compile")], Broken(QUICK, "")))
    assert [(each.name, each.kind) for each in said] == [("compile", "failed")]
    assert "7" in said[0].value


def test_a_workload_is_measured_in_this_process(shards, monkeypatch):
    monkeypatch.setattr(suite, "_OF_THE_PIPELINE", 8)
    plan = Plan(QUICK, str(shards), breakdown=False)
    measured = suite.measure(Job("input-pipeline"), plan, lambda text: None)
    assert measured.batch_size == 8
    assert len(measured.timing.seconds) == QUICK.steps
    assert measured.allocated_bytes is None
