"""Training steps on meshes over 8 simulated devices: what `test_sharding` runs in a process of its own.

Takes a JSON list of runs: {"kind": "masked_lm", "single_label" or "attention", "mesh": [data, fsdp, tensor]}, and
"parts" and "steps". A mesh takes as many of the devices as it needs. Prints a JSON object for each run: the same, the
figures of each step, the bytes of the state, and what the compiled step sends between devices.
"""

import dataclasses
import functools
import json
import math
import os
import re
import sys

# Compiling is what takes the time here, so as little as possible is optimised.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np

from dnabert_jax import optim, sharding
from dnabert_jax.config import FinetuneConfig, MaskingConfig, MeshConfig, ModelConfig, OptimizerConfig, PretrainConfig
from dnabert_jax.model import attention, attention_check
from dnabert_jax.model.heads import initializer
from dnabert_jax.training import finetune, pretrain, state
from tests import tiny

LENGTH = 64
SEGMENTS = [
    [60],
    [5],
    [20, 20],
    [5, 5],
    [58],
    [6],
    [40],
    [7, 9],
    [30, 20],
    [61],
    [8, 8, 8],
    [50],
    [11],
    [33],
    [62],
    [9],
]
# Epsilon not far below a gradient, so that what rounding does to one is not blown up by AdamW's division.
OPTIMIZER = OptimizerConfig(learning_rate=3e-3, warmup_steps=0, decay_steps=40, epsilon=1e-4)
ENCODER = dataclasses.replace(tiny.ENCODER, heads=8)
CLASSES = ("a", "b", "c")
COLLECTIVES = r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("


def _batch(number: int, kind: str) -> dict[str, np.ndarray]:
    if kind == "masked_lm":
        return tiny.rows(SEGMENTS, LENGTH, seed=number)
    rows = tiny.rows([each[:1] for each in SEGMENTS], LENGTH, seed=number)
    labels = np.arange(len(SEGMENTS), dtype=np.int32) % len(CLASSES)
    return {**rows, "labels": labels, "weights": np.arange(len(SEGMENTS)) % 5 > 0}


def _training(kind: str, parts: int):
    """Model, optimiser, and what makes the step of a run."""
    if kind == "masked_lm":
        masking = MaskingConfig(rate=0.3, late_rate=0.3)
        config = PretrainConfig(
            batch_size=len(SEGMENTS),
            accumulation=parts,
            row_length=LENGTH,
            encoder=ENCODER,
            masking=masking,
            optimizer=OPTIMIZER,
        )
        optimizer = optim.adamw(OPTIMIZER)
        model = ModelConfig(ENCODER, "masked_lm")
        return model, optimizer, functools.partial(pretrain.training_step, config, optimizer)
    config = FinetuneConfig(encoder=tiny.FINETUNED.filled(ENCODER), dropout=0.1, batch_size=len(SEGMENTS))
    model = ModelConfig(ENCODER, kind, CLASSES)
    optimizer = optim.adamw(OPTIMIZER)
    return model, optimizer, functools.partial(finetune.training_step, config, model, OPTIMIZER, optimizer)


def trained(kind: str, mesh: list[int], parts: int, steps: int) -> dict:
    model, optimizer, make = _training(kind, parts)
    key = jax.random.key(1)
    with sharding.use(sharding.make_mesh(MeshConfig(*mesh), jax.devices()[: math.prod(mesh)])) as used:
        init = initializer(model)
        like = state.layout(init, optimizer, key, used)
        current = state.create(init, optimizer, key, like)
        batch = sharding.on_device(_batch(0, kind), used)
        program = make(key=key, mesh=used, shardings=state.shardings(like)).lower(current, batch).compile()
        figures = []
        for number in range(steps):
            batch = sharding.on_device(_batch(number, kind), used)
            current, sums = program(current, batch)
            figures.append({name: float(value) for name, value in jax.device_get(sums).items()})
    leaves = [x for x in jax.tree.leaves((current.params, current.optimizer)) if x.ndim]
    return {
        "figures": figures,
        "bytes": sum(x.nbytes for x in leaves),
        "bytes_on_a_device": sum(x.addressable_shards[0].data.nbytes for x in leaves),
        "bytes_of_vectors": sum(x.nbytes for x in leaves if x.ndim - (x.shape[0] == ENCODER.layers) < 2),
        "bytes_donated": program.memory_analysis().alias_size_in_bytes,
        "largest_param": max(x.size // (ENCODER.layers if x.shape[0] == ENCODER.layers else 1) for x in leaves),
        "collectives": _collectives(program.as_text()),
    }


def _collectives(program: str) -> list[tuple[str, list[int]]]:
    """Kind and shape of every array that the devices send each other."""
    found = []
    for shapes, kind in re.findall(COLLECTIVES, program):
        for shape in re.findall(r"\w+\[([\d,]*)\]", shapes):
            found.append((kind, [int(size) for size in shape.split(",") if size]))
    return found


def attended(mesh: list[int]) -> dict:
    """How JAX's fused kernel agrees with segments alone where each device has some of the rows and heads."""
    fused = functools.partial(attention._pallas_on_one_device, backend="gpu", interpret=True)
    attention._KERNELS_BY_DEVICE["pallas"] = fused
    attention.choose_kernel = lambda kernel, *facts: kernel
    with sharding.use(sharding.make_mesh(MeshConfig(*mesh), jax.devices()[: math.prod(mesh)])):
        checks = [attention_check.check(kernel, "float32", 128, 2, 16) for kernel in ("xla", "pallas")]
    return {each.kernel: [each.agrees, each.failure] for each in checks}


def main() -> None:
    for run in json.loads(sys.argv[1]):
        found = attended(run["mesh"]) if run["kind"] == "attention" else trained(**run)
        print(json.dumps({**run, **found}), flush=True)


if __name__ == "__main__":
    main()
