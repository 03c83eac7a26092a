"""Bytes that the devices of a mesh send one another in a training step, as XLA's program for eight of them says.

The step of DNABERT-6 is compiled for simulated CPU devices at its full widths, with one and with two layers outside a
loop; what the second adds counts once for each layer. A size is that of what a collective operation gives on one
device, which for a reduce-scatter is what it takes. XLA for CPU reduces bfloat16 as float32; an accelerator would send
half as much where the table says bfloat16.

    python benchmarks/collectives.py
"""

import argparse
import dataclasses
import math
import re
from collections import Counter

import jax
import numpy as np

from dnabert_jax import optim, plan, recipes, sharding
from dnabert_jax.config import MeshConfig, ModelConfig, PretrainConfig
from dnabert_jax.model.heads import initializer
from dnabert_jax.training import pretrain, state

DEVICES = 8
MESHES = (MeshConfig(8, 1, 1), MeshConfig(1, 8, 1), MeshConfig(2, 4, 1), MeshConfig(2, 1, 4), MeshConfig(2, 2, 2))
ROWS = 16
"""Of the batch."""

_OPERATION = re.compile(
    r"= (?P<shapes>\(.*?\)|\S+) (?P<name>all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\("
    r"(?P<rest>.*)"
)
_ARRAY = re.compile(r"(pred|bf16|f16|f32|s32|u32|s64|u64|u8|s8)\[([0-9,]*)\]")
_BYTES = {"pred": 1, "u8": 1, "s8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "s64": 8, "u64": 8}


def program(config: PretrainConfig) -> str:
    """The compiled step of a run, as text."""
    mesh = sharding.make_mesh(config.mesh)
    init, optimizer = initializer(ModelConfig(config.encoder, "masked_lm")), optim.adamw(config.optimizer)
    key = jax.random.key(config.seed)
    with sharding.use(mesh):
        like = state.layout(init, optimizer, key, mesh)
        step = pretrain.training_step(config, optimizer, key=key, mesh=mesh, shardings=state.shardings(like))
        row = jax.ShapeDtypeStruct(
            (config.batch_size, config.row_length), np.int32, sharding=sharding.batch_sharding(mesh)
        )
        batch = dict.fromkeys(("tokens", "segment_ids", "positions"), row)
        options = {"xla_backend_optimization_level": 0}
        return step.lower(like, batch).compile(compiler_options=options).as_text()


def collectives(text: str) -> Counter[str]:
    """Bytes of each kind of operation and type."""
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if not (match := _OPERATION.search(line)):
            continue
        for kind, shape in _ARRAY.findall(match["shapes"]):
            size = _BYTES[kind] * math.prod(int(number) for number in shape.split(",") if number)
            if match["name"] == "reduce-scatter":
                size *= _group(match["rest"])
            found[f"{match['name']} {kind}"] += size
    return found


def _group(rest: str) -> int:
    """Devices that take part in an operation together."""
    if match := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(match[1])
    if match := re.search(r"replica_groups=\{\{([0-9,]+)\}", rest):
        return match[1].count(",") + 1
    return DEVICES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="dnabert6")
    parser.add_argument("--least-mb", type=float, default=0.5, help="smaller sums are left out")
    arguments = parser.parse_args()
    plan.simulate(DEVICES)
    base = recipes.load(arguments.recipe, PretrainConfig)
    for mesh in MESHES:
        by_layers = []
        for layers in (1, 2):
            encoder = dataclasses.replace(base.encoder, layers=layers, scan_layers=False, attention="xla")
            config = dataclasses.replace(base, encoder=encoder, mesh=mesh, batch_size=ROWS, accumulation=1)
            by_layers.append(collectives(program(config)))
        one, two = by_layers
        print(f"data {mesh.data} × fsdp {mesh.fsdp} × tensor {mesh.tensor}, {ROWS} rows:")
        for name in sorted(one | two):
            layer = two[name] - one[name]
            total = one[name] + (base.encoder.layers - 1) * layer
            if total >= arguments.least_mb * 1e6:
                print(f"  {name:22} {total / 1e6:10,.1f} MB, of which {layer / 1e6:8,.2f} MB in each layer")


if __name__ == "__main__":
    main()
