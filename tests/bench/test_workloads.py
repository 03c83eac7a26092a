"""The suites are what they were when they were named."""

import dataclasses

import pytest

from dnabert_jax.bench.choices import Choices
from dnabert_jax.bench.workloads import QUICK, SUITE, workloads
from dnabert_jax.errors import InputError

DIGESTS = {
    SUITE: {
        "pretrain-base-512": "b792f3262e219982",
        "pretrain-base-512-padded": "39b9a4333840a15c",
        "finetune-base-128": "660fe884187e976d",
        "predict-base-512": "e21e567750e614ec",
        "input-pipeline": "48a7334dc8852266",
        "compile": "74232070befb3c36",
    },
    QUICK: {
        "pretrain-base-512": "10a2284224bf6d64",
        "pretrain-base-512-padded": "50353a4b3742c862",
        "finetune-base-128": "aca0b286c713fcb8",
        "predict-base-512": "cf8b0871c92453db",
        "input-pipeline": "0627551c01d8e271",
        "compile": "0d99e964913c83ed",
    },
}
"""A suite never changes. Where a value has to, the suite needs another name."""


@pytest.mark.parametrize("suite", [SUITE, QUICK])
def test_a_suite_is_what_it_was_when_it_was_named(suite):
    assert {name: each.digest for name, each in workloads(suite).items()} == DIGESTS[suite]


def test_both_suites_have_the_same_six():
    assert list(workloads(SUITE)) == list(workloads(QUICK))
    assert len(workloads(SUITE)) == 6


def test_the_digest_follows_from_the_work_and_not_from_how_it_is_computed():
    workload = workloads(SUITE)["pretrain-base-512"]

    def changed(**values):
        return dataclasses.replace(workload, encoder=dataclasses.replace(workload.encoder, **values)).digest

    assert changed(remat="full", scan_layers=False, attention="xla") == workload.digest
    assert changed(hidden_dropout=0.2) != workload.digest
    assert dataclasses.replace(workload, pack=False).digest != workload.digest


def test_choices_change_how_the_encoder_is_computed():
    workload = workloads(SUITE)["pretrain-base-512"]
    assert Choices().encoder(workload) == workload.encoder
    chosen = Choices(compute_dtype="float32", scan_layers=False).encoder(workload)
    assert (chosen.compute_dtype, chosen.scan_layers) == ("float32", False)
    assert chosen.layers == workload.encoder.layers


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch_size": -1}, {"warmup": 0}])
def test_choices_out_of_range(wrong):
    with pytest.raises(InputError, match="; expected"):
        Choices(**wrong)
