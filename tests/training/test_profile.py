"""Traces of steps, read back with JAX's own reader: which steps are in them, where they lie, what is said."""

import contextlib
import dataclasses
from pathlib import Path

import jax
import pytest

from dnabert_jax import flags
from dnabert_jax.config import FinetuneConfig, LoopConfig, PretrainConfig, from_json, to_json
from dnabert_jax.errors import InputError, Interrupted
from dnabert_jax.training import pretrain
from dnabert_jax.training.profile import Profile
from tests import processes
from tests.training import runs


def files(workdir: str | Path) -> list[Path]:
    """Every trace below a workdir."""
    return sorted(Path(workdir).glob("tensorboard/plugins/profile/*/*.xplane.pb"))


def steps_in(file: Path) -> list[int]:
    """The numbers of the steps in a trace."""
    events = [
        event
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes
        for line in plane.lines
        for event in line.events
    ]
    found = sorted(dict(event.stats)["step_num"] for event in events if event.name == "train")
    assert len(events) > len(found), "more than our own marks"
    return found


def traces(workdir: str | Path) -> dict[str, list[int]]:
    """The numbers of the steps in each trace of one process below a workdir, by the folder that holds it."""
    return {file.parent.name: steps_in(file) for file in files(workdir)}


def passed(steps: range | None, taken: range, workdir: Path) -> list[str]:
    """What is said while a run takes steps of next to nothing."""
    said = []
    double = jax.jit(lambda x: x + x)
    with Profile(steps, workdir, said.append) as profile:
        for number in taken:
            with profile.step(number, contextlib.nullcontext):
                double(1.0).block_until_ready()
    return said


@pytest.mark.parametrize(
    ("asked", "taken", "folder", "traced"),
    [
        (range(2, 5), range(8), "steps_2_to_4", [2, 3, 4]),
        (range(1), range(3), "steps_0_to_0", [0]),
        (range(2, 5), range(3, 8), "steps_3_to_4", [3, 4]),  # a start that went on from step 3
        (range(2, 5), range(4), "steps_2_to_3", [2, 3]),  # a start that was stopped
    ],
)
def test_a_trace_holds_the_steps_of_the_range_and_no_others(tmp_path, asked, taken, folder, traced):
    said = passed(asked, taken, tmp_path)
    assert traces(tmp_path) == {folder: traced}
    place = tmp_path / "tensorboard" / "plugins" / "profile" / folder
    assert said == [f"trace of steps {traced[0]} to {traced[-1]}: {place}"]


def test_no_trace_of_steps_that_are_not_taken(tmp_path):
    assert passed(None, range(3), tmp_path) == []
    assert passed(range(2, 5), range(5, 8), tmp_path) == [
        "profile 2:5: this start of the run took none of these steps, so there is no trace"
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_trace_that_cannot_be_written_does_not_end_the_run(tmp_path):
    (tmp_path / "tensorboard").write_text("no folder")
    (said,) = passed(range(1, 2), range(3), tmp_path)
    assert "could not be written" in said
    assert said.endswith("the run goes on")


def test_a_trace_is_written_when_the_run_ends_by_an_exception_within_it(tmp_path):
    def stopped() -> None:
        with Profile(range(9), tmp_path, str) as profile:
            with profile.step(0, contextlib.nullcontext):
                jax.numpy.zeros(3).block_until_ready()
            raise Interrupted

    with pytest.raises(Interrupted):
        stopped()
    assert traces(tmp_path) == {"steps_0_to_0": [0]}


@pytest.mark.parametrize("kind", [PretrainConfig, FinetuneConfig])
@pytest.mark.parametrize("wrong", ["15:10", "10:10", "x", "10", ":", "1:2:3", "-1:3", "1.5:3", "3:", " 1:2", "²:3"])
def test_what_is_no_range_of_steps_is_refused(kind, wrong):
    with pytest.raises(InputError) as caught:
        kind(profile=wrong)
    assert str(caught.value).startswith(f"profile is {wrong!r}; expected FIRST:END")
    assert "\n" not in str(caught.value)


def test_a_range_is_read_as_python_has_it():
    config = PretrainConfig(profile="10:15", loop=LoopConfig(steps=15))
    assert list(config.profiled) == [10, 11, 12, 13, 14]
    assert from_json(PretrainConfig, to_json(config), "there") == config
    assert PretrainConfig().profiled is None
    assert FinetuneConfig(profile="0:3").profiled == range(3)


@pytest.mark.parametrize("kind", [PretrainConfig, FinetuneConfig])
def test_the_flag_is_the_same_for_both_programs(kind):
    assert flags.override(kind(), ["--profile", "10:15"], "program").profiled == range(10, 15)
    with pytest.raises(InputError, match="profile is '15:10'; expected FIRST:END"):
        flags.override(kind(), ["--profile", "15:10"], "program")


def test_steps_beyond_the_run_are_refused():
    with pytest.raises(InputError, match=r"^profile is '10:15'; expected an END of at most 14, the steps of this run$"):
        PretrainConfig(profile="10:15", loop=LoopConfig(steps=14))


@pytest.mark.slow
def test_a_run_that_is_started_again_traces_steps_of_the_run(shards, tmp_path, capsys):
    config = dataclasses.replace(
        runs.pretraining(shards, tmp_path / "workdir", steps=8, report_every=4, validate_every=0), profile="2:6"
    )
    with runs.stopped_in(3), pytest.raises(Interrupted):
        pretrain.run(config, runs.no_word)
    assert traces(config.workdir) == {"steps_2_to_2": [2]}
    pretrain.run(config, lambda line: None)
    assert traces(config.workdir) == {"steps_2_to_2": [2], "steps_3_to_5": [3, 4, 5]}
    place = Path(config.workdir) / "tensorboard" / "plugins" / "profile"
    lines = capsys.readouterr().out.splitlines()
    assert f"trace of steps 3 to 5: {place / 'steps_3_to_5'}" in lines
    straight = dataclasses.replace(config, workdir=str(tmp_path / "straight"), profile="")
    pretrain.run(straight, runs.no_word)
    runs.assert_same_bits(runs.final(config)[1], runs.final(straight)[1])
    assert runs.metrics(config.workdir) == runs.metrics(straight.workdir)


@pytest.mark.slow
def test_every_process_writes_its_own_file_and_the_first_says_where(shards, tmp_path):
    config = runs.pretraining(shards, tmp_path / "workdir", steps=4, validate_every=0)
    recipe = runs.recipe(config, tmp_path / "recipe.py")
    program = ["-m", "dnabert_jax", "train", str(recipe), "--profile", "1:3"]
    first, second = processes.run(program, 2, 1, 600)
    assert (first.status, second.status) == (0, 0), first.stderr + second.stderr
    assert [steps_in(file) for file in files(config.workdir)] == [[1, 2], [1, 2]]
    assert "trace of steps 1 to 2: " in first.stdout
    assert "trace" not in second.stdout + second.stderr
