"""What a benchmark ran on: the devices and the host, what their makers publish, versions, and flags that matter.

A published rate is that of the dense products of one device as JAX counts devices. A TPU v2, v3 or 7x shows each of
its two cores as a device, which has half of the chip's rates.
"""

import importlib.metadata
import os
import platform
import re
from dataclasses import dataclass
from typing import Any

import jax

from dnabert_jax.bench import nvml


@dataclass(frozen=True)
class Peak:
    """What the maker publishes about a device.

    Attributes:
      flops_per_second: of dense matrix products, by the type of their factors as JAX computes them by default: float32
        by TensorFloat-32 on NVIDIA GPUs since Ampere, and in one bfloat16 pass on TPUs. `bfloat16` is missing where the
        device has no such units.
      bytes_per_second: of its memory.
      source: where that is published.
    """

    flops_per_second: dict[str, float]
    bytes_per_second: float
    source: str


def published(device_kind: str) -> Peak | None:
    """The published rates of a `jax.Device.device_kind`; None for what is not in the table, such as parts of a GPU."""
    for pattern, peak in _PEAKS:
        if re.fullmatch(pattern, device_kind, re.IGNORECASE):
            return peak
    return None


def _gpu(bfloat16: float | None, float32: float, gigabytes: float, source: str) -> Peak:
    """Of TFLOP/s and GB/s."""
    rates = {"float32": float32 * 1e12}
    if bfloat16 is not None:
        rates["bfloat16"] = bfloat16 * 1e12
    return Peak(rates, gigabytes * 1e9, source)


def _tpu(bfloat16: float, gigabytes: float, source: str, devices: int = 1) -> Peak:
    """Of a chip's TFLOP/s and GB/s; `devices` share it."""
    rate = bfloat16 * 1e12 / devices
    return Peak({"bfloat16": rate, "float32": rate}, gigabytes * 1e9 / devices, source)


_JOUPPI = "Jouppi et al. 2020, A Domain-Specific Supercomputer for Training Deep Neural Networks, table 3"
_CLOUD = "Google Cloud TPU documentation"
_AMPERE = "NVIDIA A100 Tensor Core GPU datasheet"
_HOPPER = "NVIDIA H100 Tensor Core GPU datasheet, halved where it counts sparsity"
_H200 = "NVIDIA H200 Tensor Core GPU datasheet, halved where it counts sparsity"
_GRACE_HOPPER = "NVIDIA GH200 Grace Hopper Superchip datasheet, halved where it counts sparsity"
_BLACKWELL = "NVIDIA Blackwell datasheet, halved where it counts sparsity"
_VOLTA = "NVIDIA V100 Tensor Core GPU datasheet"

# The whole name as JAX gives it. NVIDIA's drivers called the boards Tesla before 2021.
_PEAKS = (
    ("TPU v2", _tpu(46, 700, _JOUPPI, devices=2)),
    ("TPU v3", _tpu(123, 900, _JOUPPI, devices=2)),
    ("TPU v4", _tpu(275, 1228, f"{_CLOUD}, v4")),
    ("TPU v5 ?lite|TPU v5e", _tpu(197, 819, f"{_CLOUD}, v5e")),
    ("TPU v5|TPU v5p", _tpu(459, 2765, f"{_CLOUD}, v5p")),
    ("TPU v6 ?lite|TPU v6e", _tpu(918, 1638, f"{_CLOUD}, v6e")),
    ("TPU7x", _tpu(2307, 7380, f"{_CLOUD}, TPU7x", devices=2)),
    (r"(Tesla|NVIDIA) V100-SXM2-(16|32)GB", _gpu(None, 15.7, 900, _VOLTA)),
    (r"(Tesla|NVIDIA) V100-PCIE-(16|32)GB", _gpu(None, 14.0, 900, _VOLTA)),
    (r"(Tesla|NVIDIA) V100S-PCIE-32GB", _gpu(None, 16.4, 1134, _VOLTA)),
    (r"(Tesla|NVIDIA) T4", _gpu(None, 8.1, 320, "NVIDIA T4 Tensor Core GPU product brief")),
    (r"(NVIDIA )?A100-SXM4-40GB|(NVIDIA )?A100-PCIE-40GB", _gpu(312, 156, 1555, _AMPERE)),
    (r"(NVIDIA )?A100-SXM4-80GB", _gpu(312, 156, 2039, _AMPERE)),
    (r"(NVIDIA )?A100 80GB PCIe", _gpu(312, 156, 1935, _AMPERE)),
    ("(NVIDIA )?A10", _gpu(125, 62.5, 600, "NVIDIA A10 Tensor Core GPU datasheet")),
    ("(NVIDIA )?A10G", _gpu(70, 35, 600, "NVIDIA A10G datasheet, as Amazon Web Services publishes it")),
    ("(NVIDIA )?A40", _gpu(149.7, 74.8, 696, "NVIDIA A40 datasheet")),
    ("NVIDIA L4", _gpu(121, 60, 300, "NVIDIA L4 Tensor Core GPU datasheet, halved where it counts sparsity")),
    ("NVIDIA L40S", _gpu(362.05, 183, 864, "NVIDIA L40S datasheet")),
    ("(NVIDIA )?GeForce RTX 3090", _gpu(71, 35.6, 936, "NVIDIA Ampere GA102 architecture whitepaper")),
    ("NVIDIA GeForce RTX 4090", _gpu(165.2, 82.6, 1008, "NVIDIA Ada GPU architecture whitepaper")),
    ("NVIDIA H100 80GB HBM3", _gpu(989.5, 494.5, 3350, _HOPPER)),
    ("NVIDIA H100 PCIe", _gpu(756.5, 378, 2000, _HOPPER)),
    ("NVIDIA H100 NVL", _gpu(835.5, 417.5, 3900, _HOPPER)),
    ("NVIDIA H200", _gpu(989.5, 494.5, 4800, _H200)),
    ("NVIDIA H200 NVL", _gpu(835.5, 417.5, 4800, _H200)),
    ("NVIDIA GH200 480GB", _gpu(989.5, 494.5, 4000, _GRACE_HOPPER)),
    ("NVIDIA GH200 144G HBM3e", _gpu(989.5, 494.5, 4900, _GRACE_HOPPER)),
    ("NVIDIA B200", _gpu(2250, 1100, 7700, f"{_BLACKWELL}, HGX B200")),
    ("NVIDIA GB200", _gpu(2500, 1250, 8000, f"{_BLACKWELL}, GB200 NVL72")),
    ("AMD Instinct MI300X( OAM)?", _gpu(1307.4, 163.4, 5300, "AMD Instinct MI300X datasheet")),
)


def describe() -> dict[str, Any]:
    """The devices that JAX uses and the host, as the result's JSON has them. Starts JAX's backend.

    What is not known is None: memory and published rates of a CPU, driver and power limits without NVML.
    """
    devices = jax.devices()
    kind = devices[0].device_kind
    memory, peak = device_memory_bytes(), published(kind)
    driver, power_limits = (nvml.ask(_driver) if devices[0].platform == "gpu" else None) or (None, None)
    return {
        "platform": devices[0].platform,
        "device_kind": kind,
        "devices": len(devices),
        "processes": jax.process_count(),
        "device_memory_gib": memory and memory / 2**30,
        "driver": driver,
        "power_limits_w": power_limits,
        "published": peak
        and {
            "flops_per_second": peak.flops_per_second,
            "bytes_per_second": peak.bytes_per_second,
            "source": peak.source,
        },
        "cpu": _cpu(),
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_matrix_instructions": [name for name in _INSTRUCTIONS if name in _cpu_flags()],
        "host_memory_gib": _host_memory_bytes() / 2**30,
        "system": platform.platform(),
    }


def device_memory_bytes() -> int | None:
    """What JAX may allocate on a device; None where it does not say, as on a CPU.

    On a GPU that is the share that XLA reserves (XLA_PYTHON_CLIENT_MEM_FRACTION, 0.75 by default).
    """
    found = jax.local_devices()[0].memory_stats() or {}
    return found.get("bytes_limit") or None


_PACKAGES = (
    "dnabert-jax",
    "jax",
    "jaxlib",
    "jax-cuda12-plugin",
    "jax-cuda13-plugin",
    "jax-rocm7-plugin",
    "libtpu",
    "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13",
    "flax",
    "optax",
    "numpy",
    "torch",
    "transformers",
)


def versions() -> dict[str, str]:
    """Of Python and of the packages that the figures depend on, as far as they are installed; nothing is imported."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


_ENVIRONMENT = re.compile(
    r"XLA_.*|LIBTPU_.*|TPU_.*|JAX_.*|CUDA_VISIBLE_DEVICES|CUDA_DEVICE_ORDER|NVIDIA_TF32_OVERRIDE|TF_CUDNN_.*|TF_GPU_.*"
    r"|GLIBC_TUNABLES|MALLOC_.*|LD_PRELOAD|OMP_.*|MKL_.*|TORCH.*|PYTORCH_.*"
)
_CONFIG = (
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_enable_x64",
    "jax_debug_nans",
    "jax_disable_jit",
    "jax_disable_most_optimizations",
    "jax_optimization_level",
)


def flags() -> dict[str, Any]:
    """The environment's variables that change how fast programs run, and JAX's settings that do, by name."""
    environment = {name: value for name, value in sorted(os.environ.items()) if _ENVIRONMENT.fullmatch(name)}
    settings = {name: getattr(jax.config, name) for name in _CONFIG if hasattr(jax.config, name)}
    plain = (str, int, float, bool, type(None))
    return environment | {name: value if isinstance(value, plain) else str(value) for name, value in settings.items()}


def _driver(pynvml: Any, handles: list[Any]) -> tuple[str, list[float]]:
    version = pynvml.nvmlSystemGetDriverVersion()
    limits = [pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3 for handle in handles]
    return version.decode() if isinstance(version, bytes) else version, limits


_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "sve", "bf16")
"""As Linux names them: those that matrix products of float32 and bfloat16 are made of."""


def _cpu() -> str:
    return _from_proc("cpuinfo", r"model name\s*:\s*(.+)") or platform.processor() or platform.machine()


def _cpu_flags() -> set[str]:
    return set((_from_proc("cpuinfo", r"(?:flags|Features)\s*:\s*(.+)") or "").split())


def _host_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _from_proc(file: str, pattern: str) -> str | None:
    """The first match in a file of Linux's /proc; None where there is none."""
    try:
        with open(f"/proc/{file}", encoding="utf-8", errors="replace") as lines:
            return next((found[1] for line in lines if (found := re.match(pattern, line))), None)
    except OSError:
        return None
