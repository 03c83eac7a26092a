"""What a user of `dnabert bench` may choose without changing the work: how it is computed, and how long it is timed."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from dnabert_jax.bench.workloads import QUICK, SUITE, Workload
from dnabert_jax.config import AttentionKernel, EncoderConfig
from dnabert_jax.errors import InputError


@dataclass(frozen=True)
class Choices:
    """How the workloads are run.

    Raises:
      InputError: a number that is out of range.
    """

    batch_size: int = 0
    """Rows of a step; 0 finds the largest power of two that an accelerator holds, and is 8 on a CPU."""
    compute_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Type of activations and matrix products; `auto` is the workload's own, bfloat16, but float32 on a CPU, as few
    have units for bfloat16."""
    attention: AttentionKernel = "auto"
    """Attention kernel, as `EncoderConfig.attention`."""
    scan_layers: bool = True
    """Whether the layers are one scanned loop or unrolled."""
    remat: Literal["none", "full", "dots_saveable"] = "none"
    """What the backward pass computes again instead of keeping."""
    synthetic: bool = False
    """Train on tokens that the device draws itself, so that no input is waited for."""
    steps: int = 30
    """Timed steps of each workload."""
    warmup: int = 3
    """Steps before those."""
    quick: bool = False
    """Run the tiny suite."""

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 0), ("steps", 1), ("warmup", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; expected {least} or more")

    @property
    def suite(self) -> str:
        """Name of the suite that is run."""
        return QUICK if self.quick else SUITE

    def on(self, platform: str) -> "Choices":
        """With `auto` decided for devices of this kind: `cpu`, `gpu` or `tpu`."""
        if self.compute_dtype == "auto" and platform == "cpu":
            return dataclasses.replace(self, compute_dtype="float32")
        return self

    def encoder(self, workload: Workload) -> EncoderConfig:
        """The workload's encoder, computed in the chosen way."""
        return dataclasses.replace(
            workload.encoder,
            compute_dtype=workload.encoder.compute_dtype if self.compute_dtype == "auto" else self.compute_dtype,
            attention=self.attention,
            scan_layers=self.scan_layers,
            remat=self.remat,
        )
