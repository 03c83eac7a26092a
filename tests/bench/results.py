"""Results of the benchmark as tests need them, without anything measured: one of a CPU, and a full one of a GPU."""

from typing import Any

from dnabert_jax.bench.result import Measured, Rates, entry
from dnabert_jax.bench.timing import Counts, Timing
from dnabert_jax.bench.workloads import SUITE, workloads

MEASURED = Measured(
    name="pretrain-base-512",
    kind="pretrain",
    digest="0123456789abcdef",
    batch_size=8,
    compute_dtype="bfloat16",
    devices=2,
    timing=Timing(
        seconds=[0.1 + 0.001 * number for number in range(40)],
        counts=[Counts(4096, 3000, 6e9, 0.01)] * 40,
        joules=80.0,
    ),
    compile_time_s=3.0,
    memory_bytes=2**30,
    bytes_accessed=1e9,
)

RATES = Rates(measured_flops=1e12, measured_bytes=1e11, published_flops=2e12, published_bytes=None)


_PARTS = ("embedding", "attention", "mlp", "head", "optimizer", "masking", "input_wait")


def result(*entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A result that the schema takes."""
    return {
        "schema": 1,
        "suite": SUITE,
        "date": "2026-11-23T12:00:00+00:00",
        "command": "dnabert bench",
        "hardware": {
            "platform": "cpu",
            "device_kind": "cpu",
            "devices": 1,
            "device_memory_gib": None,
            "published": None,
            "cpu": "a CPU",
            "cpu_cores": 2,
            "host_memory_gib": 8.0,
        },
        "versions": {"jax": "0.10.2"},
        "flags": {"XLA_FLAGS": ""},
        "choices": {"steps": 30, "synthetic": False},
        "config_hash": "0123456789abcdef",
        "rates": {"matrix_product_flops_per_second": {"bfloat16": 1e12}, "memory_bytes_per_second": 1e11},
        "attention_checks": [],
        "workloads": list(entries or (entry(MEASURED, RATES),)),
        "failures": [],
        **changes,
    }


def on_a_gpu(*, published: bool = True) -> dict[str, Any]:
    """All workloads of the suite on one accelerator with a peer, two kernels checked, one of them not running."""
    return result(
        workload("pretrain-base-512", 310.0, 507e12, 1.1e12, breakdown=True, peer=True),
        workload("pretrain-base-512-padded", 300.0, 380e12, 1.05e12),
        workload("finetune-base-128", 80.0, 300e12, 0.25e12),
        workload("predict-base-512", 60.0, 610e12, 0.1e12),
        workload("input-pipeline", 450.0, None, None),
        workload("compile", 21_000.0, None, None),
        hardware={
            "platform": "gpu",
            "device_kind": "NVIDIA H200",
            "devices": 1,
            "processes": 1,
            "device_memory_gib": 104.7,
            "driver": "570.1",
            "power_limits_w": [700.0],
            "published": {
                "flops_per_second": {"bfloat16": 989.5e12, "float32": 494.5e12},
                "bytes_per_second": 4.8e12,
                "source": "a datasheet",
            }
            if published
            else None,
            "cpu": "A processor",
            "cpu_cores": 16,
            "cpu_matrix_instructions": ["avx512f", "amx_bf16"],
            "host_memory_gib": 128.0,
            "system": "Linux-6.1-x86_64",
        },
        versions={"python": "3.11.9", "jax": "0.10.2"},
        flags={"XLA_FLAGS": "--xla_gpu_enable_latency_hiding_scheduler=true --xla_gpu_x=1", "jax_enable_x64": False},
        choices={"batch_size": 0, "compute_dtype": "auto", "synthetic": False, "peer": "torch"},
        rates={"matrix_product_flops_per_second": {"bfloat16": 780e12}, "memory_bytes_per_second": 4.1e12},
        attention_checks=[
            {
                "kernel": "xla",
                "dtype": "bfloat16",
                "output_error": 0.004,
                "gradient_error": 0.006,
                "tolerance": 0.05,
                "agrees": True,
                "failure": "",
            },
            {
                "kernel": "pallas",
                "dtype": "bfloat16",
                "output_error": None,
                "gradient_error": None,
                "tolerance": 0.05,
                "agrees": False,
                "failure": "it asks for shared memory that this chip does not have",
            },
        ],
    )


def workload(
    name: str,
    step_ms: float,
    flops_per_second: float | None,
    bytes_per_step: float | None,
    *,
    breakdown: bool = False,
    peer: bool = False,
) -> dict[str, Any]:
    """Its figures; those without FLOPs are of the host."""
    on_device = flops_per_second is not None
    reads = name != "compile"
    accessed = on_device and bytes_per_step / step_ms * 1e3
    times = [step_ms * share for share in (0.99, 1.0, 1.0, 1.01)]
    return {
        "name": name,
        "config_hash": workloads(SUITE)[name].digest,
        "batch_size": 512,
        "devices": int(on_device),
        "steps": len(times),
        "compute_dtype": "bfloat16",
        "step_time_ms": step_ms,
        "step_time_ms_p10": times[0],
        "step_time_ms_p90": times[-1],
        "step_times_ms": times,
        "tokens_per_second": 845_000.4 if reads else None,
        "useful_tokens_per_second": 801_234.5 if reads else None,
        "tokens_per_second_per_chip": 845_000.4 if on_device else None,
        "useful_tokens_per_second_per_chip": 801_234.5 if on_device else None,
        "model_flops_per_second_per_chip": flops_per_second,
        "model_flops_utilization": flops_per_second / 780e12 if on_device else None,
        "model_flops_utilization_published": flops_per_second / 989.5e12 if on_device else None,
        "bytes_per_step": bytes_per_step,
        "memory_bandwidth_utilization": accessed / 4.1e12 if on_device else None,
        "memory_bandwidth_utilization_published": accessed / 4.8e12 if on_device else None,
        "peak_memory_gib": 88.25 if on_device else None,
        "peak_memory_source": "allocator" if on_device else None,
        "compile_time_s": 21.0 if on_device or not reads else None,
        "energy_joules_per_step": 205.5 if on_device else None,
        "input_wait_share": 0.0125 if on_device else None,
        "breakdown": dict(zip(_PARTS, (4.0, 110.0, 150.0, 22.0, 9.0, 1.5, 0.5))) | {"rest": step_ms - 297.0}
        if breakdown
        else None,
        "peer": _variants() if peer else None,
    }


def _variants() -> list[dict[str, Any]]:
    def variant(name: str, step_ms: float | None, best: bool, skipped: str | None = None) -> dict[str, Any]:
        return {
            "name": name,
            "mode": name.split(",")[0],
            "attention": "flash",
            "skipped": skipped,
            "best": best,
            "step_time_ms": step_ms,
            "useful_tokens_per_second": step_ms and 1e8 / step_ms,
            "peak_memory_gib": step_ms and 100.5,
            "ours_per_theirs": {"ratio": 2.345, "low": 2.31, "high": 2.38} if best else None,
        }

    return [
        variant("eager, cudnn attention", 400.0, False),
        variant("compiled, cudnn attention", 290.0, True),
        variant("eager, flash attention", None, False, "No available kernel. Aborting execution."),
    ]
