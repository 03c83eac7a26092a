"""Real runs of a tiny model on real bases: what they leave, and that no disturbance changes where they end."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnabert_jax import cli, stored
from dnabert_jax.config import PretrainConfig, from_json
from dnabert_jax.data import build
from dnabert_jax.errors import InputError, Interrupted, RunStopped
from dnabert_jax.training import loop, pretrain, state
from tests.training import runs

ROOT = Path(__file__).parents[2]
# Large arrays come from huge pages, which makes a step on the CPU about twice as fast; other systems ignore it.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", **os.environ}


@pytest.fixture(scope="module")
def straight(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> PretrainConfig:
    """A run that nothing disturbed."""
    config = runs.pretraining(shards, tmp_path_factory.mktemp("straight") / "workdir")
    pretrain.run(config, runs.no_word)
    return config


@pytest.fixture
def again(straight: PretrainConfig, tmp_path: Path) -> PretrainConfig:
    """The same run in a workdir of its own, not yet begun."""
    return dataclasses.replace(straight, workdir=str(tmp_path / "workdir"))


def with_loop(config: PretrainConfig, **changes: int) -> PretrainConfig:
    return dataclasses.replace(config, loop=dataclasses.replace(config.loop, **changes))


def assert_same_end(config: PretrainConfig, straight: PretrainConfig) -> None:
    (step, found), (expected_step, expected) = runs.final(config), runs.final(straight)
    assert step == expected_step == runs.STEPS
    runs.assert_same_bits(found, expected)
    assert runs.metrics(config.workdir) == runs.metrics(straight.workdir)
    results = [json.loads((Path(each.workdir) / "result.json").read_text()) for each in (config, straight)]
    assert results[0] == results[1]


def begun(config: PretrainConfig) -> tuple[dict[str, np.ndarray], list[str]]:
    """The params that a run begins with, and what it says until then."""
    found, said = {}, []

    def run(program: loop.Program, current: state.State, *_: Any, **__: Any):
        found.update(runs.arrays(current.params))
        raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "run", run)
        with pytest.raises(Interrupted):
            pretrain.run(config, said.append)
    return found, said


def test_pretraining_goes_on_from_another_model(straight, again, tmp_path):
    model = stored.read(straight.workdir, runs.no_word)
    stored.write(tmp_path / "model", model.config, model.params)
    for source in (straight.workdir, str(tmp_path / "model")):
        config = dataclasses.replace(again, init=source, workdir=str(tmp_path / f"from-{Path(source).name}"))
        found, said = begun(config)
        runs.assert_same_bits(found, runs.arrays(model.params))
        assert said[0].startswith(f"loaded from {source} (")
    longer = dataclasses.replace(again.encoder, max_length=100)
    found, said = begun(dataclasses.replace(again, init=straight.workdir, encoder=longer, row_length=128))
    assert found["['encoder']['embeddings']['position']"].shape == (100, 32)
    assert "repeating" in said[0]


def test_a_resumed_run_does_not_need_the_model_it_began_with(straight, again, tmp_path):
    shutil.copytree(straight.workdir, tmp_path / "model")
    config = with_loop(dataclasses.replace(again, init=str(tmp_path / "model")), steps=2)
    pretrain.run(config, lambda line: None)
    shutil.rmtree(tmp_path / "model")
    pretrain.run(with_loop(config, steps=3), lambda line: None)
    assert runs.final(config)[0] == 3


def test_another_model_than_the_recipe_says_leaves_nothing(straight, again):
    other = dataclasses.replace(again.encoder, heads=2)
    with pytest.raises(InputError, match=r"encoder\.heads is 2, but the model in"):
        pretrain.run(dataclasses.replace(again, init=straight.workdir, encoder=other), runs.no_word)
    with pytest.raises(InputError, match="is no model folder"):
        pretrain.run(dataclasses.replace(again, init=str(Path(again.workdir).parent)), runs.no_word)
    assert not Path(again.workdir).exists()


def test_a_run_leaves_its_config_metrics_checkpoints_and_result(straight):
    workdir = Path(straight.workdir)
    assert from_json(PretrainConfig, (workdir / "config.json").read_text(), "config.json") == straight
    assert sorted(int(each.name) for each in (workdir / "checkpoints").iterdir()) == [4, 8, 10]
    assert list((workdir / "tensorboard").iterdir())
    step, arrays = runs.final(straight)
    assert step == runs.STEPS
    assert all(np.isfinite(values).all() for values in arrays.values())

    result = json.loads((workdir / "result.json").read_text())
    params = sum(values.size for name, values in arrays.items() if name.startswith("['params']"))
    assert (result["steps"], result["parameters"]) == (runs.STEPS, params)
    validations = [each for each in runs.metrics(workdir) if each["split"] == "validation"]
    for name, line in (("validation_before", validations[0]), ("validation", validations[-1])):
        assert result[name] == {figure: value for figure, value in line.items() if figure not in ("step", "split")}


def test_every_report_has_its_figures(straight):
    lines = [json.loads(line) for line in (Path(straight.workdir) / "metrics.jsonl").read_text().splitlines()]
    assert [(each["step"], each["split"]) for each in lines] == [
        (0, "validation"),
        (3, "train"),
        (5, "validation"),
        (6, "train"),
        (9, "train"),
        (10, "train"),
        (10, "validation"),
    ]
    both = {"step", "split", "loss", "masked_accuracy", "bits_per_base", "masked_tokens", "unplaced_tokens"}
    trained = {"learning_rate", "gradient_norm", "useful_share"}
    for line in lines:
        names = set(line) - {"tokens_per_second", "step_time_ms"}
        assert names == both | (trained if line["split"] == "train" else set())
        assert 0 < line["loss"] < 10
        assert 1 < line["bits_per_base"] < 3
        assert line["unplaced_tokens"] == 0
    for line in lines:
        if line["split"] == "train":
            assert 0.9 < line["useful_share"] <= 1
            assert line["gradient_norm"] > 0
            # Of the report's last step, counted from 0: 2 steps up to 1e-3, then down to 0 at step 20.
            assert line["learning_rate"] == pytest.approx(1e-3 * (20 - (line["step"] - 1)) / 18, rel=1e-5)
    rates = [line for line in lines if "tokens_per_second" in line]
    assert all(line["tokens_per_second"] > 0 and line["step_time_ms"] > 0 for line in rates)
    assert {line["step"] for line in rates} == {3, 6, 9, 10}


def test_the_initial_loss_is_about_that_of_guessing(straight):
    first = runs.metrics(straight.workdir)[0]
    assert first["bits_per_base"] == pytest.approx(2, abs=0.3)
    assert first["loss"] == pytest.approx(np.log(4**3 + 5), abs=1)


def test_started_again_when_complete_it_changes_nothing(straight, tmp_path):
    config = dataclasses.replace(straight, workdir=str(tmp_path / "copy"))
    shutil.copytree(straight.workdir, config.workdir)
    said: list[str] = []
    result = pretrain.run(config, said.append)
    assert said == ["resuming from step 10"]
    assert result == json.loads((Path(straight.workdir) / "result.json").read_text())
    assert_same_end(config, straight)


def test_lengthened_it_goes_on_bit_for_bit(straight, again):
    # Step 6 ends a report, and to validate every third step puts a validation there in both runs.
    longer, shorter = (with_loop(again, validate_every=3, steps=steps) for steps in (runs.STEPS, 6))
    pretrain.run(shorter, runs.no_word)
    said: list[str] = []
    pretrain.run(longer, said.append)
    assert said == ["resuming from step 6"]
    (_, found), (_, expected) = runs.final(longer), runs.final(straight)
    runs.assert_same_bits(found, expected)
    trained = [[each for each in runs.metrics(run.workdir) if each["split"] == "train"] for run in (longer, straight)]
    assert trained[0] == trained[1]
    validated = [each["step"] for each in runs.metrics(longer.workdir) if each["split"] == "validation"]
    assert validated == [0, 3, 6, 9, 10]


@pytest.mark.parametrize("step", [1, 7])
def test_stopped_inside_a_report_and_resumed_it_ends_bit_for_bit_the_same(step, straight, again):
    with runs.stopped_in(step), pytest.raises(Interrupted, match=rf"^SIGTERM: saved step {step}; start again"):
        pretrain.run(again, runs.no_word)
    assert not (Path(again.workdir) / "result.json").exists()
    said: list[str] = []
    pretrain.run(again, said.append)
    assert said == [f"resuming from step {step}"]
    assert_same_end(again, straight)


def test_killed_after_a_save_it_ends_bit_for_bit_the_same(straight, again):
    with runs.stopped_in(9), pytest.raises(Interrupted):
        pretrain.run(again, runs.no_word)
    shutil.rmtree(Path(again.workdir) / "checkpoints" / "9")  # as if there had been no time to save step 9
    said: list[str] = []
    pretrain.run(again, said.append)
    assert said == ["resuming from step 8"]
    assert_same_end(again, straight)


def test_a_damaged_checkpoint_is_passed_over_and_the_end_is_the_same(straight, again):
    shutil.copytree(straight.workdir, again.workdir)
    damaged = Path(again.workdir) / "checkpoints" / "10"
    runs.cut_short(damaged)
    said: list[str] = []
    pretrain.run(again, said.append)
    assert len(said) == 2
    assert said[0].startswith(f"{damaged}: the checkpoint is damaged (")
    assert said[0].endswith("; taking step 8")
    assert said[1] == "resuming from step 8"
    assert_same_end(again, straight)


def test_another_seed_gives_another_run(straight, again):
    other = with_loop(dataclasses.replace(again, seed=1), steps=1)
    pretrain.run(other, runs.no_word)
    first, expected = runs.metrics(other.workdir)[0], runs.metrics(straight.workdir)[0]
    assert first["step"] == expected["step"] == 0
    assert first["loss"] != expected["loss"]  # other params


def test_validation_hides_the_same_bases_each_time(straight, again):
    figures: list[dict[str, Any]] = []
    original = loop.run

    def run(program: loop.Program, state, *arguments, **others):
        figures.extend(program.validate(state.replace(step=state.step + number)) for number in (0, 3, 100_000))
        return original(program, state, *arguments, **others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "run", run)
        pretrain.run(with_loop(again, steps=1), runs.no_word)
    first = runs.metrics(straight.workdir)[0]
    for found in figures:
        assert {"step": 0, "split": "validation", **found} == first
    assert len({each["masked_tokens"] for each in runs.metrics(straight.workdir) if each["split"] == "validation"}) == 1


def test_a_workdir_of_another_config_is_refused_and_left_alone(straight, shards):
    before = runs.contents(Path(straight.workdir))
    other = dataclasses.replace(
        straight, batch_size=16, optimizer=dataclasses.replace(straight.optimizer, learning_rate=2e-3)
    )
    with pytest.raises(InputError) as refused:
        pretrain.run(other, runs.no_word)
    message = str(refused.value)
    assert "batch_size (8 → 16)" in message
    assert "optimizer.learning_rate (0.001 → 0.002)" in message
    assert "\n" not in message
    assert runs.contents(Path(straight.workdir)) == before


@pytest.fixture
def few_bases(tmp_path: Path) -> Path:
    """A dataset of 20,000 random bases."""
    fasta = tmp_path / "other.fa"
    letters = np.random.default_rng(0).choice(list("ACGT"), 20_000)
    fasta.write_text(">20\n" + "".join(letters) + "\n")
    build.build([fasta], tmp_path / "other", validation=["20:1-2000"])
    return tmp_path / "other"


def test_a_run_ends_with_its_data(again, few_bases, capsys):
    data = dataclasses.replace(again.data, path=str(few_bases), epochs=1)
    config = with_loop(dataclasses.replace(again, data=data), steps=1000, report_every=1000)
    result = pretrain.run(config, runs.no_word)
    # 18,000 bases in rows of 62 k-mers, or a little less where a segment is short; 8 rows a step.
    assert 18_000 / 64 / 8 - 1 < result["steps"] < 18_000 / 62 / 8 * 1.1
    assert f"the data end after step {result['steps']}; 1000 steps were asked for" in capsys.readouterr().out
    reported = [(each["step"], each["split"]) for each in runs.metrics(config.workdir)]
    assert reported[-2:] == [(result["steps"], "train"), (result["steps"], "validation")]

    before = runs.contents(Path(config.workdir) / "checkpoints")
    assert pretrain.run(config, lambda line: None) == result
    assert [(each["step"], each["split"]) for each in runs.metrics(config.workdir)] == reported
    assert runs.contents(Path(config.workdir) / "checkpoints") == before


def test_other_data_are_refused_and_the_run_left_alone(straight, few_bases):
    before = runs.contents(Path(straight.workdir))
    other = dataclasses.replace(straight, data=dataclasses.replace(straight.data, path=str(few_bases)))
    with pytest.raises(InputError, match=r"not the data that this run began with: bases \("):
        pretrain.run(other, lambda line: None)
    assert runs.contents(Path(straight.workdir)) == before


def test_fewer_steps_than_are_done_are_refused_and_the_run_left_alone(straight):
    before = runs.contents(Path(straight.workdir))
    with pytest.raises(InputError, match=r"at step 10 already"):
        pretrain.run(with_loop(straight, steps=9), lambda line: None)
    assert runs.contents(Path(straight.workdir)) == before


def test_moved_data_are_the_same_data(straight, again, shards, tmp_path):
    shutil.copytree(straight.workdir, again.workdir)
    shutil.copytree(shards, tmp_path / "moved")
    moved = dataclasses.replace(again, data=dataclasses.replace(again.data, path=str(tmp_path / "moved")))
    pretrain.run(moved, lambda line: None)
    assert_same_end(moved, straight)


def test_without_a_path_to_data_nothing_is_made(again):
    config = dataclasses.replace(again, data=dataclasses.replace(again.data, path=""))
    with pytest.raises(InputError, match=r"data\.path is empty; .*--data\.path"):
        pretrain.run(config, runs.no_word)
    assert not Path(again.workdir).exists()


def test_a_path_without_data_makes_nothing(again, tmp_path):
    config = dataclasses.replace(again, data=dataclasses.replace(again.data, path=str(tmp_path / "nothing")))
    with pytest.raises(InputError, match="nothing"):
        pretrain.run(config, runs.no_word)
    assert not Path(again.workdir).exists()


@pytest.mark.parametrize("step", [6, 8])
def test_a_loss_that_is_no_number_leaves_the_last_checkpoint_good(step, straight, again, capsys):
    with runs.spoiled_in(step):
        assert cli._status(lambda: pretrain.run(again, runs.no_word)) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: step {step}: loss is nan; ")
    assert [each.name for each in (Path(again.workdir) / "checkpoints").iterdir()] == ["4"]
    assert all(each["step"] < step for each in runs.metrics(again.workdir))
    pretrain.run(again, lambda line: None)
    assert_same_end(again, straight)


def test_a_loss_that_is_no_number_is_a_stopped_run(again):
    with runs.spoiled_in(1), pytest.raises(RunStopped, match=r"^step 1: "):
        pretrain.run(again, runs.no_word)


def started(script: str, config: PretrainConfig, folder: Path) -> subprocess.Popen:
    """`dnabert train` with this config, in a process of its own; the script stands around `cli.main()`."""
    recipe = runs.recipe(config, folder / "recipe.py")
    program = f"from dnabert_jax import cli\nfrom tests.training import runs\n{script}"
    arguments = ["train", str(recipe), "--workdir", config.workdir]
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow)])
def test_a_signal_saves_and_ends_with_75_and_the_run_can_go_on(name, straight, again, tmp_path):
    with started("with runs.waiting_in(7): cli.main()", again, tmp_path) as process:
        assert any(line == "waiting\n" for line in process.stdout), process.stderr.read()
        process.send_signal(signal.Signals[name])
        _, error = process.communicate(timeout=300)
    assert process.returncode == 75, error
    last = f"stopped by {name}: saved step 7; start again with the same command to go on from there"
    assert last in error.splitlines()
    assert "Traceback" not in error
    pretrain.run(again, lambda line: None)
    assert_same_end(again, straight)


NO_ROOM = """
import jax, resource, signal
jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)  # leaves no half of a program to other tests
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit fails, as on a full disk, and kills nobody
resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))
"""


def test_a_full_disk_keeps_the_last_good_checkpoint(straight, again, tmp_path):
    with runs.stopped_in(4), pytest.raises(Interrupted):
        pretrain.run(again, runs.no_word)
    good = runs.final(again)
    with started(NO_ROOM + "cli.main()", again, tmp_path) as process:
        _, error = process.communicate(timeout=300)
    assert process.returncode == 1, error
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, error
    assert "saving step 8 failed" in lines[0]
    assert lines[0].endswith("the last good checkpoint is step 4")

    step, arrays = runs.final(again)
    assert step == good[0] == 4
    runs.assert_same_bits(arrays, good[1])
    pretrain.run(again, lambda line: None)  # there is room again
    assert_same_end(again, straight)
