"""The mesh, its rules, and that training on any mesh is training on one device."""

import json
import math
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
from tests.training import runs


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
        "table": nn.LogicallyPartitioned(jnp.zeros((5, 4)), ("vocabulary", "hidden_of_table")),
        "count": jnp.zeros(()),
    }
    specs = jax.tree.map(lambda x: x.spec, sharding.parameter_shardings(mesh, boxed))
    assert specs == {
        "kernel": PartitionSpec("fsdp", "tensor"),
        "table": PartitionSpec(None, ("fsdp", "tensor")),
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


def _run(module: str, *arguments: str) -> str:
    """What a module of these tests prints in a process of its own, which has 8 simulated devices."""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


ONE = (1, 1, 1)
TRAINED = [
    ("masked_lm", (2, 1, 1), 1),
    ("masked_lm", (8, 1, 1), 1),
    ("masked_lm", (1, 4, 1), 1),
    ("masked_lm", (1, 1, 8), 1),
    ("masked_lm", (2, 2, 2), 1),
    ("masked_lm", (2, 2, 2), 2),
    ("single_label", (2, 2, 2), 1),
]
"""What is trained, on which mesh, in how many parts a step; each is compared with the same on one device."""


@pytest.fixture(scope="module")
def on_meshes():
    """What `tests.mesh_steps` prints, by what is trained."""
    alone = [(kind, ONE, parts) for kind, parts in dict.fromkeys((kind, parts) for kind, _, parts in TRAINED)]
    asked = [{"kind": kind, "mesh": mesh, "parts": parts, "steps": 20} for kind, mesh, parts in alone + TRAINED]
    asked.append({"kind": "attention", "mesh": (2, 2, 2)})
    found = map(json.loads, _run("tests.mesh_steps", json.dumps(asked)).splitlines())
    return {(each["kind"], tuple(each["mesh"]), each.get("parts")): each for each in found}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "mesh", "parts"), TRAINED)
def test_twenty_steps_with_dropout_are_those_of_one_device(on_meshes, kind, mesh, parts):
    found, expected = on_meshes[kind, mesh, parts]["figures"], on_meshes[kind, ONE, parts]["figures"]
    assert len(found) == len(expected) == 20
    for a, b in zip(found, expected, strict=True):
        assert set(a) == set(b)
        assert a["loss"] == pytest.approx(b["loss"], rel=5e-5)
        assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=5e-4)
        for name in {"masked", "unplaced", "hidden_bases", "useful_tokens", "examples", "learning_rate"} & set(b):
            assert a[name] == b[name], name
    assert len({each["loss"] for each in expected}) == 20


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "mesh", "parts"), TRAINED)
def test_a_device_holds_its_share_of_params_and_optimiser_and_gives_the_old_ones_away(on_meshes, kind, mesh, parts):
    found = on_meshes[kind, mesh, parts]
    share = found["bytes"] / (mesh[1] * mesh[2])
    assert share <= found["bytes_on_a_device"] <= share + found["bytes_of_vectors"]
    assert found["bytes_of_vectors"] < 0.05 * found["bytes"]
    assert found["bytes_donated"] >= found["bytes_on_a_device"]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "mesh", "parts"), TRAINED)
def test_params_are_gathered_and_activations_are_not(on_meshes, kind, mesh, parts):
    """Under `tensor` what each device has of the hidden states is summed: twice a layer forwards, twice backwards, and
    once where the head's slots are put back among the tokens."""
    sent = on_meshes[kind, mesh, parts]["collectives"]
    rows = 16 // (mesh[0] * mesh[1] * parts)
    assert "all-to-all" not in {operation for operation, _ in sent}
    moved = [math.prod(shape) for operation, shape in sent if operation not in ("all-reduce", "reduce-scatter")]
    assert max(moved, default=0) <= on_meshes[kind, mesh, parts]["largest_param"] < rows * 64 * 32
    states = [shape for _, shape in sent if math.prod(shape) == rows * 64 * 32]
    assert len(states) <= (5 if mesh[2] > 1 else 0)


@pytest.mark.slow
def test_a_kernel_that_runs_on_each_device_keeps_segments_apart(on_meshes):
    found = on_meshes["attention", (2, 2, 2), None]
    assert found["xla"] == found["pallas"] == [True, ""]


@pytest.mark.slow
def test_a_run_goes_on_with_other_meshes_and_numbers_of_devices(shards, tmp_path):
    said = _run("tests.mesh_resume", str(shards), str(tmp_path)).splitlines()
    assert [line for line in said if line.startswith("resuming")] == ["resuming from step 4", "resuming from step 7"]
    straight, moved = (
        {each["step"]: each for each in runs.metrics(tmp_path / name) if each["split"] == "train"}
        for name in ("straight", "moved")
    )
    assert list(straight) == list(moved) == list(range(1, 11))
    for step, expected in straight.items():
        for name in ("masked_tokens", "useful_share", "learning_rate"):  # the same rows under the same masks
            assert moved[step][name] == expected[name], (step, name)
        assert moved[step]["loss"] == pytest.approx(expected["loss"], rel=1e-3)
        assert moved[step]["bits_per_base"] == pytest.approx(expected["bits_per_base"], rel=1e-3)
