"""What each policy of `encoder.remat` and each accumulation costs and saves: memory by analysis, time by running.

Memory is that of the paper's recipe (BERT-base in bfloat16, rows of 512), from XLA's analysis, on a CPU and with
nothing of the size made. Time is that of a step of a smaller model, which this machine can run: 4 layers of 256 in
float32, the programs in turn. Prints a Markdown table of each.

    python benchmarks/memory.py --rows 8 --steps 10

With `--topology v5e:2x2` it prints the memory that the TPU's own compiler assigns instead, for which no TPU is needed
but `pip install libtpu`: one device of that topology has the same rows.
"""

import argparse
import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import jax
import numpy as np

from dnabert_jax import optim, plan, recipes, sharding
from dnabert_jax.bench import timing
from dnabert_jax.config import EncoderConfig, MeshConfig, ModelConfig, PretrainConfig
from dnabert_jax.kmers import CLS, FIRST_KMER, SEP
from dnabert_jax.model.heads import initializer
from dnabert_jax.training import pretrain, state

REMAT = ("none", "dots_saveable", "full")
TIMED = EncoderConfig(k=6, layers=4, hidden=256, heads=4, intermediate=1024, compute_dtype="float32")
"""What this machine runs."""


def with_policy(config: PretrainConfig, remat: str, accumulation: int, rows: int) -> PretrainConfig:
    """The config of a step of so many rows, in parts."""
    encoder = dataclasses.replace(config.encoder, remat=remat)
    return dataclasses.replace(config, encoder=encoder, batch_size=rows, accumulation=accumulation)


def memory(config: PretrainConfig, rows: int, accumulations: list[int]) -> None:
    """Prints what a device needs for so many rows a step."""
    heads = " | ".join(f"accumulation {parts}" for parts in accumulations)
    print(f"| GiB beside params and optimiser, {rows} rows a device and step | {heads} |")
    print("| --- |" + " ---: |" * len(accumulations))
    for remat in REMAT:
        cells = []
        for accumulation in accumulations:
            devices = config.mesh.data or 1
            need = plan.need(with_policy(config, remat, accumulation, rows * devices))
            cells.append(f"{need.temporaries_bytes / plan.GIB:.2f}")
        print(f"| `{remat}` | {' | '.join(cells)} |", flush=True)
    held = need.params_bytes + need.optimizer_bytes
    print(f"\nparams and optimiser: {held / plan.GIB:.2f} GiB\n", flush=True)


def step_times(rows: int, steps: int, accumulations: list[int]) -> None:
    """Prints how long a step takes, relative to one that keeps all and reads its rows at once."""
    config = PretrainConfig(encoder=TIMED)
    kinds = [(remat, 1) for remat in REMAT] + [("none", parts) for parts in accumulations if parts > 1]
    programs = {f"{remat}, {parts}": _step(with_policy(config, remat, parts, rows)) for remat, parts in kinds}
    timed = timing.in_turn(programs, steps, 1, lambda line: None)
    medians = {name: each.median_ms for name, each in timed.items()}
    first = next(iter(medians.values()))
    print(f"| 4 layers of 256, {rows} rows of 512, float32 | step_time_ms | relative |\n| --- | ---: | ---: |")
    for name, median in medians.items():
        print(f"| remat, accumulation: {name} | {median:,.0f} | {median / first:.2f} |")


def _step(config: PretrainConfig) -> Callable[[], timing.Counts]:
    """Takes a step and waits for it."""
    init, optimizer = initializer(ModelConfig(config.encoder, "masked_lm")), optim.adamw(config.optimizer)
    key = jax.random.key(config.seed)
    with sharding.use(sharding.make_mesh(MeshConfig())) as mesh:
        like = state.layout(init, optimizer, key, mesh)
        take = pretrain.training_step(config, optimizer, key=key, mesh=mesh, shardings=state.shardings(like))
        current = state.create(init, optimizer, key, like)
        batch = sharding.on_device(_rows(config), mesh)
        compiled = take.lower(current, batch).compile()
    tokens = config.batch_size * config.row_length

    def step() -> timing.Counts:
        nonlocal current
        current, _ = jax.block_until_ready(compiled(current, batch))
        return timing.Counts(tokens, tokens, 0.0, 0.0)

    return step


def _rows(config: PretrainConfig) -> dict[str, np.ndarray]:
    """Random k-mers, one segment a row."""
    shape = (config.batch_size, config.row_length)
    tokens = np.random.default_rng(0).integers(FIRST_KMER, config.encoder.vocabulary_size, shape, np.int32)
    tokens[:, 0], tokens[:, -1] = CLS, SEP
    positions = np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape)
    return {"tokens": tokens, "segment_ids": np.ones(shape, np.int32), "positions": positions}


@contextmanager
def _tpu(topology: str) -> Iterator[int]:
    """Lets everything inside be compiled for a TPU that is not there, and yields its number of devices.

    There is no public way to have a program lowered for devices of another backend than the default one's where the
    program asks for the name of that; so the name is replaced.
    """
    from jax.experimental import topologies

    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    found = topologies.get_topology_desc(topology_name=topology, platform="tpu").devices
    with (
        mock.patch.object(jax, "devices", return_value=list(found)),
        mock.patch.object(jax, "default_backend", return_value="tpu"),
        mock.patch.object(plan, "_COMPILER_OPTIONS", {}),
    ):
        yield len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8, help="of a device and step")
    parser.add_argument("--accumulation", type=int, nargs="+", default=[1, 2, 4, 8], help="divisors of the rows")
    parser.add_argument("--steps", type=int, default=10, help="that are timed; 0 times nothing")
    parser.add_argument("--topology", default="", help="TPU to compile for, such as v5e:2x2; nothing is timed then")
    arguments = parser.parse_args()
    config = recipes.load("dnabert6", PretrainConfig)
    if arguments.topology:
        with _tpu(arguments.topology) as devices:
            memory(dataclasses.replace(config, mesh=MeshConfig(data=devices)), arguments.rows, arguments.accumulation)
        return
    memory(config, arguments.rows, arguments.accumulation)
    if arguments.steps:
        step_times(arguments.rows, arguments.steps, arguments.accumulation)


if __name__ == "__main__":
    main()
