"""`dnabert bench --report`: one page on how fast a machine trains and predicts, with the pictures to see why."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dnabert_jax import results
from dnabert_jax.bench import roofline
from dnabert_jax.errors import InputError
from dnabert_jax.evaluation.pictures import COLOURS, tidy
from dnabert_jax.report.document import Section, page, picture, table

_PARTS = {
    "embedding": "Embedding",
    "attention": "Attention",
    "mlp": "Feed-forward",
    "head": "Head and loss",
    "optimizer": "Optimiser",
    "masking": "Masking",
    "input_wait": "Input wait",
    "rest": "Rest",
}


def write(result: dict[str, Any], output: Path) -> None:
    """Writes the report of a result, whole or not at all; one that is there is replaced.

    Args:
      result: as `bench.result` reads it.
      output: HTML file.

    Raises:
      InputError: an output that cannot be written or is no .html file.
      RunStopped: the disk is full.
    """
    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{output}: expected a name that ends in .html")
    text = _page(result)
    with results.text(output) as file:
        file.write(text)


def _page(result: dict[str, Any]) -> str:
    sections = [
        _failures(result),
        _figures(result),
        _roofline(result),
        *(_breakdown(each) for each in result["workloads"] if each["breakdown"]),
        *(_peer(each) for each in result["workloads"] if each["peer"]),
        _checks(result),
        _hardware(result),
        _how(result),
    ]
    when = datetime.fromisoformat(result["date"]).astimezone(UTC)
    subtitle = f"{result['suite']} on {_machine(result['hardware'])}, {when:%Y-%m-%d %H:%M} UTC"
    return page("How fast DNABERT runs here", [each for each in sections if each is not None], subtitle=subtitle)


def _machine(hardware: dict[str, Any]) -> str:
    if hardware["platform"] == "cpu":
        return f"{hardware['cpu']} ({hardware['cpu_cores']} cores)"
    return f"{hardware['devices']} × {hardware['device_kind']}"


def _failures(result: dict[str, Any]) -> Section | None:
    if not result["failures"]:
        return None
    rows = [[each["name"], each["reason"]] for each in result["failures"]]
    return Section("Workloads that failed", table(["workload", "why"], rows))


def _figures(result: dict[str, Any]) -> Section:
    workloads = result["workloads"]
    speed = [
        [
            each["name"],
            each["batch_size"],
            each["compute_dtype"],
            each["step_time_ms"],
            each["step_time_ms_p10"],
            each["step_time_ms_p90"],
            _whole(each["tokens_per_second"]),
            _whole(each["useful_tokens_per_second"]),
            _whole(each["useful_tokens_per_second_per_chip"]),
        ]
        for each in workloads
    ]
    use = [
        [
            each["name"],
            _scaled(each["model_flops_per_second_per_chip"], 1e-12),
            _scaled(each["model_flops_utilization"], 100),
            _scaled(each["model_flops_utilization_published"], 100),
            _scaled(each["memory_bandwidth_utilization"], 100),
            _scaled(each["memory_bandwidth_utilization_published"], 100),
        ]
        for each in workloads
    ]
    cost = [
        [
            each["name"],
            each["peak_memory_gib"],
            each["peak_memory_source"],
            each["compile_time_s"],
            each["energy_joules_per_step"],
            _scaled(each["input_wait_share"], 100),
        ]
        for each in workloads
    ]
    steps = sorted({each["steps"] for each in workloads})
    counted = " or ".join(map(str, steps))
    return Section(
        "Figures",
        table(
            [
                "workload",
                "rows",
                "in",
                "step, ms",
                "10 %, ms",
                "90 %, ms",
                "tokens/s",
                "useful tokens/s",
                "useful tokens/s a chip",
            ],
            speed,
            caption=f"Median and percentiles of {counted} steps; useful tokens are those that are not padding",
            digits=4,
        ),
        table(
            [
                "workload",
                "model TFLOP/s a chip",
                "% of measured products",
                "% of published products",
                "% of measured memory",
                "% of published memory",
            ],
            use,
            caption="Use of the chip: FLOPs of the formula for useful tokens, bytes of the compiler's count",
            digits=3,
        ),
        table(
            ["workload", "peak memory, GiB", "by", "compiling, s", "energy of a step, J", "input wait, % of the time"],
            cost,
            caption="What it takes: memory as the device's allocator counts it or as XLA plans it",
            digits=3,
        ),
    )


def _roofline(result: dict[str, Any]) -> Section | None:
    drawn = roofline.draw(result)
    if drawn is None:
        return None
    told = (
        "How far a workload lies below the roof is what could be gained at best. Under the slope the memory holds it "
        "back, under the flat part the arithmetic. The compiler counts what each kernel reads and writes as going to "
        "memory; where caches hold it, a workload can lie above the slope."
    )
    return Section("Roofline", told, picture(drawn, alt="FLOP/s of each workload against FLOPs per byte, and ceilings"))


def _breakdown(workload: dict[str, Any]) -> Section:
    parts, step_ms = workload["breakdown"], sum(workload["breakdown"].values())
    rows = [[_PARTS[name], value, 100 * value / step_ms if step_ms else None] for name, value in parts.items()]
    told = (
        "Each part is compiled and timed by itself, forward and backward; attention and feed-forward are those of all "
        "layers. The rest is the step's time less that of the parts, and can be below zero: what runs by itself writes "
        "to memory what a whole step may keep in caches."
    )
    name = workload["name"]
    return Section(
        f"Where the time of {name} goes",
        told,
        picture(_bars(parts, step_ms), alt=f"Milliseconds of each part of a step of {name}"),
        table(["part", "ms", "% of the step"], rows, digits=3),
    )


def _bars(parts: dict[str, float], step_ms: float) -> Figure:
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    values = list(parts.values())
    colours = [COLOURS[1] if name == "rest" else COLOURS[0] for name in parts]
    bars = axes.barh([_PARTS[name] for name in parts], values, color=colours, height=0.7)
    share = [f"{100 * value / step_ms:.1f} %" if step_ms else "" for value in values]
    axes.bar_label(bars, share, padding=4, fontsize=9)
    axes.invert_yaxis()
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set_xlabel("Milliseconds of a step")
    axes.margins(x=0.12)
    if min(values) >= 0:
        axes.set_xlim(left=0)
    tidy(axes)
    axes.grid(axis="y", visible=False)
    return figure


def _peer(workload: dict[str, Any]) -> Section:
    rows = []
    for each in workload["peer"]:
        ratio = each["ours_per_theirs"]
        rows.append(
            [
                each["name"] + (" (best)" if each["best"] else ""),
                each["step_time_ms"],
                _whole(each["useful_tokens_per_second"]),
                each.get("peak_memory_gib"),
                ratio and ratio["ratio"],
                ratio and f"{ratio['low']:.3g} to {ratio['high']:.3g}",
                each["skipped"] or "",
            ]
        )
    header = [
        "variant",
        "step, ms",
        "useful tokens/s",
        "peak memory, GiB",
        "ours / theirs",
        "95 % interval",
        "left out",
    ]
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    told = "Useful tokens a second of Hugging Face's model in PyTorch, timed in turn with ours on the same device."
    return Section(f"Beside the peer: {workload['name']}", told, table(header, rows, digits=4))


def _checks(result: dict[str, Any]) -> Section | None:
    if not result["attention_checks"]:
        return None
    rows = [
        [
            each["kernel"],
            each["dtype"],
            each["output_error"],
            each["gradient_error"],
            each["tolerance"],
            "does not run" if each.get("failure") else "yes" if each["agrees"] else "NO",
            each.get("failure") or "",
        ]
        for each in result["attention_checks"]
    ]
    header = ["kernel", "in", "error of outputs", "error of gradients", "tolerance", "keeps segments apart", "why"]
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return Section(
        "Attention on packed rows",
        "Before anything is timed, outputs and gradients of packed rows are compared with those of each segment alone.",
        table(header, rows, digits=2),
    )


def _hardware(result: dict[str, Any]) -> Section:
    hardware, rates = result["hardware"], result["rates"]
    published = hardware["published"]
    rows: list[list[Any]] = [
        ["devices", f"{hardware['devices']} × {hardware['device_kind']} ({hardware['platform']})"],
        ["memory of a device", _with_unit(hardware["device_memory_gib"], "GiB")],
        ["driver", hardware.get("driver")],
        ["power limits", ", ".join(f"{watts:.0f} W" for watts in hardware.get("power_limits_w") or []) or None],
        ["processor", f"{hardware['cpu']}, {hardware['cpu_cores']} cores"],
        ["its matrix instructions", ", ".join(hardware.get("cpu_matrix_instructions", [])) or None],
        ["memory of the host", _with_unit(hardware["host_memory_gib"], "GiB")],
        ["system", hardware.get("system")],
    ]
    ceilings = [
        ["measured here", dtype, rate / 1e12, rates["memory_bytes_per_second"] / 1e9, "the best of several products"]
        for dtype, rate in rates["matrix_product_flops_per_second"].items()
    ]
    if published:
        ceilings += [
            ["published", dtype, rate / 1e12, published["bytes_per_second"] / 1e9, published["source"]]
            for dtype, rate in published["flops_per_second"].items()
        ]
    return Section(
        "The machine",
        table([], [row for row in rows if row[1] is not None]),
        table(["ceilings of one device", "products in", "TFLOP/s", "GB/s of memory", "source"], ceilings, digits=4),
    )


def _how(result: dict[str, Any]) -> Section:
    versions = [[name, version] for name, version in result["versions"].items()]
    chosen = [[name, _said(value)] for name, value in result["choices"].items()]
    flags = [[name, _said(value)] for name, value in result["flags"].items()]
    return Section(
        "How it was run",
        table([], [["command", result["command"]], ["hash of the workloads", result["config_hash"]]]),
        table(["choice", "value"], chosen),
        table(["flag or setting", "value"], flags),
        table(["package", "version"], versions),
    )


def _said(value: Any) -> str:
    if value is None:
        return "not set"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _with_unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:.1f} {unit}"
