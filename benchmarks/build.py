"""Building shards from FASTA: `dnabert_jax.data.build` against TFDS with its defaults, on one file in one run.

The peer is the dataset that the TFDS guide leads to: a `GeneratorBasedBuilder` that reads records with pysam and yields
chunks with a uint8 `Tensor` feature in its default encoding, written as ArrayRecord. Both decompress, encode and write
every base; ours also counts N and hashes the sources and the bases. Then both are read back, every chunk once.

    python benchmarks/build.py --fasta ../shared/data/human_chr20_grch37.fa.gz
"""

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = CHROMOSOME_20 if CHROMOSOME_20.is_file() else embedded.FASTA
    parser.add_argument("--fasta", type=Path, default=default)
    parser.add_argument("--repeats", type=int, default=3, help="of ours, the fastest counts; the peer runs once")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        seconds = []
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            summary = build.build([arguments.fasta], Path(folder, "ours"), chunk=CHUNK, overwrite=True)
            seconds.append(time.perf_counter() - start)
        ours = summary.bases / min(seconds)

        DefaultGenome.fasta = str(arguments.fasta)
        tfds.disable_progress_bar()
        start = time.perf_counter()
        with contextlib.redirect_stdout(None):
            builder = DefaultGenome(data_dir=Path(folder, "peer"), file_format="array_record")
            builder.download_and_prepare()
        peer = summary.bases / (time.perf_counter() - start)

        start = time.perf_counter()
        scanned = sum(bases.size for _, _, bases in shards.open_split(Path(folder, "ours"), "train").scan())
        ours_read = scanned / (time.perf_counter() - start)
        start = time.perf_counter()
        peer_scanned = sum(example["bases"].size for example in builder.as_data_source("train"))
        peer_read = peer_scanned / (time.perf_counter() - start)
        assert scanned == peer_scanned == summary.bases
        peer_bytes = sum(path.stat().st_size for path in Path(folder, "peer").rglob("*array_record*"))

    print(f"{arguments.fasta.name}: {summary.bases:,} bases on {os.cpu_count()} cores")
    print(f"{'':22}{'dnabert build':>16}{'TFDS defaults':>16}{'ratio':>8}")
    for name, a, b in (("build, million bases/s", ours, peer), ("read, million bases/s", ours_read, peer_read)):
        print(f"{name:22}{a / 1e6:16.1f}{b / 1e6:16.1f}{a / b:7.1f}x")
    print(f"{'size, MB':22}{summary.bytes / 1e6:16.1f}{peer_bytes / 1e6:16.1f}{summary.bytes / peer_bytes:7.2f}x")


if __name__ == "__main__":
    main()
