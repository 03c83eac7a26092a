"""Two pretraining steps on each of several meshes over four devices: what `test_sharding` runs in a process of its own.

Prints one JSON object a mesh: its shape, the figures of both steps, and how far the params are from those of the first.
"""

import json
import os

# Compiling is what takes the time here, so as little as possible is optimised.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np

from dnabert_jax import masking, optim, sharding
from dnabert_jax.config import MaskingConfig, MeshConfig, OptimizerConfig
from dnabert_jax.model.heads import MaskedLanguageModel
from dnabert_jax.objectives import masked_lm
from dnabert_jax.training import state, step
from tests import tiny

MESHES = ((1, 1, 1), (4, 1, 1), (2, 2, 1), (1, 2, 2))
BATCH = tiny.rows([[60], [5], [20, 20], [5, 5], [58], [6], [40], [7, 9]], 64)
MASKING = MaskingConfig(rate=0.3, late_rate=0.3)
# Epsilon as large as a gradient, so that what rounding does to one is not blown up by AdamW's division.
OPTIMIZER = OptimizerConfig(learning_rate=0.01, warmup_steps=0, decay_steps=10, epsilon=1e-2)


def main() -> None:
    key = jax.random.key(1)
    optimizer = optim.adamw(OPTIMIZER)
    model = MaskedLanguageModel(tiny.ENCODER)  # with dropout: its masks must not depend on the mesh

    def init(key):
        row = jnp.zeros((1, 64), jnp.int32)
        return model.init(key, row, row, row, row[:, :1], deterministic=True)["params"]

    def prepare(batch, key, number):
        masked = masking.mask(key, batch, MASKING, k=3, step=number)
        return masked, jnp.sum(masked.weights)

    def loss(params, batch, key):
        inputs = (batch.tokens, batch.segment_ids, batch.positions, batch.slots)
        logits = model.apply({"params": params}, *inputs, deterministic=False, rngs={"dropout": key})
        return masked_lm.loss(logits, batch, 3)

    first = None
    for shape in MESHES:
        devices = jax.devices()[: np.prod(shape)]
        with sharding.use(sharding.make_mesh(MeshConfig(*shape), devices)) as mesh:
            like = state.layout(init, optimizer, key, mesh)
            run = step.make(
                loss,
                prepare,
                optimizer,
                optim.schedule(OPTIMIZER),
                parts=2,
                key=key,
                mesh=mesh,
                shardings=state.shardings(like),
            )
            current, figures = state.create(init, optimizer, key, like), []
            for batch in (sharding.on_device(each, mesh) for each in (BATCH, BATCH)):
                current, sums = run(current, batch)
                figures.append({name: float(value) for name, value in jax.device_get(sums).items()})
            kernel = current.params["encoder"]["layers"]["mlp"]["up"]["kernel"]
            share = kernel.addressable_shards[0].data.size / kernel.size
            params = jax.device_get(current.params)
        first = first or params
        apart = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params, first)
        print(json.dumps({"mesh": shape, "figures": figures, "share": share, "apart": max(jax.tree.leaves(apart))}))


if __name__ == "__main__":
    main()
