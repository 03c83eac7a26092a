"""A pretraining run that goes on with other meshes and numbers of devices: what `test_sharding` runs in a process.

Takes the folder of the shards and one for workdirs. Trains ten steps on one device in `straight`, and in `moved` four
on one device, three on a mesh of 8 and three on one of 2.
"""

import dataclasses
import math
import os
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax

from dnabert_jax import sharding
from dnabert_jax.config import MeshConfig
from dnabert_jax.training import pretrain
from tests.training import runs


def main() -> None:
    shards, folder = map(Path, sys.argv[1:])
    make_mesh = sharding.make_mesh
    # As if there were no other devices.
    sharding.make_mesh = lambda config: make_mesh(
        config, jax.devices()[: math.prod((config.data, config.fsdp, config.tensor))]
    )
    one, eight, two = MeshConfig(1, 1, 1), MeshConfig(2, 2, 2), MeshConfig(1, 2, 1)
    for name, parts in (("straight", [(one, 10)]), ("moved", [(one, 4), (eight, 7), (two, 10)])):
        for mesh, steps in parts:
            config = runs.pretraining(shards, folder / name, steps=steps, report_every=1)
            pretrain.run(dataclasses.replace(config, mesh=mesh), lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
