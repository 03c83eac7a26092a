"""What a training step needs on each device of a mesh, without the devices: XLA's analysis of the sharded program.

The step that a pretraining run takes is lowered for shapes alone and compiled for as many simulated CPU devices;
nothing of the state is made. The params' and the optimiser's shares follow from shapes and shardings. The temporaries
are what XLA assigns beside them: gradients, activations that wait for the backward pass, params brought together.

XLA for CPU is another compiler than an accelerator's, and one of its habits, undone here, would show: it multiplies
bfloat16 as float32, and takes the conversion of all layers' activations out of the loop over the layers, so that they
lie there twice. docs/memory.md compares what is left with what the TPU's compiler says.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from dnabert_jax import optim, sharding
from dnabert_jax.config import MeshConfig, ModelConfig, PretrainConfig
from dnabert_jax.errors import InputError
from dnabert_jax.model.heads import initializer
from dnabert_jax.training import pretrain, state

GIB = 2**30

_COMPILER_OPTIONS = {
    "xla_disable_hlo_passes": "while-loop-invariant-code-motion",
    "xla_backend_optimization_level": 0,  # machine code that never runs
}

_MOST_MESHES = 16
"""Above this many meshes only every other value of `fsdp` is tried: each takes some compilations."""

_BY_MEMORY = ("none", "dots_saveable", "full")
"""Policies of `encoder.remat`, the one that takes most first."""


@dataclass(frozen=True)
class Need:
    """What one mesh takes on each device.

    Attributes:
      mesh: with no axis left open.
      accumulation: parts in which the step reads its batch.
      rows: that a device computes at once. With a `tensor` axis, several devices share them.
      params_bytes, optimizer_bytes: what a device holds of them all the time.
      temporaries_bytes: whatever else a step takes: its rows of the batch, gradients, activations, gathered params.
    """

    mesh: MeshConfig
    accumulation: int
    rows: int
    params_bytes: int
    optimizer_bytes: int
    temporaries_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.params_bytes + self.optimizer_bytes + self.temporaries_bytes

    @property
    def shape(self) -> str:
        """`data 32 × fsdp 8 × tensor 1`."""
        return _shape(self.mesh)

    @property
    def values(self) -> dict[str, int | float]:
        """For people and JSON, sizes in GiB."""
        return {
            **dataclasses.asdict(self.mesh),
            "accumulation": self.accumulation,
            "rows": self.rows,
            "params_gib": self.params_bytes / GIB,
            "optimizer_gib": self.optimizer_bytes / GIB,
            "temporaries_gib": self.temporaries_bytes / GIB,
            "total_gib": self.total_bytes / GIB,
        }


def simulate(devices: int) -> None:
    """Lets this process have so many CPU devices, and no others; before JAX makes its devices.

    Raises:
      RuntimeError: JAX has made other ones already.
    """
    flag = f"--xla_force_host_platform_device_count={devices}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()  # the last one counts
    jax.config.update("jax_platforms", "cpu")
    if len(jax.devices()) != devices:
        raise RuntimeError(f"JAX has {len(jax.devices())} devices already; expected to be asked before it has any")


def meshes(config: PretrainConfig, devices: int, fixed: Mapping[str, int]) -> list[MeshConfig]:
    """The meshes over so many devices that the model's shape divides into, with least communication first.

    Args:
      config: its mesh does not count.
      devices: their number.
      fixed: sizes of axes by name; the others take every size that is possible.

    Returns:
      All of them or, where they are more than 16, those without every other size of `fsdp`.

    Raises:
      InputError: there is none.
    """
    for axis, size in fixed.items():
        if devices % size:
            raise InputError(f"mesh.{axis} is {size}; expected a divisor of the number of devices ({devices})")
    found, refused = [], None
    divisors = _divisors(devices)
    for tensor in divisors:
        for fsdp in _divisors(devices // tensor):
            mesh = MeshConfig(devices // tensor // fsdp, fsdp, tensor)
            if any(getattr(mesh, axis) != size for axis, size in fixed.items()):
                continue
            try:
                found.append(_with_mesh(config, mesh).mesh)
            except InputError as error:
                refused = refused or error
    if not found:
        asked = " × ".join(f"{axis} {fixed.get(axis, '(any)')}" for axis in sharding.AXES)
        raise refused or InputError(f"mesh {asked} does not make {devices} devices; expected a product of {devices}")
    if len(found) <= _MOST_MESHES:
        return found
    kept = set(divisors[::2])
    return [mesh for mesh in found if mesh.fsdp in kept]


def dividing_batch(config: PretrainConfig, over: list[MeshConfig], accumulation: int = 1) -> int:
    """The multiple of what every one of these meshes divides a batch into that is nearest to `config.batch_size`."""
    unit = math.lcm(*(mesh.data * mesh.fsdp for mesh in over)) * accumulation
    return max(1, round(config.batch_size / unit)) * unit


def need(config: PretrainConfig) -> Need:
    """Compiles the step of a run and says what it takes on each device.

    Args:
      config: complete; its mesh must have all devices of this process.

    Raises:
      InputError: the mesh does not have them, or the batch does not divide over it.
    """
    mesh = sharding.make_mesh(config.mesh)
    rows = config.batch_size // config.accumulation
    sharding.check_batch(mesh, rows, "batch_size / accumulation")
    # The accelerator's own attention kernels cannot be lowered for a CPU.
    encoder = dataclasses.replace(config.encoder, attention="xla")
    config = dataclasses.replace(config, encoder=encoder)
    init, optimizer = initializer(ModelConfig(encoder, "masked_lm")), optim.adamw(config.optimizer)
    key = jax.random.key(config.seed)
    with sharding.use(mesh):
        like = state.layout(init, optimizer, key, mesh)
        step = pretrain.training_step(config, optimizer, key=key, mesh=mesh, shardings=state.shardings(like))
        where = sharding.batch_sharding(mesh)
        row = jax.ShapeDtypeStruct((config.batch_size, config.row_length), np.int32, sharding=where)
        batch = dict.fromkeys(("tokens", "segment_ids", "positions"), row)
        compiled = step.lower(like, batch).compile(compiler_options=_COMPILER_OPTIONS)
    found = compiled.memory_analysis()
    donated = found.alias_size_in_bytes
    total = found.argument_size_in_bytes + found.temp_size_in_bytes + found.output_size_in_bytes - donated
    params, moments = _bytes_on_a_device(like.params), _bytes_on_a_device(like.optimizer)
    return Need(
        mesh=MeshConfig(**mesh.shape),
        accumulation=config.accumulation,
        rows=rows // (mesh.shape["data"] * mesh.shape["fsdp"]),
        params_bytes=params,
        optimizer_bytes=moments,
        temporaries_bytes=total - params - moments,
    )


def least_accumulation(
    config: PretrainConfig, mesh: MeshConfig, memory_bytes: float, note: Callable[[str], None] = lambda line: None
) -> Need:
    """What a mesh needs at the smallest accumulation with which it fits; at the least need that there is, if with none.

    Args:
      config: its batch must divide over the mesh. Its mesh and accumulation do not count.
      mesh: over all devices of this process.
      memory_bytes: of a device.
      note: hears what is compiled.
    """
    parts = _divisors(config.batch_size // (mesh.data * mesh.fsdp))

    def at(index: int) -> Need:
        note(f"{_shape(mesh)}, accumulation {parts[index]}")
        return need(dataclasses.replace(_with_mesh(config, mesh), accumulation=parts[index]))

    whole = at(0)
    if whole.total_bytes <= memory_bytes or len(parts) == 1:
        return whole
    found = at(len(parts) - 1)
    if found.total_bytes > memory_bytes:
        return min(whole, found, key=lambda each: each.total_bytes)
    too_few, enough = 0, len(parts) - 1
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        tried = at(middle)
        if tried.total_bytes <= memory_bytes:
            found, enough = tried, middle
        else:
            too_few = middle
    return found


def needs(
    config: PretrainConfig,
    over: list[MeshConfig],
    memory_bytes: float,
    accumulation: int = 0,
    note: Callable[[str], None] = lambda line: None,
) -> Iterator[Need]:
    """What each of these meshes needs, one after another.

    Args:
      config: with a batch from `dividing_batch`.
      over: the meshes.
      memory_bytes: of a device.
      accumulation: 0 looks for the smallest with which a mesh fits.
      note: hears what is compiled.
    """
    for mesh in over:
        if accumulation:
            note(f"{_shape(mesh)}, accumulation {accumulation}")
            yield need(dataclasses.replace(_with_mesh(config, mesh), accumulation=accumulation))
        else:
            yield least_accumulation(config, mesh, memory_bytes, note)


def with_less_kept(
    config: PretrainConfig, at: Need, memory_bytes: float, note: Callable[[str], None] = lambda line: None
) -> tuple[str, Need] | None:
    """The first policy of `encoder.remat` beyond the config's that fits, else the last, and what it needs.

    Args:
      config: of which `at` is a need.
      at: says mesh and accumulation.
      memory_bytes: of a device.
      note: hears what is compiled.

    Returns:
      None where the config has the policy that keeps least.
    """
    config = dataclasses.replace(_with_mesh(config, at.mesh), accumulation=at.accumulation)
    found = None
    for policy in _BY_MEMORY[_BY_MEMORY.index(config.encoder.remat) + 1 :]:
        note(f"{_shape(at.mesh)}, encoder.remat {policy}")
        found = policy, need(dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, remat=policy)))
        if found[1].total_bytes <= memory_bytes:
            break
    return found


def _shape(mesh: MeshConfig) -> str:
    return " × ".join(f"{axis} {getattr(mesh, axis)}" for axis in sharding.AXES)


def _with_mesh(config: PretrainConfig, mesh: MeshConfig) -> PretrainConfig:
    return dataclasses.replace(config, mesh=mesh, accumulation=1)


def _bytes_on_a_device(layout: Any) -> int:
    """Of the arrays of a pytree of `jax.ShapeDtypeStruct` with shardings."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(layout))


def _divisors(number: int) -> list[int]:
    return [each for each in range(1, number + 1) if number % each == 0]
