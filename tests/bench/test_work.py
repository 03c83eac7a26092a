"""The steps of workloads, tiny ones: what they count, against counts of the batches themselves."""

import dataclasses

import jax
import numpy as np
import pytest

from dnabert_jax import kmers
from dnabert_jax.bench import flops, work
from dnabert_jax.bench.choices import Choices
from dnabert_jax.bench.workloads import QUICK, Workload, workloads
from dnabert_jax.data import loader
from dnabert_jax.data import shards as shards_
from dnabert_jax.errors import InputError
from tests import tiny

CHOICES = Choices(quick=True, compute_dtype="float32", attention="xla")
ROWS = 4


def small(name: str) -> Workload:
    """A workload with one layer of the tests' tiny encoder."""
    encoder = dataclasses.replace(tiny.ENCODER, layers=1, attention_dropout=0.0)
    return dataclasses.replace(workloads(QUICK)[name], encoder=encoder, row_length=encoder.max_length)


@pytest.fixture(scope="module")
def split(shards):
    return shards_.open_split(shards, "train")


@pytest.mark.parametrize(
    "name", ["pretrain-base-512", pytest.param("pretrain-base-512-padded", marks=pytest.mark.slow)]
)
def test_pretraining_counts_what_is_in_its_rows(split, name):
    workload = small(name)
    begun = work.start(workload, CHOICES, ROWS, split)
    batches = loader.Pretraining(split, begun.config).batches()
    for _ in range(3):
        counts, batch = begun.step(), next(batches)
        assert counts.tokens == batch["tokens"].size
        assert counts.useful_tokens == np.count_nonzero(batch["tokens"])
        lengths = [np.sum(row == segment) for row in batch["segment_ids"] for segment in range(1, row.max() + 1)]
        encoder = flops.training(flops.encoder(workload.encoder, np.array(lengths)))
        of_a_token = flops.training(flops.masked_lm_head(workload.encoder, 1))
        scored = (counts.flops - encoder) / of_a_token
        assert scored == pytest.approx(round(scored), abs=1e-6)
        assert 0.02 < scored / counts.useful_tokens < 0.4
        assert counts.input_wait_s >= 0
    batches.close()
    begun.close()
    assert begun.compile_time_s > 0
    assert begun.memory_bytes > 0
    assert begun.devices == len(jax.devices())
    assert (begun.bytes_accessed is None) == (workload.name != "pretrain-base-512")


def test_synthetic_rows_have_the_segments_of_real_ones(split):
    program = work._program(small("pretrain-base-512"), CHOICES, ROWS)
    pipeline = loader.Pretraining(split, program.config)
    batches = work._pretraining_batches(pipeline, program.mesh)
    real = [next(batches), next(batches)]
    batches.close()
    drawn = work._synthetic(real, program.config.encoder)
    for (before, lengths), (after, same) in zip(real, drawn, strict=True):
        before, after = jax.device_get((before, after))
        np.testing.assert_array_equal(before["segment_ids"], after["segment_ids"])
        np.testing.assert_array_equal(lengths, same)
        special = (before["tokens"] < kmers.FIRST_KMER) & (before["tokens"] != kmers.UNK)
        np.testing.assert_array_equal(before["tokens"][special], after["tokens"][special])
        assert np.all(after["tokens"][~special] >= kmers.FIRST_KMER)
        assert np.all(after["tokens"] < kmers.vocabulary_size(3))
        assert np.any(before["tokens"] != after["tokens"])


@pytest.mark.parametrize(
    ("name", "times"), [pytest.param("finetune-base-128", 3, marks=pytest.mark.slow), ("predict-base-512", 1)]
)
def test_fine_tuning_and_prediction_read_full_rows(split, name, times):
    workload = small(name)
    begun = work.start(workload, CHOICES, ROWS, split)
    counts = [begun.step() for _ in range(3)]
    begun.close()
    lengths = np.full(ROWS, workload.row_length)
    forward = flops.encoder(workload.encoder, lengths) + flops.classifier_head(workload.encoder, ROWS, 2)
    for each in counts:
        assert each.tokens == each.useful_tokens == ROWS * workload.row_length
        assert each.flops == pytest.approx(times * forward)


def test_the_input_pipeline_computes_nothing(split):
    begun = work.start(small("input-pipeline"), CHOICES, ROWS, split)
    counts = begun.step()
    begun.close()
    assert counts.tokens == ROWS * begun.config.row_length
    assert 0 < counts.useful_tokens <= counts.tokens
    assert (counts.flops, begun.devices, begun.compile_time_s) == (0, 0, None)


def test_compiling_compiles_anew(split, monkeypatch):
    begun = work.start(small("compile"), CHOICES, ROWS, split)
    compiled = []
    monkeypatch.setattr(work, "_compiled", compiled.append)
    monkeypatch.setattr(jax, "clear_caches", lambda: compiled.append(None))
    begun.step()
    begun.step()
    assert [each is None for each in compiled] == [True, False, True, False]
    assert compiled[1].function is not compiled[3].function


def test_the_compilers_bytes_of_a_loop_are_those_without_it():
    workload = small("predict-base-512")
    looped = dataclasses.replace(CHOICES, quick=False)
    unrolled = dataclasses.replace(looped, scan_layers=False)
    deep = work._of_depth(workload, 3)
    by_loop = work._bytes_accessed(deep, looped, ROWS, None)
    counted = work._bytes_accessed(deep, unrolled, ROWS, work._compiled(work._program(deep, unrolled, ROWS))[0])
    assert by_loop == pytest.approx(counted, rel=0.1)


def test_a_plan_grows_with_the_batch():
    workload = small("predict-base-512")
    assert work.planned_bytes(workload, CHOICES, 2 * ROWS) > work.planned_bytes(workload, CHOICES, ROWS) > 0


def test_a_kernel_that_does_not_run_here_is_an_error(split):
    with pytest.raises(InputError, match=r"encoder\.attention"):
        work.start(small("pretrain-base-512"), dataclasses.replace(CHOICES, attention="cudnn"), ROWS, split)
