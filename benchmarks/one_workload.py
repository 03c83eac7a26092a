"""One workload of `dnabert bench` in this process and nothing else: no rates of the machine, no check of every kernel.

That is a minute on an accelerator that a variant need not spend again. The attention kernel that is chosen is checked
all the same, where the step is made. The genome is built once into `--shards`.

    python benchmarks/one_workload.py --workload pretrain-base-512 --shards shards --output here.json --remat full
"""

import argparse
import json
import sys
from pathlib import Path

from dnabert_jax import embedded, outputs
from dnabert_jax.bench import result, suite
from dnabert_jax.bench.choices import Choices
from dnabert_jax.data import build
from dnabert_jax.errors import InputError


def measure(name: str, choices: Choices, shards: Path) -> dict:
    """The workload's item of a result, without what is held against the machine's rates.

    Raises:
      InputError: the chosen kernel does not run here, or does not keep packed segments apart.
    """
    if not shards.exists():
        build.build([embedded.FASTA], shards)
    plan = suite.Plan(choices, str(shards), breakdown=False)
    measured = suite.measure(suite.Job(name), plan, lambda text: print(text, flush=True))
    return result.entry(measured, result.Rates())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", required=True)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--no-scan-layers", action="store_true")
    parser.add_argument("--remat", default="none")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    choices = Choices(
        batch_size=arguments.batch_size,
        attention=arguments.attention,
        scan_layers=not arguments.no_scan_layers,
        remat=arguments.remat,
        synthetic=arguments.synthetic,
        steps=arguments.steps,
        quick=arguments.quick,
    )
    try:
        found = measure(arguments.workload, choices, arguments.shards)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with outputs.file(arguments.output) as temporary:
        temporary.write_text(json.dumps({"workloads": [found]}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
