"""The page of a benchmark shows its figures, and leaves out what was not measured."""

import re

import pytest

from dnabert_jax.errors import InputError
from dnabert_jax.report import speed
from tests.bench import results
from tests.report.pages import Page


def written(result, tmp_path) -> Page:
    speed.write(result, tmp_path / "speed.html")
    return Page((tmp_path / "speed.html").read_text(encoding="utf-8"))


def test_a_page_shows_all_that_was_measured(tmp_path):
    found = written(results.on_a_gpu(), tmp_path)
    assert found.headings == [
        "How fast DNABERT runs here",
        "Figures",
        "Roofline",
        "Where the time of pretrain-base-512 goes",
        "Beside the peer: pretrain-base-512",
        "Attention on packed rows",
        "The machine",
        "How it was run",
    ]
    assert len(found.pictures) == 2
    assert "bench/v1 on 1 × NVIDIA H200" in found.text


def test_figures_are_those_of_the_result(tmp_path):
    found = written(results.on_a_gpu(), tmp_path)
    speeds = {row[0]: row[1:] for row in found.table("workload", "rows")}
    assert speeds["pretrain-base-512"] == [
        "512",
        "bfloat16",
        "310.0",
        "306.9",
        "313.1",
        "845,000",
        "801,234",
        "801,234",
    ]
    assert speeds["compile"][-3:] == ["–"] * 3
    use = {row[0]: row[1:] for row in found.table("workload", "model TFLOP/s a chip")}
    assert use["pretrain-base-512"] == ["507", "65.0", "51.2", "86.5", "73.9"]
    assert use["input-pipeline"] == ["–"] * 5
    cost = {row[0]: row[1:] for row in found.table("workload", "peak memory, GiB")}
    assert cost["pretrain-base-512"] == ["88.2", "allocator", "21.0", "206", "1.25"]
    parts = {row[0]: row[1:] for row in found.table("part", "ms")}
    assert parts["Attention"] == ["110", "35.5"]
    assert parts["Rest"] == ["13.0", "4.19"]
    variants = {row[0]: row[1:] for row in found.table("variant", "step, ms")}
    assert variants["compiled, cudnn attention (best)"][3:5] == ["2.345", "2.31 to 2.38"]
    assert variants["eager, flash attention"][-1].startswith("No available kernel")
    checks = {row[0]: row for row in found.table("kernel", "in")}
    assert checks["xla"][5] == "yes"
    assert checks["pallas"][5] == "does not run"
    ceilings = found.table("ceilings of one device")
    assert [row[:4] for row in ceilings] == [
        ["measured here", "bfloat16", "780.0", "4,100"],
        ["published", "bfloat16", "989.5", "4,800"],
        ["published", "float32", "494.5", "4,800"],
    ]


def test_what_a_cpu_does_not_have_is_left_out(tmp_path):
    result = results.on_a_gpu(published=False)
    result["hardware"] |= {"platform": "cpu", "device_kind": "cpu", "device_memory_gib": None, "driver": None}
    result["hardware"] |= {"power_limits_w": None}
    result["workloads"] = [results.workload("input-pipeline", 20.0, None, None)]
    result["attention_checks"] = []
    result["failures"] = [{"name": "compile", "reason": "it ran out of <memory>"}]
    found = written(result, tmp_path)
    assert found.headings[1:] == ["Workloads that failed", "Figures", "The machine", "How it was run"]
    assert found.pictures == []
    assert "A processor (16 cores)" in found.text
    assert "power limits" not in found.text
    assert found.table("workload", "why") == [["compile", "it ran out of <memory>"]]


def test_a_rest_below_zero_is_drawn(tmp_path):
    result = results.on_a_gpu()
    result["workloads"][0]["breakdown"]["rest"] = -40.0
    parts = {row[0]: row[1:] for row in written(result, tmp_path).table("part", "ms")}
    assert parts["Rest"][0] == "-40.0"
    (bars,) = speed._bars(result["workloads"][0]["breakdown"], 257.0).axes
    assert min(bar.get_width() for bar in bars.patches) == -40.0
    assert bars.get_xlim()[0] < -40.0


def test_only_a_page_is_written(tmp_path):
    with pytest.raises(InputError, match=re.escape("speed.json: expected a name that ends in .html")):
        speed.write(results.on_a_gpu(), tmp_path / "speed.json")
    assert list(tmp_path.iterdir()) == []
