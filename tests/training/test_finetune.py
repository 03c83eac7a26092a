"""Fine-tuning a tiny pretrained encoder on sequences that are easy to tell apart."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from dnabert_jax import evaluation, stored
from dnabert_jax.config import FinetuneConfig, FinetunedEncoderConfig, LabelledConfig, PretrainConfig
from dnabert_jax.errors import InputError, Interrupted
from dnabert_jax.evaluation import judged
from dnabert_jax.training import finetune, loop, pretrain, workdir
from dnabert_jax.training.state import State
from tests import tiny
from tests.training import runs

EPOCHS, BATCH = 4, 16
PER_EPOCH = 6  # 90 examples, so that the last batch of an epoch is filled up


def labelled(file: Path, count: int, letters: dict[str, str], seed: int) -> str:
    """A table of sequences, each class of which has letters of its own."""
    generator = np.random.default_rng(seed)
    lines = ["sequence\tlabel"]
    for number in range(count):
        label = list(letters)[number % len(letters)]
        lines.append("".join(generator.choice(list(letters[label]), generator.integers(20, 41))) + f"\t{label}")
    file.write_text("\n".join(lines) + "\n")
    return str(file)


THREE = {"at": "AT", "cg": "CG", "ag": "AG"}
TWO = {"1": "AT", "0": "CG"}


class Watched:
    """Runs fine-tuning and keeps what it said and the arrays that it began and ended with."""

    def __init__(self, config: FinetuneConfig, *, begin_only: bool = False) -> None:
        self.said: list[str] = []
        self.folder = Path(config.workdir)
        original = loop.run

        def run(program: loop.Program, state: State, *arguments: Any, **others: Any):
            self.first = runs.arrays(state.params)
            if begin_only:
                raise _Begun
            final, validated = original(program, state, *arguments, **others)
            self.last = runs.arrays({"params": final.params, "optimizer": final.optimizer})
            return final, validated

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "run", run)
            if begin_only:
                with pytest.raises(_Begun):
                    finetune.run(config, self.said.append)
            else:
                self.result = finetune.run(config, self.said.append)


class _Begun(Exception):
    pass


@pytest.fixture(scope="module")
def pretrained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> PretrainConfig:
    config = runs.pretraining(shards, tmp_path_factory.mktemp("pretrained") / "workdir", steps=2)
    pretrain.run(config, runs.no_word)
    return config


@pytest.fixture(scope="module")
def config(pretrained: PretrainConfig, tmp_path_factory: pytest.TempPathFactory) -> FinetuneConfig:
    """Three classes; not yet run."""
    folder = tmp_path_factory.mktemp("finetuned")
    files = {
        name: labelled(folder / f"{name}.tsv", count, THREE, seed)
        for seed, (name, count) in enumerate({"train": 90, "validation": 39, "test": 45}.items())
    }
    return FinetuneConfig(
        workdir=str(folder / "workdir"),
        init=pretrained.workdir,
        encoder=FinetunedEncoderConfig(compute_dtype="float32"),
        batch_size=BATCH,
        epochs=EPOCHS,
        learning_rate=5e-3,
        report_every=4,
        reverse_complement=False,
        data=LabelledConfig(**files),
    )


@pytest.fixture(scope="module")
def straight(config: FinetuneConfig) -> Watched:
    """That run, undisturbed."""
    return Watched(config)


@pytest.fixture
def again(config: FinetuneConfig, tmp_path: Path) -> FinetuneConfig:
    """The same run in a workdir of its own, not yet begun."""
    return dataclasses.replace(config, workdir=str(tmp_path / "workdir"))


def encoder_of(arrays: dict[str, np.ndarray], prefix: str = "") -> dict[str, np.ndarray]:
    start = f"{prefix}['encoder']"
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(start)}


def pretrained_encoder(config: PretrainConfig) -> dict[str, np.ndarray]:
    return encoder_of(runs.final(config)[1], "['params']")


def validations(workdir: str | Path) -> list[dict[str, Any]]:
    return [each for each in runs.metrics(workdir) if each["split"] == "validation"]


def assert_same_end(config: FinetuneConfig, found: Watched, straight: Watched, straight_config: FinetuneConfig) -> None:
    runs.assert_same_bits(found.last, straight.last)
    assert found.result == straight.result
    assert runs.metrics(config.workdir) == runs.metrics(straight_config.workdir)
    assert json.loads((Path(config.workdir) / "result.json").read_text()) == json.loads(
        (Path(straight_config.workdir) / "result.json").read_text()
    )


def test_begins_with_the_encoder_of_the_pretraining_bit_for_bit(straight, pretrained):
    expected = pretrained_encoder(pretrained)
    assert len(expected) > 10
    runs.assert_same_bits(encoder_of(straight.first), expected)


def test_says_what_was_loaded_and_what_is_new(straight, pretrained):
    encoder = pretrained_encoder(pretrained)
    size = sum(values.size for values in encoder.values())
    hidden, classes = tiny.ENCODER.hidden, len(THREE)
    assert straight.said == [
        f"loaded from {pretrained.workdir} (step 2): encoder ({len(encoder)} arrays, {size:,} params)",
        f"new: classifier (2 arrays, {hidden * classes + classes} params), "
        f"pooler (2 arrays, {hidden * hidden + hidden:,} params)",
        f"mlm_head of {pretrained.workdir} is not taken: this model has none",
    ]


def test_random_params_take_only_the_shape(again, pretrained):
    random = Watched(dataclasses.replace(again, random_params=True), begin_only=True)
    assert random.said == ["encoder: random params"]
    expected = pretrained_encoder(pretrained)
    found = encoder_of(random.first)
    assert {name: values.shape for name, values in found.items()} == {
        name: values.shape for name, values in expected.items()
    }
    tables = [name for name in found if "token" in name]
    assert tables
    assert all((found[name] != expected[name]).any() for name in tables)


def test_without_init_the_encoder_is_the_one_in_the_config(again):
    config = dataclasses.replace(again, init="", encoder=dataclasses.replace(tiny.FINETUNED, layers=1))
    assert Watched(config, begin_only=True).said == ["encoder: random params"]


def test_learns_what_is_easy_to_tell_apart(straight, config):
    assert straight.result["accuracy"] > 0.95
    assert straight.result["mcc"] > 0.9
    losses = [each["loss"] for each in runs.metrics(config.workdir) if each["split"] == "train"]
    assert losses[-1] < losses[0] / 2


def test_leaves_its_result_pictures_and_classes(straight, config):
    workdir = Path(config.workdir)
    result = json.loads((workdir / "result.json").read_text())
    assert result == straight.result
    assert (result["split"], result["examples"], result["init"]) == ("test", 45, config.init)
    for name in ("accuracy", "f1", "mcc", "precision", "recall", "auroc", "auprc"):
        assert -1 <= result[name] <= 1
    assert set(result["per_class"]) == set(THREE)
    assert json.loads((workdir / "classes.json").read_text()) == sorted(THREE)
    for picture in ("roc.png", "pr.png", "confusion.png"):
        assert (workdir / picture).read_bytes().startswith(b"\x89PNG")


def test_leaves_what_it_predicted_and_what_it_was_trained_on(straight, config):
    workdir, classes = Path(config.workdir), tuple(sorted(THREE))
    found = judged.read(workdir / judged.FILE, "single_label", classes)
    figures = evaluation.figures("single_label", found.labels, found.predictions, classes)
    assert figures == {name: straight.result[name] for name in figures}
    assert found.ids == tuple(f"line {2 + number}" for number in range(45))
    data = straight.result["data"]
    assert {name: each["sequences"] for name, each in data.items()} == {"train": 90, "validation": 39, "test": 45}
    assert data["train"]["per_class"] == {"ag": 30, "at": 30, "cg": 30}
    assert len({each["digest"] for each in data.values()}) == 3
    assert straight.result["made_with"]["jax"] == jax.__version__


def test_evaluates_every_epoch_and_reports_between(straight, config):
    found = [(each["step"], each["split"]) for each in runs.metrics(config.workdir)]
    last = EPOCHS * PER_EPOCH
    trained = [step for step in range(1, last + 1) if step % config.report_every == 0]
    validated = [epoch * PER_EPOCH for epoch in range(1, EPOCHS + 1)]
    assert found == sorted(
        [(step, "train") for step in trained] + [(step, "validation") for step in validated],
        key=lambda each: (each[0], each[1]),
    )


def test_the_learning_rate_warms_up_over_a_tenth_and_falls_to_nothing(straight, config):
    total, warmup = EPOCHS * PER_EPOCH, 2
    for each in runs.metrics(config.workdir):
        if each["split"] == "train":
            done = each["step"] - 1
            assert each["learning_rate"] == pytest.approx(5e-3 * (total - done) / (total - warmup), rel=1e-5)


def test_the_best_epoch_is_the_first_with_the_highest_mcc(straight, config):
    figures = [each["mcc"] for each in validations(config.workdir)]
    assert straight.result["best_epoch"] == 1 + figures.index(max(figures))
    better = [1 + number for number, mcc in enumerate(figures) if mcc > max(figures[:number], default=-2)]
    kept = sorted(int(each.name) for each in (Path(config.workdir) / "best").iterdir())
    assert kept == [epoch * PER_EPOCH for epoch in better[-2:]]


def test_the_best_before_a_stop_is_known_without_the_reports(straight, config, again):
    with runs.stopped_in(EPOCHS * PER_EPOCH - 1), pytest.raises(Interrupted):
        finetune.run(again, lambda line: None)
    (Path(again.workdir) / "metrics.jsonl").unlink()
    assert Watched(again).result == straight.result


@pytest.mark.parametrize("step", [3, PER_EPOCH, pytest.param(2 * PER_EPOCH + 1, marks=pytest.mark.slow)])
def test_stopped_and_resumed_it_ends_bit_for_bit_the_same(step, straight, config, again):
    with runs.stopped_in(step), pytest.raises(Interrupted, match=f"saved step {step};"):
        finetune.run(again, lambda line: None)
    found = Watched(again)
    assert found.said == [f"resuming from step {step}"]
    assert_same_end(again, found, straight, config)


def test_a_damaged_checkpoint_is_passed_over_and_the_end_is_the_same(straight, config, again):
    shutil.copytree(config.workdir, again.workdir)
    damaged = Path(again.workdir) / "checkpoints" / str(EPOCHS * PER_EPOCH)
    runs.cut_short(damaged)
    found = Watched(again)
    before = (EPOCHS - 1) * PER_EPOCH
    assert any(line.startswith(f"{damaged}: ") and line.endswith(f"; taking step {before}") for line in found.said)
    assert f"resuming from step {before}" in found.said
    assert_same_end(again, found, straight, config)


def test_started_again_when_complete_it_changes_nothing(straight, config, again):
    shutil.copytree(config.workdir, again.workdir)
    assert_same_end(again, Watched(again), straight, config)


def test_resuming_needs_no_init(straight, config, again, pretrained, tmp_path):
    init = shutil.copytree(pretrained.workdir, tmp_path / "init")
    again = dataclasses.replace(again, init=str(init))
    with runs.stopped_in(3), pytest.raises(Interrupted):
        finetune.run(again, lambda line: None)
    shutil.rmtree(init)
    found = Watched(again)
    assert found.said == ["resuming from step 3"]
    runs.assert_same_bits(found.last, straight.last)
    assert found.result == {**straight.result, "init": str(init)}


def test_a_resumed_run_keeps_the_init_that_it_began_with(straight, config, again, pretrained):
    shutil.copytree(config.workdir, again.workdir)
    said = []
    result = finetune.run(dataclasses.replace(again, init="another"), said.append)
    assert said[0] == f"init another is not read: the run in {again.workdir} began with {pretrained.workdir}"
    assert result["init"] == pretrained.workdir
    assert workdir.read_config(again.workdir, FinetuneConfig).init == pretrained.workdir


def test_resuming_with_another_shape_is_refused(straight, config, again):
    shutil.copytree(config.workdir, again.workdir)
    before = runs.contents(Path(again.workdir))
    with pytest.raises(InputError) as refused:
        finetune.run(dataclasses.replace(again, encoder=FinetunedEncoderConfig(k=6)), lambda line: None)
    assert str(refused.value) == f"encoder.k is 6, but the model in {again.workdir} has 3"
    assert runs.contents(Path(again.workdir)) == before


def test_a_run_that_left_no_checkpoint_begins_with_init(config, again, pretrained):
    workdir.claim(again.workdir, finetune._completed(again, stored.read(again.init, runs.no_word), None))
    begun = Watched(again, begin_only=True)
    assert begun.said[0].startswith(f"loaded from {pretrained.workdir} (step 2): ")
    runs.assert_same_bits(encoder_of(begun.first), pretrained_encoder(pretrained))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_resuming_on_other_sequences_is_refused(split, config, again, tmp_path):
    copy = tmp_path / "copy.tsv"
    shutil.copyfile(getattr(config.data, split), copy)
    again = dataclasses.replace(again, data=dataclasses.replace(again.data, **{split: str(copy)}))
    with runs.stopped_in(1), pytest.raises(Interrupted):
        finetune.run(again, lambda line: None)
    labelled(copy, 90, THREE, seed=9)
    before = runs.contents(Path(again.workdir))
    with pytest.raises(InputError, match=rf"not the data that this run began with: data\.{split} \("):
        finetune.run(again, lambda line: None)
    assert runs.contents(Path(again.workdir)) == before


@pytest.fixture(scope="module")
def frozen(config: FinetuneConfig, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Two classes named by numbers, a frozen encoder, no test set, and a trace of two steps."""
    folder = tmp_path_factory.mktemp("frozen")
    data = LabelledConfig(
        train=labelled(folder / "train.tsv", 90, TWO, 0), validation=labelled(folder / "validation.tsv", 40, TWO, 1)
    )
    return Watched(
        dataclasses.replace(
            config,
            workdir=str(folder / "workdir"),
            freeze_encoder=True,
            reverse_complement=True,
            data=data,
            profile="2:4",
        )
    )


def test_a_frozen_encoder_stays_as_it_was_while_the_rest_learns(frozen, pretrained):
    runs.assert_same_bits(encoder_of(frozen.last, "['params']"), pretrained_encoder(pretrained))
    for name in ("pooler", "classifier"):
        new = [key for key in frozen.first if key.startswith(f"['{name}']")]
        assert len(new) == 2
        assert all((frozen.first[key] != frozen.last["['params']" + key]).any() for key in new)
    assert not any("encoder" in name for name in frozen.last if name.startswith("['optimizer']"))


def test_a_frozen_encoder_serves_two_classes(frozen):
    assert frozen.result["accuracy"] > 0.95
    assert set(frozen.result["per_class"]) == {"0", "1"}


def test_without_a_test_set_the_result_is_of_the_validation(frozen):
    assert (frozen.result["split"], frozen.result["examples"]) == ("validation", 40)


def test_a_trace_of_steps_is_written(frozen):
    (trace,) = frozen.folder.glob("tensorboard/plugins/profile/*/*.xplane.pb")
    assert trace.parent.name == "steps_2_to_3"


def refusal(config: FinetuneConfig) -> str:
    with pytest.raises(InputError) as refused:
        finetune.run(config, lambda line: None)
    assert not Path(config.workdir).exists() or not any(Path(config.workdir).glob("[!.]*"))
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_a_trace_of_more_steps_than_there_are_is_refused(again):
    steps = EPOCHS * PER_EPOCH
    assert refusal(dataclasses.replace(again, profile=f"2:{steps + 1}")) == (
        f"profile is '2:{steps + 1}'; expected an END of at most {steps}, the steps of this run"
    )


@pytest.mark.parametrize(
    ("name", "asked", "there"), [("k", 4, 3), ("k", 6, 3), ("layers", 12, 2), ("layer_norm_epsilon", 1e-5, 1e-12)]
)
def test_another_shape_than_the_model_has_is_refused(name, asked, there, again):
    message = refusal(dataclasses.replace(again, encoder=dataclasses.replace(again.encoder, **{name: asked})))
    assert message == f"encoder.{name} is {asked}, but the model in {again.init} has {there}"


def test_the_shape_comes_from_the_model_and_how_it_is_computed_from_the_run(straight, config, pretrained):
    encoder = workdir.read_config(config.workdir, FinetuneConfig).encoder
    assert encoder == config.encoder.filled(pretrained.encoder)
    asked = FinetunedEncoderConfig(k=3, remat="full", attention="xla", scan_layers=False)
    source = stored.read(config.init, runs.no_word)
    completed = finetune._completed(dataclasses.replace(config, workdir="", encoder=asked), source, None).encoder
    assert completed == dataclasses.replace(encoder, **run_time(asked))


def run_time(encoder: FinetunedEncoderConfig) -> dict[str, Any]:
    names = ("compute_dtype", "remat", "attention", "scan_layers")
    return {name: getattr(encoder, name) for name in names}


@pytest.mark.parametrize("name", ["train", "validation"])
def test_labelled_data_that_are_not_given_are_refused(name, again):
    message = refusal(dataclasses.replace(again, data=dataclasses.replace(again.data, **{name: ""})))
    assert message.startswith(f"data.{name} is empty; ")


def test_an_init_that_is_no_model_is_refused(again, tmp_path):
    assert "is no model folder" in refusal(dataclasses.replace(again, init=str(tmp_path)))


def test_a_fine_tuned_model_is_fine_tuned_further(again, straight, config):
    begun = Watched(dataclasses.replace(again, init=config.workdir), begin_only=True)
    assert begun.said[0].startswith(f"loaded from {config.workdir} (step ")
    runs.assert_same_bits(begun.first, runs.arrays(stored.read(config.workdir, runs.no_word).params))


def test_positions_of_another_number_are_made_to_fit(again, pretrained):
    table = "['encoder']['embeddings']['position']"
    for length, word in ((100, "repeating"), (50, "the first 50 of 64")):
        longer = dataclasses.replace(again, encoder=dataclasses.replace(again.encoder, max_length=length))
        longer = dataclasses.replace(longer, workdir=f"{again.workdir}-{length}")
        begun = Watched(longer, begin_only=True)
        assert begun.first[table].shape == (length, 32)
        assert any(line.startswith("positions: ") and word in line for line in begun.said)
        assert workdir.read_config(longer.workdir, FinetuneConfig).encoder.max_length == length


def test_an_init_without_a_checkpoint_is_refused(again, pretrained, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copyfile(Path(pretrained.workdir) / "config.json", empty / "config.json")
    assert "holds no checkpoint" in refusal(dataclasses.replace(again, init=str(empty)))


def test_a_label_that_training_lacks_is_refused(again, tmp_path):
    other = labelled(tmp_path / "other.tsv", 10, {"at": "AT", "xx": "CG"}, 0)
    message = refusal(dataclasses.replace(again, data=dataclasses.replace(again.data, validation=other)))
    assert other in message
    assert "line 3" in message
    assert "'xx'" in message


def test_a_sequence_longer_than_the_model_reads_is_refused(again, tmp_path):
    long = tmp_path / "long.tsv"
    long.write_text(f"sequence\tlabel\n{'A' * 64}\tat\n{'C' * 65}\tcg\n")
    message = refusal(dataclasses.replace(again, data=dataclasses.replace(again.data, train=str(long))))
    assert f"{long}: line 3: a sequence of 65 bases; expected 3 (k) to 64" in message
