"""What a genome of 3.1 gigabases takes: chromosome 20 many times under other names, built and read like any other.

Each part runs in a process of its own, so that its peak memory is its own. `--copies 50` is 3.15 gigabases, which take
1 GB as FASTA and 0.9 GB as shards in the folder for temporary files. CPU seconds count all threads.

    python benchmarks/whole_genome.py --fasta ../shared/data/human_chr20_grch37.fa.gz --copies 50
"""

import argparse
import gzip
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dnabert_jax import embedded
from dnabert_jax.config import DataConfig, EncoderConfig, PretrainConfig
from dnabert_jax.data import build, fasta, loader, shards
from dnabert_jax.data.rows import Rows

CHROMOSOME_20 = Path(__file__).parents[2] / "shared" / "data" / "human_chr20_grch37.fa.gz"


def write_genome(source: Path, copies: int, out: Path) -> dict[str, float]:
    """One gzip FASTA of many records, of which the bases are compressed once."""
    with gzip.open(source, "rb") as file:
        file.readline()
        bases = gzip.compress(file.read(), 6)
    with open(out, "wb") as file:
        for number in range(copies):
            file.write(gzip.compress(b">copy%d\n" % number) + bases)
    return {}


def parse(path: Path) -> dict[str, float]:
    """Reading the FASTA alone."""
    return {"bases": float(sum(record.bases.size for record in fasta.records(path)))}


def make(path: Path, out: Path) -> dict[str, float]:
    summary = build.build([path], out)
    return {"bases": float(summary.bases), "shard_bytes_per_base": summary.bytes / summary.bases}


def read_back(out: Path) -> dict[str, float]:
    """Every chunk once, in order."""
    return {"bases": float(sum(chunk.size for _, _, chunk in shards.open_split(out, "train").scan()))}


def train_input(out: Path, seconds: float) -> dict[str, float]:
    """A run's input: the plan of the first epoch and the first batch, then rows for some seconds."""
    config = PretrainConfig(batch_size=64, encoder=EncoderConfig(k=6), data=DataConfig(path=str(out)))
    start = time.perf_counter()
    pipeline = loader.Pretraining(shards.open_split(out, "train"), config)
    batches = pipeline.batches()
    next(batches)
    first, planned = time.perf_counter() - start, _peak_gib()
    tokens, begun = 0, time.perf_counter()
    for batch in batches:
        tokens += int((batch["tokens"] != 0).sum())
        if time.perf_counter() - begun > seconds:
            break
    rate = tokens / (time.perf_counter() - begun)
    batches.close()
    return {
        "rows_per_epoch": float(pipeline.identity["rows_per_epoch"]),
        "first_batch_s": first,
        "memory_at_first_batch_gib": planned,
        "useful_tokens_per_s": rate,
    }


class _Unread:
    """A split without N that has lengths but no bases, of which the plan of an epoch needs none."""

    fingerprint = ""

    def __init__(self, bases: int) -> None:
        self.contigs = tuple(shards.Contig(str(at), 0, bases // 24) for at in range(24))

    def read(self, contig: int, start: int, length: int) -> np.ndarray:
        return np.zeros(length, np.uint8)

    def scan(self) -> Iterator[tuple[int, int, np.ndarray]]:
        chunk = np.zeros(1 << 16, np.uint8)
        for index, contig in enumerate(self.contigs):
            for at in range(0, contig.length, chunk.size):
                yield index, at, chunk[: contig.length - at]


def plan_epoch(bases: int) -> dict[str, float]:
    """Which segment goes where in two epochs, as a run keeps them, for so many bases in 24 chromosomes."""
    config = PretrainConfig()
    encoder = config.encoder
    rows = Rows(
        _Unread(bases),
        config.data,
        k=encoder.k,
        max_kmers=encoder.max_kmers,
        row_length=config.row_length,
        seed=0,
    )
    for epoch in (0, 1):
        rows.take(np.array([epoch * rows.per_epoch]))
    return {"rows_per_epoch": float(rows.per_epoch)}


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _measured(function: Callable[..., dict[str, float]], arguments: tuple[Any, ...]) -> dict[str, float]:
    begun, cpu, imported = time.perf_counter(), time.process_time(), _peak_gib()
    figures = function(*arguments)
    seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
    if "bases" in figures:
        figures["megabases_per_s"] = figures["bases"] / seconds / 1e6
    return {**figures, "time_s": seconds, "cpu_s": cpu_s, "peak_memory_gib": _peak_gib(), "imports_gib": imported}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = CHROMOSOME_20 if CHROMOSOME_20.is_file() else embedded.FASTA
    parser.add_argument("--fasta", type=Path, default=default)
    parser.add_argument("--copies", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0, help="that rows are read for")
    parser.add_argument("--plan-bases", type=int, default=2_940_000_000, help="known bases of a human genome")
    arguments = parser.parse_args()
    print(f"{arguments.copies} times {arguments.fasta.name} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, "genome.fa.gz"), Path(folder, "shards")
        parts = [
            (plan_epoch, (arguments.plan_bases,)),
            (write_genome, (arguments.fasta, arguments.copies, path)),
            (parse, (path,)),
            (make, (path, out)),
            (read_back, (out,)),
            (train_input, (out, arguments.seconds)),
        ]
        for function, values in parts:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                figures = pool.apply(_measured, (function, values))
            print(f"{function.__name__}:", ", ".join(f"{name} {value:,.3f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
