"""What meshes need: against the state that is really made, a compiled run, and a search through all accumulations."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from dnabert_jax import cli, kmers, optim, plan, recipes, sharding
from dnabert_jax.config import MeshConfig, ModelConfig, PretrainConfig
from dnabert_jax.errors import InputError
from dnabert_jax.model.heads import initializer
from dnabert_jax.training import pretrain, state
from tests import tiny
from tests.training import runs

CONFIG = PretrainConfig(batch_size=16, row_length=64, encoder=tiny.ENCODER)
BASE = recipes.load("dnabert6", PretrainConfig)
ROOT = Path(__file__).parents[1]


def status(*arguments: str) -> int:
    return cli._status(lambda: cli._dispatch("dnabert", cli.COMMANDS, ["plan", *arguments]))


def axes(found: list[MeshConfig]) -> list[tuple[int, ...]]:
    return [dataclasses.astuple(mesh) for mesh in found]


def test_meshes_are_all_that_divide_devices_and_model():
    found = axes(plan.meshes(CONFIG, 8, {}))
    assert found[0] == (8, 1, 1)
    encoder = CONFIG.encoder  # its smallest size that an axis splits is 4 heads
    by_hand = {
        (data, fsdp, tensor)
        for data in range(1, 9)
        for fsdp in range(1, 9)
        for tensor in range(1, 9)
        if data * fsdp * tensor == 8 and encoder.heads % tensor == 0 and encoder.hidden % fsdp == 0
    }
    assert set(found) == by_hand
    assert (1, 1, 8) not in found


def test_of_many_meshes_every_other_fsdp_is_tried():
    found = axes(plan.meshes(BASE, 256, {}))
    assert {fsdp for _, fsdp, _ in found} == {1, 4, 16, 64, 256}
    assert {tensor for _, _, tensor in found} == {1, 2, 4}
    assert all(math.prod(mesh) == 256 for mesh in found)


def test_an_axis_that_is_given_stays():
    assert {fsdp for _, fsdp, _ in axes(plan.meshes(BASE, 256, {"fsdp": 8}))} == {8}
    assert axes(plan.meshes(BASE, 256, {"data": 16, "tensor": 2})) == [(16, 8, 2)]


@pytest.mark.parametrize(
    ("devices", "fixed", "said"),
    [
        (4, {"fsdp": 3}, "mesh.fsdp is 3; expected a divisor of the number of devices (4)"),
        (64, {"data": 2, "fsdp": 2, "tensor": 2}, "mesh data 2 × fsdp 2 × tensor 2 does not make 64 devices"),
        (8, {"tensor": 8}, "mesh.tensor is 8; expected a divisor of encoder.heads (4)"),
    ],
)
def test_meshes_that_there_are_not(devices, fixed, said):
    with pytest.raises(InputError) as caught:
        plan.meshes(CONFIG, devices, fixed)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("batch", "meshes", "accumulation", "expected"),
    [
        (2000, [(256, 1, 1), (32, 4, 2)], 1, 2048),
        (2000, [(8, 1, 1), (2, 2, 2)], 1, 2000),
        (2000, [(8, 1, 1)], 3, 1992),
        (10, [(256, 1, 1)], 1, 256),
    ],
)
def test_a_batch_that_every_mesh_divides(batch, meshes, accumulation, expected):
    config = dataclasses.replace(CONFIG, batch_size=batch)
    assert plan.dividing_batch(config, [MeshConfig(*mesh) for mesh in meshes], accumulation) == expected


def pretended(config: PretrainConfig) -> plan.Need:
    """A need of 100 bytes, and 10 for each row that a device computes at once."""
    shares = config.mesh.data * config.mesh.fsdp
    rows = config.batch_size // config.accumulation // shares
    assert rows * config.accumulation * shares == config.batch_size
    return plan.Need(config.mesh, config.accumulation, rows, 30, 60, 10 + 10 * rows)


@pytest.mark.parametrize("memory", [100, 110, 120, 137, 200, 340, 350, 10_000])
def test_the_accumulation_is_the_smallest_that_fits(monkeypatch, memory):
    monkeypatch.setattr(plan, "need", pretended)
    config = dataclasses.replace(CONFIG, batch_size=48)
    mesh = MeshConfig(2, 1, 1)
    found = plan.least_accumulation(config, mesh, memory)
    fitting = [parts for parts in range(1, 25) if 24 % parts == 0 and 100 + 10 * (24 // parts) <= memory]
    assert found.accumulation == (min(fitting) if fitting else 24)
    assert (found.total_bytes <= memory) == bool(fitting)


@pytest.fixture
def tiny_recipe(tmp_path):
    return str(runs.recipe(CONFIG, tmp_path / "tiny.py"))


@pytest.fixture
def no_compiling(monkeypatch):
    monkeypatch.setattr(plan, "need", pretended)
    monkeypatch.setattr(plan, "simulate", lambda devices: None)


def test_the_plan_as_lines_and_as_json(no_compiling, tiny_recipe, tmp_path, capsys):
    output = tmp_path / "plan.json"
    gib = 125 / 2**30  # for one row at once, not for two
    assert status(tiny_recipe, "--devices", "4", "--memory-gib", str(gib), "--output", str(output)) == 0
    lines = capsys.readouterr().out.splitlines()
    meshes = [line for line in lines if line.startswith("data ")]
    assert len(meshes) == 6
    assert meshes[0].startswith("data 4 × fsdp 1 × tensor 1  accumulation 2  rows 2  params_gib ")
    assert all(line.endswith("  fits") for line in meshes)
    assert lines[-1].endswith("--batch_size 16 --accumulation 2 --mesh.fsdp 1 --mesh.tensor 1")
    written = json.loads(output.read_text())
    assert (written["devices"], written["batch_size"]) == (4, 16)
    assert [each["fits"] for each in written["meshes"]] == [True] * 6
    assert written["meshes"][0]["total_gib"] == 120 / 2**30


def test_that_nothing_fits_is_said_with_what_helps(no_compiling, tiny_recipe, capsys):
    assert status(tiny_recipe, "--devices", "4", "--memory-gib", str(95 / 2**30)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith("does not fit") for line in lines) == 6
    assert lines[-1].startswith("no mesh fits into ")
    assert "--encoder.remat full" in lines[-1]
    assert status(tiny_recipe, "--devices", "4", "--memory-gib", str(80 / 2**30)) == 0
    assert "more devices" in capsys.readouterr().out.splitlines()[-1]


def test_fields_axes_and_accumulation_from_flags(no_compiling, tiny_recipe, capsys):
    arguments = ("--mesh.fsdp", "2", "--accumulation=2", "--batch_size", "30", "--encoder.remat", "full")
    assert status(tiny_recipe, "--devices", "4", "--memory-gib", "1", *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "encoder.remat full" in lines[0]
    assert lines[1].endswith("this is for --batch_size 32")
    meshes = [line for line in lines if line.startswith("data ")]
    assert len(meshes) == 2
    assert all("fsdp 2" in line and "accumulation 2" in line for line in meshes)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("small", "--devices", "0", "--memory-gib", "16"), "devices is 0; expected"),
        (("small", "--devices", "1000000", "--memory-gib", "16"), "devices is 1000000; expected"),
        (("small", "--devices", "8", "--memory-gib", "0"), "memory_gib is 0.0; expected"),
        (("small", "--devices", "8", "--memory-gib", "nan"), "memory_gib is nan; expected"),
        (("small", "--devices", "8", "--memory-gib", "16", "--mesh.fsdp", "-1"), "mesh.fsdp is -1; expected"),
        (("small", "--devices", "8", "--memory-gib", "16", "--mesh.fsdp", "3"), "mesh.fsdp is 3; expected a divisor"),
        (("small", "--devices", "8"), "memory-gib"),
        (("smal", "--devices", "8", "--memory-gib", "16"), "unknown recipe 'smal'"),
        (("promoter", "--devices", "8", "--memory-gib", "16"), "expected a PretrainConfig"),
        (("small", "--devices", "8", "--memory-gib", "16", "--encoder.kk", "3"), "unknown field --encoder.kk"),
        (("--devices", "8"), "no recipe"),
        ((), "no recipe"),
        (("small", "--devices", "8", "--memory-gib", "16", "--output", "/nowhere/plan.json"), "cannot be written"),
    ],
)
def test_bad_input_is_one_line(arguments, said, capsys):
    assert status(*arguments) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert not told.out


@pytest.mark.slow
def test_one_device_needs_what_the_compiled_run_takes():
    need = plan.need(CONFIG)
    optimizer = optim.adamw(CONFIG.optimizer)
    with sharding.use(sharding.make_mesh(MeshConfig())) as mesh:
        init, key = initializer(ModelConfig(CONFIG.encoder, "masked_lm")), jax.random.key(0)
        like = state.layout(init, optimizer, key, mesh)
        made = state.create(init, optimizer, key, like)
        step = pretrain.training_step(CONFIG, optimizer, key=key, mesh=mesh, shardings=state.shardings(like))
        names = ("tokens", "segment_ids", "positions")
        batch = sharding.on_device(dict.fromkeys(names, np.zeros((16, 64), np.int32)), mesh)
        found = step.lower(made, batch).compile(compiler_options=plan._COMPILER_OPTIONS).memory_analysis()
    taken = found.argument_size_in_bytes + found.temp_size_in_bytes
    extra = found.output_size_in_bytes - found.alias_size_in_bytes  # a few sums
    assert need.total_bytes == taken + extra
    assert 0 <= extra < 10_000

    # Counted by hand: embeddings, two layers of four affine maps and two LayerNorms, and the head.
    h, m, v = 32, 64, kmers.vocabulary_size(3)
    embeddings = (v + 64 + 2) * h + 2 * h
    layer = (h * 3 * h + 3 * h) + (h * h + h) + (h * m + m) + (m * h + h) + 4 * h
    head = (h * h + h) + 2 * h + v
    params = 4 * (embeddings + 2 * layer + head)
    assert need.params_bytes == params
    assert 2 * params <= need.optimizer_bytes <= 2 * params + 100  # two moments, and counts of steps
    rows = sum(array.nbytes for array in batch.values())
    assert need.temporaries_bytes > rows + params  # the gradients at least

    less = plan.least_accumulation(CONFIG, MeshConfig(1, 1, 1), need.total_bytes - 1)
    assert less.accumulation > 1
    assert less.rows == 16 // less.accumulation
    assert less.total_bytes < need.total_bytes


def _module(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m ...`, which has to end well."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done


@pytest.mark.slow
def test_meshes_need_what_the_state_takes_there(tmp_path):
    done = _module("tests.plan_needs")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [tuple(each["mesh"]) for each in found] == [(4, 1, 1), (1, 4, 1), (1, 2, 2)]
    for each in found:
        assert each["need"]["params_bytes"] == each["held"]["params"]
        assert each["need"]["optimizer_bytes"] == each["held"]["optimizer"]
        data, fsdp, _ = each["mesh"]
        assert each["need"]["rows"] == 16 // (data * fsdp)
    whole, sharded, _ = (each["need"]["params_bytes"] for each in found)
    assert whole / 4 < sharded < whole / 3  # all but biases and norms is spread
    assert found[0]["need"]["temporaries_bytes"] < found[2]["need"]["temporaries_bytes"]  # four rows, or eight


@pytest.mark.slow
def test_the_command_says_that_a_mesh_does_not_fit(tmp_path):
    recipe = runs.recipe(CONFIG, tmp_path / "tiny.py")
    output = tmp_path / "plan.json"
    flags = ("--devices", "2", "--memory-gib", "0.00001", "--mesh.fsdp", "2", "--output", str(output))
    done = _module("dnabert_jax", "plan", str(recipe), *flags)
    (mesh,) = json.loads(output.read_text())["meshes"]
    assert (mesh["data"], mesh["fsdp"], mesh["tensor"], mesh["fits"]) == (1, 2, 1, False)
    assert mesh["params_gib"] > 0.00001  # so that it cannot fit
    assert "does not fit" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("no mesh fits into 1e-05 GiB")
