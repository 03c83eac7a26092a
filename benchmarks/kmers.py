"""Tokenising k-mers: `dnabert_jax.kmers.tokenize` against DNABERT's way, on one core.

DNABERT's way is a slice of a string for each window, all of them joined to a text, the text split again, and each word
looked up in a dictionary. Both start from bases in memory, and both must give the same ids.

    python benchmarks/kmers.py
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from dnabert_jax import embedded, kmers
from dnabert_jax.data import fasta


def dnabert_ids(letters: str, k: int, vocabulary: dict[str, int]) -> list[int]:
    text = " ".join([letters[at : at + k] for at in range(len(letters) + 1 - k)])
    return [vocabulary.get(word, kmers.UNK) for word in text.split()]


def best_seconds(run: Callable[[], object], repeats: int) -> float:
    """Of several runs the fastest, which is the one that other programs disturbed least."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--k", type=int, nargs="+", default=[3, 6, 9, 12])
    parser.add_argument("--segment", type=int, default=515, help="bases per segment")
    parser.add_argument(
        "--batch", type=int, default=256, help="segments that are tokenised at once, as rows of an array"
    )
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    (record,) = fasta.records(embedded.FASTA)
    count = record.bases.size // (arguments.batch * arguments.segment)
    batches = record.bases[: count * arguments.batch * arguments.segment].reshape(count, arguments.batch, -1)
    print("  k   ours, million bases/s: one record   in segments   DNABERT's way   ratio on segments")
    for k in arguments.k:
        whole, ours, peer = (rate / 1e6 for rate in measure(record.bases, batches, k, arguments.repeats))
        print(f"{k:3d}   {whole:34.1f} {ours:13.1f} {peer:15.2f} {ours / peer:15.0f}x")


def measure(record: np.ndarray, batches: np.ndarray, k: int, repeats: int) -> tuple[float, float, float]:
    """Bases per second of ours on a whole record, of ours on batches of segments, and of DNABERT's way on segments."""
    segments = batches.reshape(-1, batches.shape[-1])[:1000]
    letters = [kmers.decode(segment) for segment in segments]
    vocabulary = _vocabulary(segments, k)
    for segment, text in zip(segments[:50], letters, strict=False):
        assert kmers.tokenize(segment, k).tolist() == dnabert_ids(text, k, vocabulary)
    whole = best_seconds(lambda: kmers.tokenize(record, k), repeats)
    ours = best_seconds(lambda: [kmers.tokenize(batch, k) for batch in batches], repeats)
    peer = best_seconds(lambda: [dnabert_ids(text, k, vocabulary) for text in letters], repeats)
    return record.size / whole, batches.size / ours, segments.size / peer


def _vocabulary(segments: np.ndarray, k: int) -> dict[str, int]:
    """Only the k-mers that occur: to build the dictionary for k = 12 is no part of what is measured."""
    ids = np.unique(kmers.tokenize(segments, k))
    ids = ids[ids >= kmers.FIRST_KMER]
    shifts = 2 * np.arange(k - 1, -1, -1)
    bases = (((ids - kmers.FIRST_KMER)[:, None] >> shifts) & 3).astype(np.uint8)
    return {kmers.decode(row): int(index) for row, index in zip(bases, ids, strict=True)}


if __name__ == "__main__":
    main()
