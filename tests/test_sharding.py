"""The mesh, its rules, and that training on any mesh is training on one device."""

import json
import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from dnabert_jax import sharding
from dnabert_jax.config import MeshConfig
from dnabert_jax.errors import InputError


class _Mesh:
    """As much of a mesh as `check_batch` looks at, for more devices than there are."""

    def __init__(self, data: int, fsdp: int, tensor: int) -> None:
        self.shape = {"data": data, "fsdp": fsdp, "tensor": tensor}


def test_data_takes_what_the_others_leave():
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    assert mesh.axis_names == ("data", "fsdp", "tensor")
    assert dict(mesh.shape) == {"data": 1, "fsdp": 1, "tensor": 1}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (MeshConfig(data=2), "mesh data 2 × fsdp 1 × tensor 1 does not make 1 devices; expected a product of 1"),
        (MeshConfig(fsdp=2), "mesh data (what is left) × fsdp 2 × tensor 1 does not make 1 devices"),
        (MeshConfig(tensor=3), "mesh data (what is left) × fsdp 1 × tensor 3 does not make 1 devices"),
    ],
)
def test_a_mesh_that_the_devices_do_not_make(config, said):
    with pytest.raises(InputError) as caught:
        sharding.make_mesh(config, jax.devices()[:1])
    assert str(caught.value).startswith(said)


def test_rows_lie_over_data_and_fsdp():
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    assert sharding.batch_sharding(mesh).spec == PartitionSpec(("data", "fsdp"))
    assert sharding.replicated(mesh).spec == PartitionSpec()


def test_logical_axes_map_to_the_mesh():
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    boxed = {
        "kernel": nn.LogicallyPartitioned(jnp.zeros((4, 8)), ("hidden", "mlp")),
        "table": nn.LogicallyPartitioned(jnp.zeros((5, 4)), ("vocabulary", "hidden")),
        "count": jnp.zeros(()),
    }
    specs = jax.tree.map(lambda x: x.spec, sharding.parameter_shardings(mesh, boxed))
    assert specs == {
        "kernel": PartitionSpec("fsdp", "tensor"),
        "table": PartitionSpec(None, "fsdp"),
        "count": PartitionSpec(),
    }


@pytest.mark.parametrize(
    ("mesh", "rows", "shares"),
    [((1, 1, 1), 3, 1), ((2, 1, 1), 4, 2), ((2, 2, 1), 8, 4), ((1, 1, 4), 3, 1)],
)
def test_rows_that_divide(mesh, rows, shares):
    sharding.check_batch(_Mesh(*mesh), rows, "batch_size")
    if shares > 1:
        with pytest.raises(InputError) as caught:
            sharding.check_batch(_Mesh(*mesh), rows + 1, "batch_size")
        assert str(caught.value) == f"batch_size has {rows + 1} rows; expected a multiple of data × fsdp ({shares})"


@pytest.fixture(scope="module")
def on_meshes():
    """What `tests.mesh_steps` prints, by mesh."""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "tests.mesh_steps"],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {tuple(each["mesh"]): each for each in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize(
    ("mesh", "share"),
    [((4, 1, 1), 1), ((2, 2, 1), 1 / 2), ((1, 2, 2), 1 / 4)],
    ids=["data", "data and fsdp", "fsdp and tensor"],
)
def test_every_mesh_trains_as_one_device(on_meshes, mesh, share):
    one, found = on_meshes[1, 1, 1], on_meshes[mesh]
    assert found["share"] == share  # of a kernel, on each device
    for a, b in zip(found["figures"], one["figures"], strict=True):
        assert set(a) == set(b)
        assert a["masked"] == b["masked"] > 20
        for name in set(b) - {"correct"}:  # of two logits that are next to equal, either may win
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-3), name
    assert found["apart"] < 2e-4
    assert one["figures"][0]["loss"] != one["figures"][1]["loss"]
