"""The figures of a workload by hand, and the JSON against its schema."""

import dataclasses
import json

import jsonschema
import pytest

from dnabert_jax.bench import result
from dnabert_jax.bench.timing import Timing
from dnabert_jax.errors import InputError
from tests.bench import results


def test_figures_by_hand():
    found = result.entry(results.MEASURED, results.RATES)
    total_s = sum(0.1 + 0.001 * number for number in range(40))
    assert found["step_time_ms"] == pytest.approx(119.5)
    assert found["tokens_per_second"] == pytest.approx(40 * 4096 / total_s)
    assert found["useful_tokens_per_second_per_chip"] == pytest.approx(40 * 3000 / total_s / 2)
    assert found["model_flops_utilization"] == pytest.approx(40 * 6e9 / total_s / 2 / 1e12)
    assert found["model_flops_utilization_published"] == pytest.approx(found["model_flops_utilization"] / 2)
    assert found["memory_bandwidth_utilization"] == pytest.approx(1e9 / (total_s / 40) / 1e11)
    assert found["memory_bandwidth_utilization_published"] is None
    assert (found["peak_memory_gib"], found["peak_memory_source"]) == (1.0, "plan")
    assert found["energy_joules_per_step"] == 2.0


def test_what_has_no_meaning_is_null():
    read = dataclasses.replace(
        results.MEASURED, kind="input", devices=0, compile_time_s=None, memory_bytes=None, bytes_accessed=None
    )
    found = result.entry(read, results.RATES)
    assert found["useful_tokens_per_second"] > 0
    for name in ("model_flops_utilization", "tokens_per_second_per_chip", "peak_memory_gib", "compile_time_s"):
        assert found[name] is None
    compiled = result.entry(dataclasses.replace(read, kind="compile", devices=1), results.RATES)
    assert compiled["compile_time_s"] == pytest.approx(0.1195)
    assert compiled["tokens_per_second"] is None
    for each in (found, compiled):
        result._validator().validate(results.result(each))


def test_an_unknown_energy_is_null():
    timing = Timing(results.MEASURED.timing.seconds, results.MEASURED.timing.counts, float("nan"))
    found = result.entry(dataclasses.replace(results.MEASURED, timing=timing), results.RATES)
    assert found["energy_joules_per_step"] is None


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(json.loads(result._SCHEMA_FILE.read_text()))


def test_what_is_written_is_read(tmp_path):
    found = results.result()
    result.write(found, tmp_path / "a.json")
    assert result.read(tmp_path / "a.json") == found


def test_what_is_no_result_is_not_written(tmp_path):
    found = results.result()
    del found["workloads"][0]["step_time_ms"]
    with pytest.raises(jsonschema.ValidationError):
        result.write(found, tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", pytest.param("[" * 100_000, id="deep"), '{"schema": 1}', '{"schema": 2}', "\xff"],
)
def test_what_is_no_result_is_not_read(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.json: .*; expected") as error:
        result.read(tmp_path / "a.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("changes", [{"step_time_ms": 0.0}, {"step_times_ms": []}, {"step_time_ms": float("nan")}])
def test_figures_that_cannot_be_compared_are_not_read(tmp_path, changes):
    found = results.result()
    found["workloads"][0] |= changes
    (tmp_path / "a.json").write_text(json.dumps(found))
    with pytest.raises(InputError, match="; expected a file of"):
        result.read(tmp_path / "a.json")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read .*; expected"):
        result.read(tmp_path / "a.json")


def test_places_that_cannot_be_written_to(tmp_path):
    result.check_writable(tmp_path / "new.json")
    assert not list(tmp_path.iterdir())
    for place in (tmp_path, tmp_path / "missing" / "a.json"):
        with pytest.raises(InputError, match="; expected a file"):
            result.check_writable(place)
