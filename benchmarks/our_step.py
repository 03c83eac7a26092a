"""Our side of the step benchmarks: pretraining steps one after another, each with its time."""

import time
from collections.abc import Iterator

import jax
from jax.sharding import Mesh

from dnabert_jax import optim, sharding
from dnabert_jax.config import PretrainConfig
from dnabert_jax.data import loader, shards
from dnabert_jax.training import pretrain, state, step


def steps(config: PretrainConfig, split: shards.Split, mesh: Mesh) -> Iterator[tuple[float, int]]:
    """Seconds and useful tokens of each step of a new run; the first compiles. The mesh is in use."""
    key = jax.random.key(0)
    optimizer = optim.adamw(config.optimizer)
    init = pretrain.initializer(config)
    like = state.layout(init, optimizer, key, mesh)
    current = state.create(init, optimizer, key, like)
    train = step.make(
        pretrain.masked_lm_loss(config),
        pretrain.span_masking(config),
        optimizer,
        optim.schedule(config.optimizer),
        parts=1,
        key=key,
        mesh=mesh,
        shardings=state.shardings(like),
    )
    batches = sharding.on_devices(loader.Pretraining(split, config).batches(), mesh)
    while True:
        start = time.perf_counter()
        current, sums = train(current, next(batches))
        useful = int(sums["useful_tokens"])  # waits for the step
        yield time.perf_counter() - start, useful
