"""The roofline picture has every workload at its place, under ceilings that are what the result says."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from dnabert_jax.bench import roofline
from tests.bench import results


def test_the_made_up_result_is_one():
    schema = json.loads((Path(roofline.__file__).parent / "schema.json").read_text())
    jsonschema.validate(results.on_a_gpu(), schema)
    jsonschema.validate(results.on_a_gpu(published=False), schema)


def test_points_are_flops_per_byte_and_per_second():
    found = roofline.points(results.on_a_gpu())
    assert [point.name for point in found] == [
        "pretrain-base-512",
        "pretrain-base-512-padded",
        "finetune-base-128",
        "predict-base-512",
    ]
    assert found[0].flops_per_second == 507e12
    assert found[0].intensity == pytest.approx(507e12 * 0.310 / 1.1e12)


@pytest.mark.parametrize("published", [True, False])
def test_ceilings_are_measured_and_published(published):
    axes = roofline.draw(results.on_a_gpu(published=published)).axes[0]
    roofs = [line for line in axes.lines if len(line.get_xdata()) > 1]
    expected = [(780e12, 4.1e12), (989.5e12, 4.8e12)][: 1 + published]
    assert len(roofs) == len(expected)
    for line, (flops, per_byte) in zip(roofs, expected, strict=True):
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        assert y.max() == flops
        assert y[0] == pytest.approx(per_byte * x[0])
        assert x[0] < flops / per_byte < x[-1]
    assert len(axes.lines) == len(expected) + 4
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_without_flops_there_is_no_picture():
    result = results.on_a_gpu()
    result["workloads"] = result["workloads"][-2:]
    assert roofline.draw(result) is None


@pytest.mark.parametrize(
    ("value", "shown"), [(1.25e12, "1.25 T"), (989.5e12, "990 T"), (2.25e15, "2.25 P"), (12.0e9, "12 G"), (0.5, "0.5 ")]
)
def test_rates_have_a_prefix(value, shown):
    assert roofline._rate(value) == shown
