"""A task's folder goes in; a model, its report and one to compare with come out."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from dnabert_jax import experiment, stored
from dnabert_jax.config import FinetuneConfig, FinetunedEncoderConfig
from dnabert_jax.errors import InputError, Interrupted
from tests import tiny
from tests.training import runs


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """`model`, `recipe.py`, and the folder `data` of a task that is easy."""
    folder = tmp_path_factory.mktemp("experiment")
    stored.write(folder / "model", *tiny.model("masked_lm"))
    config = FinetuneConfig(
        encoder=FinetunedEncoderConfig(compute_dtype="float32"), epochs=1, batch_size=16, learning_rate=1e-3
    )
    runs.recipe(config, folder / "recipe.py")
    (folder / "data").mkdir()
    rng = np.random.default_rng(0)
    for split, count in {"train": 48, "validation": 32, "test": 32}.items():
        rows = ["".join(rng.choice(list("AT" if i % 2 else "CG"), 30)) + f"\t{i % 2}" for i in range(count)]
        (folder / "data" / f"{split}.tsv").write_text("\n".join(["sequence\tlabel", *rows]) + "\n")
    return folder


def test_trains_on_the_folder_and_compares_with_random_params(given: Path, tmp_path: Path):
    training = experiment.Training(
        recipe=str(given / "recipe.py"), init=str(given / "model"), workdir=str(tmp_path / "run"), compare_random=True
    )
    report = experiment.follow(given / "data", training, lambda line: None)
    assert report == tmp_path / "run" / "report.html"
    assert "run-random" in report.read_text()
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("run", "run-random")]
    assert [each["split"] for each in results] == ["test", "test"]
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("run", "run-random")]
    assert [each["random_params"] for each in configs] == [False, True]
    assert configs[0]["data"]["train"] == str(given / "data" / "train.tsv")


def test_trains_nothing_without_a_recipe(given: Path):
    assert experiment.follow(given / "data", experiment.Training(), print) is None


def test_judges_on_validation_where_there_is_no_test(given: Path, tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "validation"):
        (data / f"{name}.tsv").write_text((given / "data" / f"{name}.tsv").read_text())
    result = experiment.finetuned(data, str(given / "recipe.py"), str(given / "model"), tmp_path / "run", print)
    assert result["split"] == "validation"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"init": "model"}, "no recipe; expected one"),
        ({"workdir": "W"}, "no recipe; expected one"),
        ({"recipe": "splice", "compare_random": True}, "no init; expected the model"),
    ],
)
def test_asks_for_what_is_missing(fields: dict, said: str):
    with pytest.raises(InputError, match=said):
        experiment.Training(**fields)


def test_looks_for_the_recipe_before_anything_is_made():
    with pytest.raises(InputError, match="unknown recipe 'splise'; did you mean splice"):
        experiment.check(experiment.Training(recipe="splise"))


def test_refuses_a_folder_without_splits(given: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"no train\.tsv; expected the folder of a task with a train split"):
        experiment.finetuned(tmp_path, str(given / "recipe.py"), "", tmp_path / "run", print)


def test_looks_for_the_model_before_anything_is_made(given: Path):
    with pytest.raises(InputError, match="nowhere"):
        experiment.check(experiment.Training(recipe="splice", init=str(given / "nowhere")))
    experiment.check(experiment.Training(recipe="splice", init=str(given / "model")))


def test_a_stop_says_how_the_command_goes_on(given: Path, monkeypatch):
    def interrupted(*_, **__):
        raise Interrupted("SIGTERM: saved step 3; start again with the same command to go on from there")

    monkeypatch.setattr(experiment, "_run", interrupted)
    with pytest.raises(Interrupted, match=r"the same command to go on from there \(with --overwrite"):
        experiment.follow(given / "data", experiment.Training(recipe="splice"), print)


def test_a_stop_at_the_end_of_one_run_begins_no_other(given: Path, monkeypatch):
    came = []

    def run(dataset, recipe, init, workdir, say, **_):
        came.append(workdir)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(experiment, "_run", run)
    training = experiment.Training(recipe="splice", init="W", workdir="run", compare_random=True)
    with pytest.raises(Interrupted, match=r"SIGTERM: run is done; .* \(with --overwrite"):
        experiment.follow(given / "data", training, print)
    assert came == [Path("run")]
