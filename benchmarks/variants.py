"""What is tried to make pretraining faster, one thing at a time, with what is expected of it; and the best of it.

Each variant is `dnabert bench` on the workload `pretrain-base-512` with other flags or another environment. They are in
the order of what they may gain, so that a run whose time ends early has tried the likeliest. The reasons for the
predictions are in docs/performance.md.
"""

import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dnabert_jax.config import EncoderConfig

NOISE = 1.01
"""Of two ratios that differ by less, neither is the faster one."""


@dataclass(frozen=True)
class Variant:
    """One thing that is tried.

    Attributes:
      name: in tables and file names.
      axis: what it changes; of several variants on an axis one can be taken. Empty where it only tells something.
      prediction: of useful tokens per second beside the run without it, as docs/performance.md says it.
      bench: flags of `dnabert bench`.
      encoder: the same as flags of `train.py`.
      environment: variables; XLA_FLAGS is added to what is there.
      batch_factor: of the rows of a step.
    """

    name: str
    axis: str
    prediction: str
    bench: tuple[str, ...] = ()
    encoder: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    batch_factor: float = 1.0


_KERNELS = {
    "cudnn_offsets": "1.05 to 1.12: no mask to read or to differentiate, and a fifth fewer scores",
    "tokamax": "1.00 to 1.10: leaves out blocks of keys of other segments; written for longer rows",
    "cudnn": "1.00: what `auto` takes on a GPU, so the spread between runs",
    "tokamax_triton": "0.95 to 1.05: the same without Hopper's own instructions",
    "pallas": "0.85 to 1.00: compares ids in its tiles, with blocks chosen for longer rows",
    "xla": "0.55 to 0.70: writes the L × L probabilities of every head",
}
"""Every kernel that can be chosen by name, the likeliest to gain first."""


def _kernel(name: str) -> Variant:
    return Variant(
        f"attention-{name}",
        "attention",
        _KERNELS[name],
        bench=("--attention", name),
        encoder=("--encoder.attention", name),
    )


def _xla(name: str, axis: str, flags: str, prediction: str) -> Variant:
    return Variant(name, axis, prediction, environment={"XLA_FLAGS": flags})


def variants() -> list[Variant]:
    """Everything that is tried, the likeliest to gain first."""
    known = set(typing.get_args(typing.get_type_hints(EncoderConfig)["attention"])) - {"auto"}
    *fused, slow = sorted(known, key=list(_KERNELS).index)
    return [
        *(_kernel(name) for name in fused),
        Variant(
            "unrolled",
            "layers",
            "1.03 to 1.08: no copies of stacked activations, fusions across layers; compiles 5 times as long",
            bench=("--no-scan-layers",),
            encoder=("--encoder.scan_layers", "False"),
        ),
        _xla(
            "cublas-only",
            "gemm",
            "--xla_gpu_enable_triton_gemm=false",
            "0.98 to 1.03: cuBLAS is the better at large products, Triton's fuse what stands around them",
        ),
        _xla(
            "command-buffer-loops",
            "command buffer",
            "--xla_gpu_enable_command_buffer=+WHILE",
            "1.00 to 1.01: one launch for the loop over the layers; a step of 100 ms hides its launches anyway",
        ),
        _xla(
            "no-command-buffer",
            "command buffer",
            "--xla_gpu_enable_command_buffer=",
            "0.98 to 1.00: every kernel is launched by itself",
        ),
        _xla(
            "latency-hiding",
            "scheduler",
            "--xla_gpu_enable_latency_hiding_scheduler=true",
            "0.99 to 1.01: hides transfers between devices, of which one device has none",
        ),
        Variant("double-batch", "batch", "1.00 to 1.01, if it fits: the products are no better", batch_factor=2.0),
        Variant("half-batch", "batch", "0.97 to 1.00: products are large enough already", batch_factor=0.5),
        Variant("quarter-batch", "batch", "0.94 to 0.99: the optimiser weighs four times as much", batch_factor=0.25),
        Variant(
            "synthetic",
            "",
            "1.00 to 1.01: the pipeline makes tens of times what a device reads, and runs ahead of it",
            bench=("--synthetic",),
        ),
        Variant(
            "unsafe-rbg",
            "random numbers",
            "1.00 to 1.01: dropout is a hash already, so the generator draws only the spans of masked tokens",
            environment={"JAX_DEFAULT_PRNG_IMPL": "unsafe_rbg"},
        ),
        _xla(
            "cudnn-layer-norm",
            "layer norm",
            "--xla_gpu_enable_cudnn_layer_norm=true",
            "0.97 to 1.02: one kernel less where it matches, but no fusion with dropout and residual",
        ),
        _kernel(slow),
        Variant(
            "remat-dots",
            "remat",
            "0.93 to 0.97: computes the element-wise part of the forward pass twice",
            bench=("--remat", "dots_saveable"),
            encoder=("--encoder.remat", "dots_saveable"),
        ),
        Variant(
            "remat-full",
            "remat",
            "0.75 to 0.80: computes the forward pass twice",
            bench=("--remat", "full"),
            encoder=("--encoder.remat", "full"),
        ),
    ]


def combined(gains: Mapping[str, float]) -> list[Variant]:
    """The fastest variant of each axis, where it gains more than noise.

    Args:
      gains: useful tokens per second by the variant's name, as a ratio to the run without it.
    """
    best: dict[str, Variant] = {}
    for variant in variants():
        gain = gains.get(variant.name, 0.0)
        if variant.axis and gain > NOISE and gain > gains.get(getattr(best.get(variant.axis), "name", ""), 0.0):
            best[variant.axis] = variant
    return list(best.values())


def environment(chosen: Iterable[Variant], present: Mapping[str, str]) -> dict[str, str]:
    """The variables to set for these variants together; flags for XLA are added to those that are present."""
    found: dict[str, str] = {}
    for variant in chosen:
        for name, value in variant.environment.items():
            before = found.get(name, present.get(name, "")) if name == "XLA_FLAGS" else ""
            found[name] = f"{before} {value}".strip()
    return found


def batch_size(chosen: Iterable[Variant], found: int) -> int:
    """Rows of a step, where `found` is what the run without variants had."""
    for variant in chosen:
        found = max(1, int(found * variant.batch_factor))
    return found
