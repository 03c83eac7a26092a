"""Results of the benchmark as tests need them, without anything measured."""

from typing import Any

from dnabert_jax.bench.result import Measured, Rates, entry
from dnabert_jax.bench.timing import Counts, Timing

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


def result(*workloads: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A result that the schema takes."""
    return {
        "schema": 1,
        "suite": "bench/v1",
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
        "workloads": list(workloads or (entry(MEASURED, RATES),)),
        "failures": [],
        **changes,
    }
