"""What reading long sequences whole costs: a fine-tuning step on rows of `--tokens`, against pieces of 512, in turn.

Both are BERT's encoder under a classifier. One reads each sequence in one row, with rotary positions; the other, which
has the table of 512, reads it in pieces and takes the mean of their pooled outputs. The affine maps cost the same;
attention within pieces costs as many times less as there are pieces. Dropout is off in both, so that
`encoder.attention auto` takes the accelerator's fused kernel where there is one; on a CPU both are XLA's.

    python benchmarks/long_sequences.py --tokens 4096 --steps 5
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dnabert_jax import embedded, optim, sharding
from dnabert_jax.config import EncoderConfig, MeshConfig, ModelConfig, OptimizerConfig
from dnabert_jax.data import fasta, loader
from dnabert_jax.model.heads import fine_tuned, initializer
from dnabert_jax.objectives import targets
from dnabert_jax.training import state, step

PIECE = 512


def steps(config: ModelConfig, sequences: list[np.ndarray], mesh: Mesh) -> Iterator[float]:
    """Seconds of each step of a new run on the same sequences; the first compiles. The mesh is in use."""
    model = fine_tuned(config)
    values = OptimizerConfig()
    optimizer = optim.adamw(values)
    init = initializer(config)
    key = jax.random.key(0)
    like = state.layout(init, optimizer, key, mesh)
    current = state.create(init, optimizer, key, like)

    def loss(params, batch, key):
        inputs = (batch["tokens"], batch["segment_ids"], batch["positions"])
        logits = model.apply({"params": params}, *inputs, deterministic=True)
        return targets.single_label(logits, batch["labels"], batch["weights"])

    train = step.make(
        loss,
        lambda batch, key, step: (batch, jnp.sum(batch["weights"])),
        optimizer,
        optim.schedule(values),
        parts=1,
        key=key,
        mesh=mesh,
        shardings=state.shardings(like),
    )
    rows = loader.sequence_batch(sequences, k=config.encoder.k, length=config.encoder.max_length, pieces=config.pieces)
    labels = np.arange(len(sequences), dtype=np.int32) % len(config.classes)
    batch = sharding.on_device({**rows, "labels": labels, "weights": np.ones(len(sequences), np.float32)}, mesh)
    while True:
        start = time.perf_counter()
        current, sums = train(current, batch)
        float(sums["loss"])  # waits for the step
        yield time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=4_096, help="a multiple of 512")
    parser.add_argument("--rows", type=int, default=1, help="sequences a step")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=256, help="a multiple of 64, the dimensions of a head")
    parser.add_argument("--compute-dtype", default="float32", choices=("float32", "bfloat16"))
    arguments = parser.parse_args()
    pieces = arguments.tokens // PIECE
    if pieces < 2 or arguments.tokens % PIECE or arguments.hidden % 64:
        parser.error("expected --tokens 1024, 1536, ..., and --hidden 64, 128, ...")
    encoder = EncoderConfig(
        layers=arguments.layers,
        hidden=arguments.hidden,
        heads=arguments.hidden // 64,
        intermediate=4 * arguments.hidden,
        max_length=PIECE,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        compute_dtype=arguments.compute_dtype,
    )
    whole = dataclasses.replace(encoder, max_length=arguments.tokens, positions="rotary")
    configs = {
        f"{pieces} pieces of {PIECE}": ModelConfig(encoder, "single_label", ("0", "1"), pieces=pieces),
        f"one row of {arguments.tokens}": ModelConfig(whole, "single_label", ("0", "1")),
    }
    bases = pieces * encoder.max_kmers + encoder.k - 1
    mesh = sharding.make_mesh(MeshConfig())
    with fasta.IndexedFasta(embedded.FASTA) as genome, sharding.use(mesh):
        sequences = [genome.fetch("20", bases * i, bases * (i + 1)) for i in range(arguments.rows)]
        runs = {name: steps(config, sequences, mesh) for name, config in configs.items()}
        for run in runs.values():
            next(run)  # compiles
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(arguments.steps):
            for name, run in runs.items():
                seconds[name].append(next(run))
    print(
        f"BERT {arguments.layers} × {arguments.hidden}, {arguments.compute_dtype}, sequences of {bases} bases, "
        f"{arguments.rows} a step, on {len(jax.devices())} {jax.devices()[0].device_kind}"
    )
    medians = [statistics.median(each) for each in seconds.values()]
    for name, median in zip(seconds, medians, strict=True):
        print(f"{name}: step_time_ms {1000 * median:.1f}")
    print(f"whole / pieces: {medians[1] / medians[0]:.2f}")


if __name__ == "__main__":
    main()
