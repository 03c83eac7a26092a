"""What the tiny model needs on meshes over four devices, and what is really there: `test_plan` runs it by itself.

Prints one JSON object a mesh: what `plan.need` says, and the bytes of params and optimiser that the first device holds
where the state is made.
"""

import dataclasses
import json

import jax

from dnabert_jax import optim, plan, sharding
from dnabert_jax.config import MeshConfig, ModelConfig
from dnabert_jax.model.heads import initializer
from dnabert_jax.training import state
from tests.test_plan import CONFIG

MESHES = (MeshConfig(4, 1, 1), MeshConfig(1, 4, 1), MeshConfig(1, 2, 2))


def main() -> None:
    plan.simulate(4)
    init, optimizer = initializer(ModelConfig(CONFIG.encoder, "masked_lm")), optim.adamw(CONFIG.optimizer)
    for mesh_config in MESHES:
        need = plan.need(dataclasses.replace(CONFIG, mesh=mesh_config))
        with sharding.use(sharding.make_mesh(mesh_config)) as mesh:
            key = jax.random.key(0)
            made = state.create(init, optimizer, key, state.layout(init, optimizer, key, mesh))
        first = jax.devices()[0]
        held = {
            name: sum(
                shard.data.nbytes
                for array in jax.tree.leaves(tree)
                for shard in array.addressable_shards
                if shard.device == first
            )
            for name, tree in (("params", made.params), ("optimizer", made.optimizer))
        }
        print(json.dumps({"mesh": dataclasses.astuple(mesh_config), "need": dataclasses.asdict(need), "held": held}))


if __name__ == "__main__":
    main()
