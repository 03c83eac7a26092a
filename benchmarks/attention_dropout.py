"""What dropout on attention probabilities costs: a training step with it at 0.1 against one with it at 0, in turn.

At 0, `encoder.attention auto` takes the accelerator's fused kernel where there is one; on a CPU both are XLA's.

    python benchmarks/attention_dropout.py --rows 8 --steps 5
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import jax

from dnabert_jax import embedded
from dnabert_jax.bench import timing, work
from dnabert_jax.bench.choices import Choices
from dnabert_jax.bench.workloads import SUITE, Workload, workloads
from dnabert_jax.data import build, shards


def with_dropout(workload: Workload, rate: float, layers: int) -> Workload:
    """The workload with this dropout on attention probabilities, and so many layers."""
    encoder = dataclasses.replace(workload.encoder, attention_dropout=rate, layers=layers)
    return dataclasses.replace(workload, encoder=encoder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--compute-dtype", default="float32", choices=("float32", "bfloat16"))
    arguments = parser.parse_args()
    choices = Choices(compute_dtype=arguments.compute_dtype, quick=True)  # which counts no bytes
    workload = workloads(SUITE)["pretrain-base-512"]
    with tempfile.TemporaryDirectory() as folder:
        build.build([embedded.FASTA], Path(folder, "genome"))
        split = shards.open_split(Path(folder, "genome"), "train")
        steps = {
            str(rate): work.start(with_dropout(workload, rate, arguments.layers), choices, arguments.rows, split).step
            for rate in (0.1, 0.0)
        }
        timed = timing.in_turn(steps, arguments.steps, 1, lambda line: None)
    medians = {rate: each.median_ms for rate, each in timed.items()}
    print(f"BERT {arguments.layers} × 768, {arguments.rows} rows of 512, on {jax.devices()[0].device_kind}")
    for rate, median in medians.items():
        print(f"attention_dropout {rate}: step_time_ms {median:.1f}")
    print(f"0.1 / 0: {medians['0.1'] / medians['0.0']:.2f}")


if __name__ == "__main__":
    main()
