"""Shapes of batches: what has to fit does, few programs for little, and padding that never outgrows compiling."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert_jax.config import EncoderConfig
from dnabert_jax.inference.shapes import Shape, Shapes, shapes


def _batches(plan: Shapes, lengths: list[int]) -> list[tuple[Shape, list[int]]]:
    """The shapes of a window of rows, and which rows they hold."""
    left = sorted(lengths, key=plan.bucket, reverse=True)
    found = []
    while left:
        shape = plan.choose(left[0], len(left))
        found.append((shape, left[: shape.rows]))
        left = left[shape.rows :]
    return found


_LENGTHS = st.lists(st.integers(3, 700), min_size=1, max_size=200)


@given(
    st.lists(_LENGTHS, min_size=1, max_size=4), st.integers(1, 5000), st.sampled_from([1, 16, 64]), st.integers(0, 9999)
)
@settings(deadline=None)
def test_rows_fit_and_padding_costs_no_more_than_compiling(windows, tokens, step, cost):
    plan = Shapes(max_length=700, tokens=tokens, step=step, cost=cost)
    seen, lost = set(), 0.0
    for lengths in windows:
        left = len(lengths)
        for shape, held in _batches(plan, lengths):
            assert len(held) == min(shape.rows, left)
            assert max(held) <= shape.length <= 700
            assert shape.rows == 1 or shape.rows * shape.length <= tokens
            # Against the closest shape: a fine length, and full or a power of two of rows.
            length = min(step * -(-held[0] // step), 700)
            closest = min(max(tokens // length, 1), 2 ** (left - 1).bit_length()) * length
            used = min(max(tokens // length, 1), left)
            if shape in seen:
                lost += max(shape.rows * shape.length - closest * len(held) / used, 0)
            seen.add(shape)
            left -= len(held)
    assert lost <= 2 * cost * len(seen) + 1e-6


def test_one_program_serves_a_short_stream():
    plan = Shapes(max_length=512, tokens=2048, step=16, cost=100_000)
    assert {shape for shape, _ in _batches(plan, list(range(20, 500, 40)))} == {Shape(4, 512)}
    plan = Shapes(max_length=512, tokens=2048, step=16, cost=100_000)
    assert _batches(plan, [130]) == [(Shape(1, 192), [130])]
    assert _batches(plan, [130] * 5) == [(Shape(8, 192), [130] * 5)]  # not row by row
    assert _batches(plan, [100] * 3) == [(Shape(8, 192), [100] * 3)]


def test_a_long_stream_is_hardly_padded():
    plan = Shapes(max_length=512, tokens=2048, step=16, cost=2000)
    computed = useful = 0
    for _ in range(20):
        for shape, held in _batches(plan, list(range(22, 513))):
            computed += shape.rows * shape.length
            useful += sum(held)
    assert useful / computed > 0.9


def test_what_a_machine_is_given(monkeypatch):
    encoder = EncoderConfig()
    on_gpu = shapes(encoder, 64, "gpu")
    assert (on_gpu.max_length, on_gpu.tokens, on_gpu.step) == (512, 64 * 512, 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    on_cpu = shapes(encoder, 64, "cpu")
    assert (on_cpu.tokens, on_cpu.step) == (2 * 512, 16)
    assert shapes(encoder, 1, "cpu").tokens == 512
    # BERT-base: 12 × (4 × 768² + 2 × 768 × 3072) multiply-adds a token.
    assert on_cpu.cost == pytest.approx(0.5 * 2e11 / (2 * 12 * 7_077_888))
    assert shapes(dataclasses.replace(encoder, layers=6), 64, "cpu").cost == pytest.approx(2 * on_cpu.cost)


def test_a_kernel_that_takes_rows_of_128_tokens_gets_no_others():
    here = shapes(EncoderConfig(attention="pallas"), 8, "tpu")
    found = [here.choose(length, 8) for length in (512, 400, 200, 130, 20)]
    assert not [shape for shape in found if shape.length % 128]
