"""What the peer is fed, how it is picked and compared, and what is said where it cannot run."""

import contextlib
import dataclasses
import importlib.util

import numpy as np
import pytest

from dnabert_jax.bench import peer, work
from dnabert_jax.bench.choices import Choices
from dnabert_jax.bench.timing import Counts, Timing
from dnabert_jax.bench.workloads import Workload
from dnabert_jax.config import DataConfig, MaskingConfig, PretrainConfig
from dnabert_jax.data import shards as datasets
from dnabert_jax.errors import InputError, RunStopped
from tests import tiny

CHOICES = Choices(steps=2, warmup=1)
CONFIG = PretrainConfig(
    batch_size=4,
    row_length=64,
    encoder=tiny.without_dropout(),
    masking=MaskingConfig(rate=0.15, late_rate=0.5, late_step=1),
    data=DataConfig(pack=True),
)
WORKLOAD = Workload("tiny", "pretrain", CONFIG.encoder, CONFIG.row_length)
OURS = Counts(tokens=256, useful_tokens=250, flops=1.0, input_wait_s=0.0)


@pytest.fixture(scope="module")
def split(shards):
    return datasets.open_split(str(shards), "train")


@pytest.fixture
def peer_torch():
    pytest.importorskip("torch", reason="needs PyTorch, which is in the interop extra")
    pytest.importorskip("transformers", reason="needs transformers, which is in the interop extra")
    from dnabert_jax.bench import peer_torch

    return peer_torch


def _measure(split, said):
    ours = work.Work(lambda: OURS, None, None, None, CONFIG.batch_size, CONFIG, devices=1, close=lambda: None)
    return peer.measure(WORKLOAD, CHOICES, CONFIG.batch_size, ours, split, said.append)


def test_rows_hold_one_segment_each_and_are_masked_as_their_step_is(split):
    found = peer.masked_rows(CONFIG, split, 40)
    assert len(found) == 40
    for rows in found:
        lengths = rows.used.sum(axis=1)
        np.testing.assert_array_equal(rows.used, np.arange(64) < lengths[:, None])
        assert not np.any(rows.labels[~rows.used] != -100)
    hidden = [np.sum(rows.labels != -100) / rows.used.sum() for rows in found]
    assert np.mean(hidden[1:]) == pytest.approx(0.5, abs=0.08)  # from step 1 on
    assert len({rows.tokens.tobytes() for rows in found}) == 40


def test_padded_rows_are_those_of_our_own_steps(split):
    encoder = dataclasses.replace(CONFIG.encoder, layers=1)  # compiles fast
    workload = dataclasses.replace(WORKLOAD, encoder=encoder, pack=False, masking=CONFIG.masking)
    ours = work.start(workload, Choices(compute_dtype="float32", scan_layers=False), CONFIG.batch_size, split)
    with contextlib.closing(ours):
        # The FLOPs count the masked tokens, so they tell one mask from another.
        found = [ours.step()._replace(input_wait_s=0.0) for _ in range(4)]
    assert found == [peer._counts(ours.config, rows) for rows in peer.masked_rows(ours.config, split, 4)]


def test_a_ratio_does_not_mind_what_slows_both_down():
    seconds = np.random.default_rng(0).uniform(1, 9, 30)
    ours = Timing(list(seconds), [Counts(100, 80, 0.0, 0.0)] * 30)
    theirs = Timing(list(2 * seconds), [Counts(100, 40, 0.0, 0.0)] * 30)
    assert peer._ratio(ours, theirs) == pytest.approx({"ratio": 4.0, "low": 4.0, "high": 4.0})


def test_the_interval_of_a_ratio_is_that_of_means_of_turns():
    generator = np.random.default_rng(1)
    ours = Timing(list(generator.normal(1.0, 0.1, 400)), [Counts(1, 1, 0.0, 0.0)] * 400)
    theirs = Timing([1.0] * 400, [Counts(1, 1, 0.0, 0.0)] * 400)
    found = peer._ratio(ours, theirs)
    half = 1.96 * 0.1 / 20  # of a mean of 400 with this deviation
    assert found["low"] < found["ratio"] < found["high"]
    assert found["high"] - found["low"] == pytest.approx(2 * half, rel=0.15)


def test_missing_packages_are_named_with_the_extra_that_has_them(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(InputError, match="torch not installed; expected the `interop` extra") as refusal:
        peer.require()
    assert "transformers not" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_environment_leaves_half_of_a_gpu_to_the_peer_and_the_users_choice_alone(monkeypatch):
    for name in ("XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION"):
        monkeypatch.delenv(name, raising=False)
    assert peer.environment() == {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5",
    }
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "0.3")
    assert peer.environment() == {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    monkeypatch.delenv("XLA_CLIENT_MEM_FRACTION")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    assert peer.environment() == {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"}


def test_eager_kernels_are_tried_and_the_best_runs_in_turn_with_ours(split, monkeypatch, peer_torch):
    monkeypatch.setattr(peer, "_WORTH_COMPILING", 0.0)  # compiling takes a minute; the slow test does
    said = []
    variants, ours = _measure(split, said)
    assert ours.counts == [OURS] * CHOICES.steps
    assert [each["name"] for each in variants] == [f"eager, {each} attention" for each in peer_torch.KERNELS]
    (best,) = (each for each in variants if each["best"])
    assert best["steps"] == CHOICES.steps
    assert best["batch_size"] == CONFIG.batch_size
    assert best["ours_per_theirs"]["low"] <= best["ours_per_theirs"]["ratio"] <= best["ours_per_theirs"]["high"]
    useful = [rows.used.sum() for rows in peer.masked_rows(CONFIG, split, 3)]
    assert best["useful_tokens_per_second"] / best["tokens_per_second"] in [
        pytest.approx(sum(some) / (len(some) * 256)) for some in (useful[:2], useful[1:], (useful[2], useful[0]))
    ]
    for each in variants:
        assert (each["skipped"] is None) == (each["step_time_ms"] is not None)
        assert each["steps"] in (None, peer.PICK_STEPS, CHOICES.steps)
        assert each["compile_time_s"] is None
        assert any(each["name"] in line and "\n" not in line for line in said)


def test_a_peer_that_does_not_fit_reads_half_the_rows(split, monkeypatch, peer_torch):
    import torch

    monkeypatch.setattr(peer, "_WORTH_COMPILING", 0.0)
    whole = peer_torch.Peer.step

    def step(self, variant):
        run = whole(self, variant)

        def one(batch, learning_rate):
            if len(batch["input_ids"]) > 1:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return run(batch, learning_rate)

        return one

    monkeypatch.setattr(peer_torch.Peer, "step", step)
    variants, _ = _measure(split, [])
    assert {each["batch_size"] for each in variants} == {None, 1}


def test_a_peer_that_does_not_run_at_all_says_why(split, monkeypatch, peer_torch):
    def step(self, variant):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(peer_torch.Peer, "step", step)
    with pytest.raises(RunStopped, match="math attention: no such kernel") as stop:
        _measure(split, [])
    assert "\n" not in str(stop.value)


@pytest.mark.slow
def test_the_best_compiled_variant_runs_too(split, monkeypatch, peer_torch):
    monkeypatch.setattr(peer_torch, "KERNELS", ("flash", "math"))
    monkeypatch.setattr(peer, "_WORTH_COMPILING", float("inf"))  # both, so that one of them is compiled anew
    variants, _ = _measure(split, [])
    compiled = [each for each in variants if each["mode"] == "compiled"]
    assert len(compiled) == 2
    assert all(each["compile_time_s"] >= 0 for each in compiled)
    ratios = [each["mode"] for each in variants if each["ours_per_theirs"]]
    assert sorted(ratios) == ["compiled", "eager"]
