"""One fine-tuning step of adapters on an encoder with rotary positions, on each of several meshes over four devices.

What `test_lora` runs in a process of its own. Prints one JSON object a mesh: its shape, the loss, the share of an
adapter that a device holds, and how far the params after the step are from those of the first mesh.
"""

import dataclasses
import json
import os

# Compiling is what takes the time here, so as little as possible is optimised.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnabert_jax import lora, optim, sharding
from dnabert_jax.config import LoraConfig, MeshConfig, ModelConfig, OptimizerConfig
from dnabert_jax.model.heads import SequenceClassifier
from dnabert_jax.training import state, step
from tests import tiny

MESHES = ((1, 1, 1), (2, 1, 2), (1, 2, 2))
ROWS = tiny.rows([[60], [5], [20], [41]], 64)
BATCH = {**ROWS, "labels": np.asarray([0, 1, 2, 1], np.int32)}
LORA = LoraConfig(rank=4)
# Epsilon as large as a gradient, so that what rounding does to one is not blown up by AdamW's division.
OPTIMIZER = OptimizerConfig(learning_rate=0.01, warmup_steps=0, decay_steps=10, epsilon=1e-2)


def main() -> None:
    key = jax.random.key(1)
    optimizer = optim.adamw(OPTIMIZER, ("lora", "pooler", "classifier"))
    encoder = dataclasses.replace(tiny.without_dropout(), positions="rotary")
    model = SequenceClassifier(ModelConfig(encoder, "single_label", ("a", "b", "c")))
    row = jnp.zeros((1, 64), jnp.int32)
    init = lora.with_adapters(lambda key: model.init(key, row, row, row, deterministic=True)["params"], LORA)

    def loss(params, batch, key):
        inputs = (batch["tokens"], batch["segment_ids"], batch["positions"])
        params = {**params, "encoder": jax.lax.stop_gradient(params["encoder"])}
        logits = model.apply({"params": lora.merge(params, LORA)}, *inputs, deterministic=True)
        total = jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]))
        return total, {"loss": total}

    first = None
    for shape in MESHES:
        devices = jax.devices()[: np.prod(shape)]
        with sharding.use(sharding.make_mesh(MeshConfig(*shape), devices)) as mesh:
            like = state.layout(init, optimizer, key, mesh)
            run = step.make(
                loss,
                lambda batch, key, number: (batch, jnp.float32(4)),
                optimizer,
                optim.schedule(OPTIMIZER),
                parts=1,
                key=key,
                mesh=mesh,
                shardings=state.shardings(like),
            )
            current = state.create(init, optimizer, key, like)
            for _ in range(2):  # of which the first moves B alone
                current, sums = run(current, sharding.on_device(BATCH, mesh))
            b = current.params["lora"]["attention"]["qkv"]["b"]
            share = b.addressable_shards[0].data.size / b.size
            moved = float(jnp.abs(b).max())
            params = jax.device_get(current.params)
        first = first or params
        apart = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params, first)
        figures = {"loss": float(sums["loss"]), "share": share, "moved": moved, "apart": max(jax.tree.leaves(apart))}
        print(json.dumps({"mesh": shape, **figures}))


if __name__ == "__main__":
    main()
