"""Where arrays live: the device mesh, and the one table that maps logical axis names onto it."""

import contextlib
import functools
from collections.abc import Generator, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dnabert_jax.config import MeshConfig
from dnabert_jax.errors import InputError

AXES = ("data", "fsdp", "tensor")

RULES = (
    ("batch", ("data", "fsdp")),
    ("length", None),
    ("hidden_states", None),
    ("hidden", "fsdp"),
    ("hidden_of_table", ("fsdp", "tensor")),
    ("hidden_of_vector", None),
    ("heads", "tensor"),
    ("mlp", "tensor"),
    ("slots", "tensor"),
    ("vocabulary", None),
    ("layers", None),
)
"""Logical axis of a param or activation → mesh axis; None keeps it whole on every device.

`hidden_of_table` is for params that have no other axis for `tensor`, `hidden_of_vector` for biases and LayerNorm, and
`slots` are the places of a row that the masked-LM head scores. The vocabulary stays whole: 4**k + 5 is odd, so hardly a
mesh axis divides it."""


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh of axes `data`, `fsdp`, `tensor` over all devices.

    Raises:
      InputError: the axes' product is not the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    rest = config.fsdp * config.tensor
    data = config.data or len(devices) // rest
    if data * rest != len(devices):
        raise InputError(
            f"mesh data {config.data or '(what is left)'} × fsdp {config.fsdp} × tensor {config.tensor} "
            f"does not make {len(devices)} devices; expected a product of {len(devices)}"
        )
    shape = (data, config.fsdp, config.tensor)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


@contextlib.contextmanager
def use(mesh: Mesh) -> Iterator[Mesh]:
    """Makes `mesh` and RULES the ones that logical constraints in the model refer to, and yields the mesh."""
    with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
        yield mesh


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over `data` × `fsdp`; the other axes whole."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


@functools.lru_cache(maxsize=16)
def _local_blocks(mesh: Mesh, rows: int) -> tuple[tuple[int, int], ...]:
    """(first row, one past the last) of each block of a batch that a device of this process holds, in order."""
    blocks = batch_sharding(mesh).addressable_devices_indices_map((rows,)).values()
    return tuple(sorted({each[0].indices(rows)[:2] for each in blocks}))


def local_rows(mesh: Mesh, rows: int) -> np.ndarray:
    """Numbers of those rows of a batch of so many that devices of this process hold, in order: all, if it is alone.

    Where the `tensor` axis goes through several processes, these hold the same rows.
    """
    return np.concatenate([np.arange(*block) for block in _local_blocks(mesh, rows)])


def on_device(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """A batch, laid on the mesh by rows.

    Args:
      batch: arrays [local rows, ...]; every process gives those of `local_rows`, in this order.
      mesh: from `make_mesh`.
    """
    where = batch_sharding(mesh)
    shares = mesh.shape["data"] * mesh.shape["fsdp"]
    shares_here = len(_local_blocks(mesh, shares))

    def laid_out(local: np.ndarray) -> jax.Array:
        size = len(local) // shares_here
        place = {first: number * size for number, (first, _) in enumerate(_local_blocks(mesh, size * shares))}

        def block(index: tuple[slice, ...]) -> np.ndarray:
            at = place[index[0].indices(size * shares)[0]]
            return local[at : at + size]

        return jax.make_array_from_callback((size * shares, *local.shape[1:]), where, block)

    return {name: laid_out(value) for name, value in batch.items()}


def on_devices(batches: Any, mesh: Mesh) -> Generator[dict[str, jax.Array], None, None]:
    """Batches, each laid on the mesh by rows.

    Args:
      batches: an iterator of dicts of arrays with a method `close`, which is called when this one ends or is closed.
      mesh: from `make_mesh`.
    """
    with contextlib.closing(batches):
        for batch in batches:
            yield on_device(batch, mesh)


def parameter_shardings(mesh: Mesh, boxed: Any) -> Any:
    """Shardings for a pytree of params or optimiser state whose leaves carry logical axis names (Flax boxes)."""
    return nn.logical_to_mesh_sharding(nn.get_partition_spec(boxed), mesh, RULES)


def check_batch(mesh: Mesh, rows: int, what: str) -> None:
    """Raises InputError unless `rows` divide evenly over the devices that share a batch."""
    shares = mesh.shape["data"] * mesh.shape["fsdp"]
    if rows % shares:
        raise InputError(f"{what} has {rows} rows; expected a multiple of data × fsdp ({shares})")
