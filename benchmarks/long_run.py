"""Whether a long run stays as it began: step times, memory and what saving costs, over thousands of small steps.

It is `train.py` itself on the embedded genome, with a clock read and the process's memory looked at before every step.
A step's time is all that passes until the next one, so reports and saves are in it. The host runs up to two steps ahead
of the devices and waits for them where it reports or saves, so such a step shows the wait as well. Medians and shares
are what a shared machine leaves comparable.

    python benchmarks/long_run.py --steps 2000 --save-every 50
"""

import argparse
import dataclasses
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from dnabert_jax import embedded, huge_pages
from dnabert_jax.config import DataConfig, EncoderConfig, LoopConfig, OptimizerConfig, PretrainConfig

QUARTERS = 4
_MIB = 2**20


@dataclass(frozen=True)
class Watched:
    """What was seen of a run.

    Attributes:
      step_time_ms: float[steps - 2], of each step but the first, which compiles, and the last, which validates.
      memory_mib: float[steps - 2], what the process has in memory (RSS) when that step begins.
      save_every: in steps.
    """

    step_time_ms: np.ndarray
    memory_mib: np.ndarray
    save_every: int

    def quarters(self) -> "list[Watched]":
        """The same of each quarter of the steps, in order."""
        parts = zip(np.array_split(self.step_time_ms, QUARTERS), np.array_split(self.memory_mib, QUARTERS), strict=True)
        return [Watched(times, memory, self.save_every) for times, memory in parts]

    def by_place(self) -> np.ndarray:
        """float[save_every], median of the steps that save, of those after them, and so on until the next ones."""
        numbers = np.arange(len(self.step_time_ms)) + 2
        places = range(self.save_every)
        return np.array([np.median(self.step_time_ms[numbers % self.save_every == place]) for place in places])

    @property
    def median_ms(self) -> float:
        return float(np.median(self.step_time_ms))

    @property
    def slow_share(self) -> float:
        """Share of the steps that took more than twice the median."""
        return float(np.mean(self.step_time_ms > 2 * self.median_ms))


def config(shards: Path, workdir: Path, *, steps: int, save_every: int, hidden: int = 128) -> PretrainConfig:
    """A run of DNABERT-6 with two narrow layers, 8 rows of 128 tokens a step, validated at its ends only."""
    return PretrainConfig(
        workdir=str(workdir),
        batch_size=8,
        row_length=128,
        encoder=EncoderConfig(
            layers=2,
            hidden=hidden,
            heads=hidden // 64,
            intermediate=4 * hidden,
            max_length=128,
            compute_dtype="float32",
        ),
        data=DataConfig(path=str(shards)),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=steps // 10, decay_steps=steps),
        loop=LoopConfig(
            steps=steps, report_every=save_every, validate_every=0, validation_rows=32, save_every=save_every
        ),
    )


def watch(run: PretrainConfig) -> Watched:
    """Pretrains, and returns what was seen of each step."""
    from dnabert_jax.training import loop, pretrain

    process = psutil.Process()
    times: list[float] = []
    memory: list[float] = []
    original = loop.run

    def watched(program: loop.Program, *arguments: Any, **others: Any):
        def step(state: Any, batch: Any):
            memory.append(process.memory_info().rss / _MIB)
            times.append(time.perf_counter())
            return program.step(state, batch)

        return original(dataclasses.replace(program, step=step), *arguments, **others)

    loop.run = watched
    try:
        pretrain.run(run, print)
    finally:
        loop.run = original
    return Watched(1000 * np.diff(times)[1:], np.array(memory[1:-1]), run.loop.save_every)


def table(found: Watched) -> str:
    """A row for each quarter of the run, and one for all of it."""
    lines = [
        ["steps", "median step_time_ms", "95th percentile", "over twice the median", "memory_mib at its end"],
        ["---", *["---:"] * 4],
    ]
    for name, each in [*((f"quarter {n}", each) for n, each in enumerate(found.quarters(), 1)), ("all", found)]:
        lines.append(
            [
                name,
                f"{each.median_ms:.2f}",
                f"{np.percentile(each.step_time_ms, 95):.2f}",
                f"{100 * each.slow_share:.1f} %",
                f"{each.memory_mib[-1]:.0f}",
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--save-every", type=int, default=50)
    parser.add_argument("--hidden", type=int, default=128, help="width of the model, a multiple of 64")
    parser.add_argument("--dump", type=Path, help="file for every step's time and memory, as npz")
    arguments = parser.parse_args()
    huge_pages.ask()
    import jax

    from dnabert_jax.data import build
    from dnabert_jax.training import workdir

    with tempfile.TemporaryDirectory() as folder:
        build.build([embedded.FASTA], Path(folder, "genome"), validation=["20:3774874-4194304"])
        run = config(
            Path(folder, "genome"),
            Path(folder, "run"),
            steps=arguments.steps,
            save_every=arguments.save_every,
            hidden=arguments.hidden,
        )
        found = watch(run)
        newest = max((Path(folder, "run") / workdir.CHECKPOINTS).iterdir(), key=lambda each: each.stat().st_mtime)
        checkpoint_mib = sum(file.stat().st_size for file in newest.rglob("*") if file.is_file()) / _MIB
    places = found.by_place()
    print(f"\n{date.today()}, {jax.device_count()} × {jax.devices()[0].device_kind}, {arguments.steps} steps\n")
    print(table(found))
    print(
        f"a checkpoint_mib of {checkpoint_mib:.1f} every {arguments.save_every} steps: median step_time_ms "
        f"{places[0]:.2f} of the steps that save, then {', '.join(f'{each:.2f}' for each in places[1:6])}; "
        f"{np.sum(places > 2 * found.median_ms)} of {len(places)} places are over twice the median of all steps"
    )
    if arguments.dump:
        np.savez(arguments.dump, step_time_ms=found.step_time_ms, memory_mib=found.memory_mib)


if __name__ == "__main__":
    main()
