import dataclasses
import errno
import json
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax.config import (
    DataConfig,
    EncoderConfig,
    FinetuneConfig,
    FinetunedEncoderConfig,
    LoopConfig,
    PretrainConfig,
    field_names,
    from_json,
    to_json,
)
from dnabert_jax.errors import InputError, RunStopped
from dnabert_jax.training import workdir

PRETRAIN = PretrainConfig(seed=3, encoder=EncoderConfig(layers=2, hidden=32, heads=2, intermediate=64))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refusal(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_claim_makes_the_folder_and_its_config_reads_back(tmp_path):
    folder = tmp_path / "a" / "b"
    assert workdir.claim(folder, PRETRAIN) is False
    assert workdir.read_config(folder, PretrainConfig) == PRETRAIN
    assert list(contents(folder)) == ["config.json"]


def test_claim_recognises_its_own_run(tmp_path):
    workdir.claim(tmp_path, PRETRAIN)
    assert workdir.claim(tmp_path, PRETRAIN) is True


def test_claim_lets_a_run_go_on_for_longer_and_elsewhere(tmp_path):
    workdir.claim(tmp_path, PRETRAIN)
    longer = dataclasses.replace(
        PRETRAIN, workdir="moved", accumulation=4, data=DataConfig(path="moved too"), loop=LoopConfig(steps=7, keep=9)
    )
    assert workdir.claim(tmp_path, longer) is True
    assert workdir.read_config(tmp_path, PretrainConfig) == PRETRAIN  # until the run does go on
    workdir.update(tmp_path, longer)
    assert workdir.read_config(tmp_path, PretrainConfig) == longer


def test_claim_refuses_another_config_and_says_which_fields_differ(tmp_path):
    workdir.claim(tmp_path, PRETRAIN)
    before = contents(tmp_path)
    other = dataclasses.replace(
        PRETRAIN, seed=4, loop=LoopConfig(steps=7), encoder=dataclasses.replace(PRETRAIN.encoder, k=3)
    )
    message = refusal(workdir.claim, tmp_path, other)
    assert "seed (3 → 4)" in message
    assert "encoder.k (6 → 3)" in message
    assert "steps" not in message
    assert str(tmp_path) in message
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("first", "second"), [(PRETRAIN, FinetuneConfig()), (FinetuneConfig(), PRETRAIN)])
def test_claim_refuses_the_other_kind_of_run(tmp_path, first, second):
    workdir.claim(tmp_path, first)
    before = contents(tmp_path)
    assert "belongs to a " in refusal(workdir.claim, tmp_path, second)
    assert contents(tmp_path) == before


DAMAGED = {
    "empty": b"",
    "cut short": to_json(PRETRAIN).encode()[:200],
    "not text": b"\xff\xfe\x00\x01",
    "a list": b"[1, 2]",
    "no run": b"{}",
    "another program's": b'{"model_type": "bert", "hidden_size": 768}',
    "unknown field": b'{"masking": {"rat": 0.15}}',
    "wrong type": b'{"masking": {"rate": "much"}}',
    "out of range": b'{"masking": {"rate": 1.5}}',
    "deeply nested": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_claim_leaves_a_config_alone_that_it_cannot_read(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    assert "config.json" in refusal(workdir.claim, tmp_path, PRETRAIN)
    assert contents(tmp_path) == {"config.json": content}


def test_claim_refuses_checkpoints_of_which_nothing_is_known(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    assert "checkpoints but no config.json" in refusal(workdir.claim, tmp_path, PRETRAIN)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_claim_refuses_a_file_and_no_name(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    assert str(file) in refusal(workdir.claim, file, PRETRAIN)
    assert str(file) in refusal(workdir.claim, file / "below", PRETRAIN)
    assert "--workdir" in refusal(workdir.claim, "", PRETRAIN)
    assert file.read_text() == "mine"


def test_every_field_that_may_differ_is_a_field():
    assert set(workdir.MAY_DIFFER) <= set(field_names(PretrainConfig()) + field_names(FinetuneConfig()))


def test_read_config_takes_any_of_several_kinds(tmp_path):
    workdir.claim(tmp_path, FinetuneConfig(seed=5))
    assert workdir.read_config(tmp_path, PretrainConfig, FinetuneConfig) == FinetuneConfig(seed=5)
    assert "pretraining run" in refusal(workdir.read_config, tmp_path, PretrainConfig)


def test_read_config_names_a_folder_that_is_no_workdir(tmp_path):
    assert "holds no config.json" in refusal(workdir.read_config, tmp_path, PretrainConfig)
    assert "holds no config.json" in refusal(workdir.read_config, tmp_path / "absent", FinetuneConfig)


def test_config_of_a_finetuning_run_with_an_encoder_reads_back(tmp_path):
    config = FinetuneConfig(encoder=FinetunedEncoderConfig().filled(PRETRAIN.encoder))
    workdir.claim(tmp_path, config)
    assert from_json(FinetuneConfig, (tmp_path / "config.json").read_text(), "it") == config


def test_lock_keeps_a_second_one_out_and_lets_it_in_afterwards(tmp_path):
    folder = tmp_path / "new"
    with workdir.lock(folder):
        with pytest.raises(InputError, match=f"pid {os.getpid()} on"), workdir.lock(folder):
            pass
        with pytest.raises(InputError), workdir.lock(folder):  # a refused attempt takes nothing away
            pass
    with workdir.lock(folder):
        pass


def test_lock_goes_with_a_process_that_ends_badly(tmp_path):
    script = (
        f"import os; from dnabert_jax.training.workdir import lock; lock({str(tmp_path)!r}).__enter__(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    with workdir.lock(tmp_path):
        pass


def test_lock_refuses_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="no folder"), workdir.lock(tmp_path / "file"):
        pass


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    workdir.write_text(path, "old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunStopped, match=r"result\.json"):
        workdir.write_text(path, "new")
    assert contents(tmp_path) == {"result.json": b"old"}


def test_write_json_turns_figures_of_any_kind_into_plain_ones(tmp_path):
    path = tmp_path / "result.json"
    values = {
        "loss": np.float32(0.5),
        "steps": np.int64(3),
        "matrix": np.array([[1, 2], [3, 4]]),
        "unknown": float("nan"),
        "largest": np.float32("inf"),
        "device": jnp.array(1.5, jnp.bfloat16),
        "flag": np.bool_(True),
        "nested": {"list": (1.0, float("-inf"), None, "donor")},
        "folder": tmp_path,
    }
    workdir.write_json(path, values)
    text = path.read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text) == {
        "loss": 0.5,
        "steps": 3,
        "matrix": [[1, 2], [3, 4]],
        "unknown": None,
        "largest": None,
        "device": 1.5,
        "flag": True,
        "nested": {"list": [1.0, None, None, "donor"]},
        "folder": str(tmp_path),
    }
