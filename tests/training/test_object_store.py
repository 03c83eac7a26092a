"""A run whose workdir lies on an object store: it ends as one on a disk does, whatever comes in between."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from dnabert_jax import places, prediction, stored
from dnabert_jax.config import FinetuneConfig, LabelledConfig, PretrainConfig
from dnabert_jax.errors import InputError, Interrupted, RunStopped
from dnabert_jax.training import finetune, pretrain, reports, workdir
from dnabert_jax.training.profile import Profile
from tests import object_store, tiny
from tests.training import runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_store.s3() as address:
        yield address


def _names(folder: str) -> set[str]:
    return {each.name for each in places.place(folder).iterdir()}


def _metrics(folder: str, tmp_path: Path) -> list[dict]:
    (tmp_path / "metrics.jsonl").write_bytes((places.place(folder) / "metrics.jsonl").read_bytes())
    return runs.metrics(tmp_path)


def test_a_run_is_stopped_resumed_and_met_by_damage(shards: Path, bucket: str, tmp_path: Path):
    straight = runs.pretraining(shards, tmp_path / "straight")
    pretrain.run(straight, runs.no_word)
    config = dataclasses.replace(straight, workdir=f"{bucket}/runs/a")
    with pytest.raises(Interrupted), runs.stopped_in(6):
        pretrain.run(config, runs.no_word)
    assert _names(config.workdir) == {"config.json", "checkpoints", "metrics.jsonl", "tensorboard"}

    said: list[str] = []
    result = pretrain.run(config, said.append)
    assert said == ["resuming from step 6"]
    _assert_same_end(config, straight, result, tmp_path)
    curves = places.place(config.workdir) / "tensorboard"
    assert len(list(curves.iterdir())) == 2  # one file for each start

    newest = places.place(config.workdir) / "checkpoints" / "10"
    arrays = newest / "optimizer" / "ocdbt.process_0" / "d"
    for file in list(arrays.iterdir()):
        file.write_bytes(file.read_bytes()[:10])
    said.clear()
    result = pretrain.run(config, said.append)
    assert "10: the checkpoint is damaged" in said[0]
    assert said[1:] == ["resuming from step 8"]
    assert _names(f"{config.workdir}/checkpoints") >= {"10", "10.damaged"}
    _assert_same_end(config, straight, result, tmp_path)


def _assert_same_end(config: PretrainConfig, straight: PretrainConfig, result: dict, tmp_path: Path) -> None:
    assert workdir.read_config(config.workdir, PretrainConfig) == config
    assert json.loads((places.place(config.workdir) / "result.json").read_text()) == result
    assert result == json.loads((Path(straight.workdir) / "result.json").read_text())
    assert _metrics(config.workdir, tmp_path) == runs.metrics(straight.workdir)
    found, expected = (stored.read(each.workdir, runs.no_word) for each in (config, straight))
    assert found.origin == expected.origin == "step 10"
    runs.assert_same_bits(runs.arrays(found.params), runs.arrays(expected.params))


def test_a_save_that_was_killed_is_no_checkpoint(shards: Path, bucket: str):
    config = runs.pretraining(shards, Path("unused"))
    config = dataclasses.replace(config, workdir=f"{bucket}/runs/killed")
    pretrain.run(config, runs.no_word)
    (places.place(config.workdir) / "checkpoints" / "10" / "commit_success.txt").unlink()
    assert stored.read(config.workdir, runs.no_word).origin == "step 8"
    said: list[str] = []
    pretrain.run(config, said.append)
    assert said == ["resuming from step 8"]


def test_fine_tuning_and_prediction(bucket: str, tmp_path: Path):
    generator = np.random.default_rng(0)
    rows = [("".join(generator.choice(list("ACGT"), 40)), "yes" if i % 2 else "no") for i in range(24)]
    table = tmp_path / "train.tsv"
    table.write_text("sequence\tlabel\n" + "".join(f"{dna}\t{label}\n" for dna, label in rows))
    config = FinetuneConfig(
        workdir=f"{bucket}/tuned",
        encoder=tiny.FINETUNED,
        batch_size=8,
        epochs=1,
        data=LabelledConfig(train=str(table), validation=str(table)),
    )
    result = finetune.run(config, lambda line: None)
    there = _names(config.workdir)
    assert {"best", "classes.json", "predictions.tsv", "result.json", "tensorboard"} <= there
    assert any(name.endswith(".png") for name in there)
    assert json.loads((places.place(config.workdir) / "result.json").read_text())["split"] == result["split"]

    (tmp_path / "in.fa").write_text(f">a\n{rows[0][0]}\n")
    prediction.predict(config.workdir, tmp_path / "in.fa", tmp_path / "out.tsv", say=runs.no_word)
    assert (tmp_path / "out.tsv").read_text().startswith("id\t")


def test_the_run_that_began_last_holds_the_workdir(bucket: str):
    place = f"{bucket}/held"
    with workdir.lock(place):
        with reports.Reports(place) as first:
            first.write(1, "train", {"loss": 2.0})
            with workdir.lock(place), reports.Reports(place, 1) as second:
                with pytest.raises(RunStopped, match="has taken over this workdir"):
                    first.write(2, "train", {"loss": 1.0})
                second.write(2, "train", {"loss": 1.5})
        assert [report["loss"] for report in reports.read(place)] == [2.0, 1.5]
    assert workdir.holder(place) == ""


def test_a_bucket_that_is_missing_is_one_line(shards: Path, bucket: str):
    config = dataclasses.replace(runs.pretraining(shards, Path("unused")), workdir="s3://no-such-bucket/w")
    with pytest.raises(InputError, match=r"s3://no-such-bucket/w/.*cannot be written"):
        pretrain.run(config, runs.no_word)


def test_a_trace_is_stored_beside_the_curves(bucket: str):
    said: list[str] = []
    with Profile(range(1, 2), f"{bucket}/runs/traced", said.append) as profile:
        for number in range(3):
            with profile.step(number, contextlib.nullcontext):
                jax.numpy.arange(number).block_until_ready()
    place = f"{bucket}/runs/traced/tensorboard/plugins/profile/steps_1_to_1"
    assert said == [f"trace of steps 1 to 1: {place}"]
    (name,) = _names(place)
    assert name.endswith(".xplane.pb")
