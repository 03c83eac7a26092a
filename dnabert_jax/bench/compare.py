"""`dnabert bench compare`: two results side by side, as ratios with the spread that the steps' times give them."""

from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from dnabert_jax.bench.result import ENOUGH_STEPS

_RESAMPLES = 10_000
_INTERVAL = (2.5, 97.5)


class Ratio(NamedTuple):
    """The second result over the first, with its 95 % interval.

    The interval is a percentile bootstrap (Efron 1979) over the timed steps of both, drawn apart.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


class Compared(NamedTuple):
    """A workload that both results have.

    Attributes:
      name: of the workload.
      step_time: of median step times; less than 1 where the second is faster.
      useful_tokens: of useful tokens per second; more than 1 where the second is faster. None where none are counted.
      notes: what differs between the two but the time.
    """

    name: str
    step_time: Ratio
    useful_tokens: Ratio | None
    notes: list[str]


def compare(first: dict[str, Any], second: dict[str, Any]) -> tuple[list[Compared], list[str]]:
    """Compares two results.

    Args:
      first, second: as `result.read` returns them.

    Returns:
      The workloads that both have, in the order of the first; and what differs in all of them, in words.
    """
    others = {each["name"]: each for each in second["workloads"]}
    found = [_workload(each, others[each["name"]]) for each in first["workloads"] if each["name"] in others]
    notes = [
        f"{what} differs: {before} and {after}"
        for what, before, after in (
            ("suite", first["suite"], second["suite"]),
            ("device", _device(first), _device(second)),
            *_changed("version of", first["versions"], second["versions"]),
            *_changed("flag", first["flags"], second["flags"]),
            *_changed("choice", first["choices"], second["choices"], but=("batch_size", "steps", "compute_dtype")),
        )
        if before != after
    ]
    names = {each.name for each in found}
    for which, result in (("first", first), ("second", second)):
        alone = [each["name"] for each in result["workloads"] if each["name"] not in names]
        if alone:
            notes.append(f"only in the {which}: {', '.join(alone)}")
    return found, notes


def _workload(first: dict[str, Any], second: dict[str, Any]) -> Compared:
    generator = np.random.default_rng(0)
    times = [np.array(each["step_times_ms"]) for each in (first, second)]
    drawn = [each[generator.integers(0, len(each), (_RESAMPLES, len(each)))] for each in times]
    medians = np.median(drawn[1], axis=1) / np.median(drawn[0], axis=1)
    step_time = _ratio(second["step_time_ms"] / first["step_time_ms"], medians)
    useful = None
    rates = [each["useful_tokens_per_second"] for each in (first, second)]
    if all(rates):
        # Useful tokens of a step on average; the times alone are drawn.
        tokens = [rate * each.mean() for rate, each in zip(rates, times, strict=True)]
        resampled = (tokens[1] / drawn[1].mean(axis=1)) / (tokens[0] / drawn[0].mean(axis=1))
        useful = _ratio(rates[1] / rates[0], resampled)
    notes = [
        f"{what.replace('_', ' ')}: {first[what]} and {second[what]}"
        for what in ("config_hash", "batch_size", "devices", "compute_dtype")
        if first[what] != second[what]
    ]
    if min(first["steps"], second["steps"]) < ENOUGH_STEPS:
        notes.append(f"steps: {first['steps']} and {second['steps']}, fewer than {ENOUGH_STEPS}")
    return Compared(first["name"], step_time, useful, notes)


def _ratio(value: float, resampled: np.ndarray) -> Ratio:
    low, high = np.percentile(resampled, _INTERVAL)
    return Ratio(value, float(low), float(high))


def _device(result: dict[str, Any]) -> str:
    hardware = result["hardware"]
    kind = hardware["cpu"] if hardware["platform"] == "cpu" else hardware["device_kind"]
    return f"{hardware['devices']} × {kind}, {hardware['cpu_cores']} cores"


def _changed(what: str, first: dict[str, Any], second: dict[str, Any], but: tuple[str, ...] = ()):
    for name in sorted(first.keys() | second.keys()):
        if name not in but:
            yield f"{what} {name}", first.get(name), second.get(name)


def shown(compared: list[Compared]) -> Table:
    """The ratios as a table for a terminal."""
    table = Table("workload", "step time, second / first", "useful tokens/s, second / first", "differs")
    for each in compared:
        useful = "" if each.useful_tokens is None else str(each.useful_tokens)
        table.add_row(each.name, str(each.step_time), useful, "; ".join(each.notes))
    return table
