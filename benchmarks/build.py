"""Building shards from FASTA: `dnabert_jax.data.build` against TFDS with its defaults, on one file in one run.

The peer is the dataset that the TFDS guide leads to: a `GeneratorBasedBuilder` that reads records with pysam and yields
chunks with a uint8 `Tensor` feature in its default encoding, written as ArrayRecord. Both decompress, encode and write
every base; ours also counts N and hashes the sources and the bases. Then both are read back, every chunk once. The two
take turns, and the fastest time of each counts.

    python benchmarks/build.py --fasta ../shared/data/human_chr20_grch37.fa.gz
"""

import argparse
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import tensorflow_datasets as tfds

from dnabert_jax import embedded, kmers
from dnabert_jax.data import build, shards

CHUNK = 65_536
CHROMOSOME_20 = Path(__file__).parents[2] / "shared" / "data" / "human_chr20_grch37.fa.gz"


class DefaultGenome(tfds.core.GeneratorBasedBuilder):
    """Chunks of bases as TFDS stores them when nothing is said about the encoding."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = os.path.dirname(__file__)
    fasta = ""

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "bases": tfds.features.Tensor(shape=(None,), dtype=np.uint8),
            "record": tfds.features.Text(),
            "start": tfds.features.Scalar(dtype=np.int64),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        with pysam.FastxFile(self.fasta) as file:
            for record in file:
                bases = kmers.encode(record.sequence)
                for start in range(0, bases.size, CHUNK):
                    example = {"bases": bases[start : start + CHUNK], "record": record.name, "start": start}
                    yield f"{record.name}:{start}", example


def _peer(folder: Path) -> DefaultGenome:
    return DefaultGenome(data_dir=folder, file_format="array_record")


def _rates(bases: int, repeats: int, *programs: Callable[[], int]) -> list[float]:
    """Bases a second of each program in its fastest run; all must give `bases`."""
    fastest = [float("inf")] * len(programs)
    for _ in range(repeats):
        for index, program in enumerate(programs):
            start = time.perf_counter()
            done = program()
            fastest[index] = min(fastest[index], time.perf_counter() - start)
            assert done == bases
    return [bases / seconds for seconds in fastest]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = CHROMOSOME_20 if CHROMOSOME_20.is_file() else embedded.FASTA
    parser.add_argument("--fasta", type=Path, default=default)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    DefaultGenome.fasta = str(arguments.fasta)
    tfds.disable_progress_bar()

    with tempfile.TemporaryDirectory() as folder:
        out, peer_out = Path(folder, "ours"), Path(folder, "peer")

        def build_ours() -> int:
            return build.build([arguments.fasta], out, chunk=CHUNK, overwrite=True).bases

        def build_peer() -> int:
            shutil.rmtree(peer_out, ignore_errors=True)
            with contextlib.redirect_stdout(None):
                _peer(peer_out).download_and_prepare()
            return bases

        def read_ours() -> int:
            return sum(chunk.size for _, _, chunk in shards.open_split(out, "train").scan())

        def read_peer() -> int:
            return sum(example["bases"].size for example in _peer(peer_out).as_data_source("train"))

        bases = build_ours()
        ours, peer = _rates(bases, arguments.repeats, build_ours, build_peer)
        ours_read, peer_read = _rates(bases, arguments.repeats, read_ours, read_peer)
        size, peer_size = (
            sum(path.stat().st_size for path in each.rglob("*array_record*")) for each in (out, peer_out)
        )

    print(f"{arguments.fasta.name}: {bases:,} bases on {os.cpu_count()} cores")
    print(f"{'':22}{'dnabert build':>16}{'TFDS defaults':>16}{'ratio':>8}")
    for name, a, b in (("build, million bases/s", ours, peer), ("read, million bases/s", ours_read, peer_read)):
        print(f"{name:22}{a / 1e6:16.1f}{b / 1e6:16.1f}{a / b:7.1f}x")
    print(f"{'size, MB':22}{size / 1e6:16.1f}{peer_size / 1e6:16.1f}{size / peer_size:7.2f}x")


if __name__ == "__main__":
    main()
