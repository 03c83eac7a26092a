"""The pretraining input: batches from shards on disk, against DNABERT's way, in useful tokens per second.

Ours is what a run reads: chunks of bases from shards, cut or sampled, tokenised, packed into shuffled rows, read ahead
by Grain's threads. DNABERT's way is a Python loop over the same segments: the window of each k-mer sliced out of a
string, joined to a text, split again, every word looked up in a dictionary, the row padded to full length. Its letters
lie in memory already, and nothing is shuffled. A useful token is one that is not padding.

    python benchmarks/input_pipeline.py --fasta ../shared/data/human_chr20_grch37.fa.gz
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dnabert_jax import embedded, kmers
from dnabert_jax.config import DataConfig, EncoderConfig, PretrainConfig
from dnabert_jax.data import build, loader, shards
from dnabert_jax.data.segments import Sampler

CHROMOSOME_20 = Path(__file__).parents[2] / "shared" / "data" / "human_chr20_grch37.fa.gz"


def dnabert_batches(split: shards.Split, config: PretrainConfig) -> Iterator[np.ndarray]:
    """Rows of one padded segment each, int32[batch_size, row_length], of the segments of epoch 0."""
    k, length = config.encoder.k, config.row_length
    segments = Sampler(split, config.data, k, config.encoder.max_kmers, config.seed).epoch(0)
    letters = [kmers.decode(split.read(index, 0, contig.length)) for index, contig in enumerate(split.contigs)]
    vocabulary = {word: index for index, word in enumerate(kmers.vocabulary(k))}
    rows = []
    for contig, start, count in zip(segments.contig.tolist(), segments.start.tolist(), segments.kmers.tolist()):
        text = " ".join([letters[contig][at : at + k] for at in range(start, start + count)])
        row = [kmers.CLS, *(vocabulary.get(word, kmers.UNK) for word in text.split()), kmers.SEP]
        rows.append(row + [kmers.PAD] * (length - len(row)))
        if len(rows) == config.batch_size:
            yield np.array(rows, np.int32)
            rows = []


def speed(batches: Iterator[np.ndarray], seconds: float) -> tuple[float, float]:
    """Useful tokens per second for about that long, and the useful share of the rows."""
    useful = total = 0
    start = time.perf_counter()
    for tokens in batches:
        useful += np.count_nonzero(tokens)
        total += tokens.size
        if time.perf_counter() - start > seconds:
            break
    return useful / (time.perf_counter() - start), useful / total


def measure(folder: Path, config: PretrainConfig, seconds: float) -> None:
    """Prints one line."""
    start = time.perf_counter()
    split = shards.open_split(folder, "train")  # anew, so that no chunk is in memory
    pipeline = loader.Pretraining(split, config)
    batches = pipeline.batches()
    next(batches)
    first_batch = time.perf_counter() - start
    ours, ours_share = speed((batch["tokens"] for batch in batches), seconds)
    batches.close()

    peer_batches = dnabert_batches(split, config)
    assert_same_tokens(next(peer_batches), split, config)
    peer, peer_share = speed(peer_batches, seconds)
    print(
        f"{config.encoder.k:3d} {config.data.method:>8} {first_batch:15.2f} {ours / 1e6:9.2f} {ours_share:8.1%} "
        f"{peer / 1e6:11.3f} {peer_share:8.1%} {ours / peer:7.1f}x"
    )


def assert_same_tokens(rows: np.ndarray, split: shards.Split, config: PretrainConfig) -> None:
    """Both ways make the same tokens of a segment."""
    k = config.encoder.k
    segments = Sampler(split, config.data, k, config.encoder.max_kmers, config.seed).epoch(0)
    for row, contig, start, count in zip(rows, segments.contig, segments.start, segments.kmers, strict=False):
        bases = split.read(contig, start, count + k - 1)
        single = loader.sequence_batch([bases], k=k, length=config.row_length)
        np.testing.assert_array_equal(single["tokens"][0], row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = CHROMOSOME_20 if CHROMOSOME_20.is_file() else embedded.FASTA
    parser.add_argument("--fasta", type=Path, default=default)
    parser.add_argument("--k", type=int, nargs="+", default=[3, 6])
    parser.add_argument("--method", nargs="+", choices=["cut", "sample"], default=["cut", "sample"])
    parser.add_argument("--batch", type=int, default=64, help="rows")
    parser.add_argument("--seconds", type=float, default=5.0, help="that each side is measured for")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        summary = build.build([arguments.fasta], Path(folder, "shards"), validation=(), say=lambda line: None)
        print(f"{arguments.fasta.name}: {summary.bases:,} bases on {os.cpu_count()} cores; rows of 512 tokens")
        print("                                     ours           DNABERT's way")
        print("  k   method  first batch, s    Mtok/s   useful      Mtok/s   useful    ratio")
        for k in arguments.k:
            for method in arguments.method:
                config = PretrainConfig(
                    batch_size=arguments.batch,
                    encoder=EncoderConfig(k=k),
                    data=DataConfig(path=str(summary.out), method=method),
                )
                measure(summary.out, config, arguments.seconds)


if __name__ == "__main__":
    main()
