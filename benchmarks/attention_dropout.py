"""What dropout on attention probabilities costs: a training step with it at 0.1 against one with it at 0, in turn.

At 0, `encoder.attention auto` takes the accelerator's fused kernel where there is one; on a CPU both are XLA's.

    python benchmarks/attention_dropout.py --rows 8 --steps 5
"""

import argparse
import dataclasses
import statistics
import tempfile
from pathlib import Path

import jax
from our_step import steps

from dnabert_jax import embedded, sharding
from dnabert_jax.config import EncoderConfig, MeshConfig, PretrainConfig
from dnabert_jax.data import build, shards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--compute-dtype", default="float32", choices=("float32", "bfloat16"))
    arguments = parser.parse_args()
    encoder = EncoderConfig(layers=arguments.layers, compute_dtype=arguments.compute_dtype)
    mesh = sharding.make_mesh(MeshConfig())
    with tempfile.TemporaryDirectory() as folder, sharding.use(mesh):
        build.build([embedded.FASTA], Path(folder, "genome"))
        split = shards.open_split(Path(folder, "genome"), "train")
        runs = {
            rate: steps(
                PretrainConfig(batch_size=arguments.rows, encoder=dataclasses.replace(encoder, attention_dropout=rate)),
                split,
                mesh,
            )
            for rate in (0.1, 0.0)
        }
        for run in runs.values():
            next(run)  # compiles
        seconds: dict[float, list[float]] = {rate: [] for rate in runs}
        for _ in range(arguments.steps):
            for rate, run in runs.items():
                seconds[rate].append(next(run)[0])
    medians = {rate: statistics.median(each) for rate, each in seconds.items()}
    print(f"BERT {arguments.layers} × 768, {arguments.rows} rows of 512, on {jax.devices()[0].device_kind}")
    for rate, median in medians.items():
        print(f"attention_dropout {rate}: step_time_ms {1000 * median:.1f}")
    print(f"0.1 / 0: {medians[0.1] / medians[0.0]:.2f}")


if __name__ == "__main__":
    main()
