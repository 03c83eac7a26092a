"""The result for people: what the machine is, the figures, the peer's variants, and what to know about them."""

from typing import Any

from rich.console import Console
from rich.table import Table

from dnabert_jax.bench.result import ENOUGH_STEPS

_NONE = "–"
_WIDTH = 160
"""Columns where nobody says how wide the output is, as in a file."""


def console() -> Console:
    """Standard output, wide enough for the table where it is no terminal."""
    found = Console(highlight=False, markup=False)
    return found if found.is_terminal else Console(highlight=False, markup=False, width=_WIDTH)


def show(result: dict[str, Any], to: Console) -> None:
    """Prints a result.

    Args:
      result: as `suite.run` returns it.
      to: from `console`.
    """
    for line in _machine(result):
        to.print(line)
    if result["workloads"]:
        to.print(_figures(result["workloads"]))
    for each in result["workloads"]:
        if each["breakdown"]:
            to.print(_breakdown(each))
        if each["peer"]:
            to.print(_peer(each))
    for line in _notes(result):
        to.print(line)


def _machine(result: dict[str, Any]) -> list[str]:
    hardware, rates, versions = (result[name] for name in ("hardware", "rates", "versions"))
    kind = hardware["cpu"] if hardware["platform"] == "cpu" else hardware["device_kind"]
    cores = f" ({hardware['cpu_cores']} cores)" if hardware["platform"] == "cpu" else ""
    lines = [
        f"{result['suite']} on {hardware['devices']} × {kind}{cores}, jax {versions.get('jax', '?')}, {result['date']}"
    ]
    for dtype, rate in rates["matrix_product_flops_per_second"].items():
        lines.append(
            f"measured: {rate / 1e12:,.3g} TFLOP/s of matrix products in {dtype}, "
            f"{rates['memory_bytes_per_second'] / 1e9:,.4g} GB/s of memory"
        )
    for check in result["attention_checks"]:
        lines.append(f"attention {check['kernel']} in {check['dtype']}: {_verdict(check)}")
    return lines


def _verdict(check: dict[str, Any]) -> str:
    if check.get("failure"):
        return f"does not run ({check['failure']})"
    of_outputs, of_gradients = (_number(check[name], ".1e") for name in ("output_error", "gradient_error"))
    verdict = "keeps packed segments apart" if check["agrees"] else "MIXES PACKED SEGMENTS"
    return f"{verdict} (errors: outputs {of_outputs}, gradients {of_gradients}; tolerance {check['tolerance']:g})"


def _figures(workloads: list[dict[str, Any]]) -> Table:
    """The figures, without the columns in which there would be none."""
    columns = {
        "batch": [str(each["batch_size"]) for each in workloads],
        "dtype": [each["compute_dtype"] if each["devices"] else _NONE for each in workloads],
        "step, ms": [_number(each["step_time_ms"], ",.2f") for each in workloads],
        "p10, ms": [_number(each["step_time_ms_p10"], ",.2f") for each in workloads],
        "p90, ms": [_number(each["step_time_ms_p90"], ",.2f") for each in workloads],
        "tokens/s": [_number(each["tokens_per_second"], ",.0f") for each in workloads],
        "useful tokens/s": [_number(each["useful_tokens_per_second"], ",.0f") for each in workloads],
        "FLOPs of measured": [_number(each["model_flops_utilization"], ".1%") for each in workloads],
        "of published": [_number(each["model_flops_utilization_published"], ".1%") for each in workloads],
        "bytes of measured": [_number(each["memory_bandwidth_utilization"], ".1%") for each in workloads],
        "peak GiB": [_number(each["peak_memory_gib"], ".2f") for each in workloads],
        "compile s": [_number(each["compile_time_s"], ".1f") for each in workloads],
        "input wait": [_number(each["input_wait_share"], ".1%") for each in workloads],
        "joules": [_number(each["energy_joules_per_step"], ",.1f") for each in workloads],
    }
    shown = {heading: cells for heading, cells in columns.items() if set(cells) != {_NONE}}
    table = Table()
    table.add_column("workload", no_wrap=True)
    for heading in shown:
        table.add_column(heading, justify="right")
    for each, *cells in zip(workloads, *shown.values(), strict=True):
        table.add_row(each["name"], *cells)
    return table


def _breakdown(workload: dict[str, Any]) -> Table:
    table = Table(title=f"{workload['name']}: the parts of a step, each timed by itself", title_justify="left")
    for name in workload["breakdown"]:
        table.add_column(name.replace("_", " ") + ", ms", justify="right")
    table.add_row(*(_number(value, ",.2f") for value in workload["breakdown"].values()))
    return table


def _peer(workload: dict[str, Any]) -> Table:
    table = Table(title=f"{workload['name']}: the peer, in turn with ours", title_justify="left")
    table.add_column("variant")
    for heading in ("step, ms", "useful tokens/s", "peak GiB", "ours / theirs (95 %)"):
        table.add_column(heading, justify="right")
    for each in workload["peer"]:
        ratio = each["ours_per_theirs"]
        table.add_row(
            f"{each['name']}{' (best)' if each['best'] else ''}",
            each["skipped"] or _number(each["step_time_ms"], ",.2f"),
            _number(each["useful_tokens_per_second"], ",.0f"),
            _number(each.get("peak_memory_gib"), ".2f"),
            "{ratio:.2f} ({low:.2f} to {high:.2f})".format(**ratio) if ratio else "",
        )
    return table


def _notes(result: dict[str, Any]) -> list[str]:
    few = [each for each in result["workloads"] if each["steps"] < ENOUGH_STEPS]
    lines = [f"{each['name']}: {each['steps']} steps, so its percentiles say little" for each in few]
    if result["choices"].get("synthetic"):
        lines.append(
            "training read synthetic tokens that the device drew; predictions and the input pipeline read real ones"
        )
    lines += [f"{each['name']} failed: {each['reason']}" for each in result["failures"]]
    return lines


def _number(value: float | None, form: str) -> str:
    return _NONE if value is None else format(value, form)
