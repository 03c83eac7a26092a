"""Predicting for sequences of mixed lengths: ours against Hugging Face's `pipeline("text-classification")`, on a CPU.

Both read the same folder, random params as `dnabert convert --to huggingface` writes them, with DNABERT's vocabulary,
and the same sequences: stretches of the embedded genome, their lengths drawn evenly from 20 to 510 k-mers. The peer is
handed its k-mers as text that is there already. It runs with the batch sizes given, and the best of them counts; in
each round every contender has one turn, in an order that alternates. First turns compile and warm up, and are told
apart. That both give the same probabilities is checked before anything is measured. Needs the `interop` extra.

    python benchmarks/inference.py
    python benchmarks/inference.py --layers 12 --hidden 768 --sequences 64
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

import dnabert_jax
from dnabert_jax import embedded, kmers
from dnabert_jax.config import EncoderConfig, ModelConfig
from dnabert_jax.data.fasta import IndexedFasta
from dnabert_jax.hub import checkpoint
from dnabert_jax.model.heads import initializer

CLASSES = ("no", "yes")
SHORTEST, LONGEST = 20, 510
"""K-mers."""

TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}
"""Of probabilities."""

Predict = Callable[[], np.ndarray]
"""Probabilities of all sequences, float32[sequences, classes]."""


def mixed(count: int, k: int, seed: int = 0) -> list[str]:
    """Stretches of the embedded genome, in no order."""
    generator = np.random.default_rng(seed)
    found = []
    with IndexedFasta(embedded.FASTA) as genome:
        (record,) = genome.names
        while len(found) < count:
            bases = int(generator.integers(SHORTEST, LONGEST + 1)) + k - 1
            start = int(generator.integers(0, genome.length(record) - bases + 1))
            letters = kmers.decode(genome.fetch(record, start, start + bases))
            if "N" not in letters:
                found.append(letters)
    return found


def ours(folder: Path, dtype: str, sequences: list[str], batch_size: int) -> Predict:
    model = dnabert_jax.load(folder, compute_dtype=dtype, batch_size=batch_size)
    return lambda: model.predict(sequences)


def theirs(folder: Path, dtype: str, sequences: list[str], k: int, batch_size: int) -> Predict:
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    run = transformers.pipeline(
        "text-classification",
        model=transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=getattr(torch, dtype)),
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
        device="cpu",
        batch_size=batch_size,
        top_k=None,
        function_to_apply="softmax",
    )
    text = [" ".join(letters[at : at + k] for at in range(len(letters) - k + 1)) for letters in sequences]

    def predict() -> np.ndarray:
        said = [{each["label"]: each["score"] for each in scores} for scores in run(text)]
        return np.array([[scores[name] for name in CLASSES] for scores in said], np.float32)

    return predict


def require_same(probabilities: dict[str, np.ndarray], tolerance: float) -> float:
    """The largest difference from the first of them.

    Raises:
      SystemExit: it is too large, or as large as what tells the sequences apart.
    """
    (name, first), *others = probabilities.items()
    worst = 0.0
    for other, found in others:
        difference = float(np.abs(found - first).max())
        if not difference <= tolerance:
            raise SystemExit(f"{other}: probabilities differ from those of {name} by {difference:.2g}")
        worst = max(worst, difference)
    if np.ptp(first[:, 0]) <= 3 * worst:
        raise SystemExit(f"{name}: sequences differ too little for their probabilities to tell anything")
    return worst


def in_turn(contenders: dict[str, Predict], rounds: int) -> dict[str, list[float]]:
    """Seconds of every turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        order = list(contenders) if number % 2 == 0 else list(reversed(contenders))
        for name in order:
            start = time.perf_counter()
            contenders[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratios(seconds: dict[str, list[float]], ours: str) -> tuple[str, list[float]]:
    """The fastest other contender by its median, and of each round how many times as long it took as ours."""
    best = min((name for name in seconds if name != ours), key=lambda name: statistics.median(seconds[name]))
    return best, [theirs / mine for mine, theirs in zip(seconds[ours], seconds[best], strict=True)]


def _measure(folder: Path, dtype: str, sequences: list[str], arguments: argparse.Namespace) -> None:
    contenders = {"ours": ours(folder, dtype, sequences, arguments.batch_size)}
    for size in arguments.peer_batch_sizes:
        contenders[f"Hugging Face, batches of {size}"] = theirs(folder, dtype, sequences, arguments.k, size)
    first, probabilities = {}, {}
    for name, predict in contenders.items():
        start = time.perf_counter()
        probabilities[name] = predict()
        first[name] = time.perf_counter() - start
    worst = require_same(probabilities, TOLERANCE[dtype])
    print(f"\n{dtype}: probabilities agree within {worst:.2g}")
    seconds = in_turn(contenders, arguments.rounds)
    for name, each in seconds.items():
        rate = len(sequences) / statistics.median(each)
        print(f"{name:30} sequences_per_second {rate:8.2f}   first_turn_s {first[name]:.1f}")
    best, found = ratios(seconds, "ours")
    print(f"ours / {best}: {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})")


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--k", type=int, default=6)
    parser.add_argument("--sequences", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64, help="of ours")
    parser.add_argument("--peer-batch-sizes", type=int, nargs="+", default=[1, 8, 32])
    wide = "of the random params; wide, so that sequences differ in what is said about them"
    parser.add_argument("--initializer-range", type=float, default=0.1, help=wide)
    parser.add_argument("--compute-dtypes", nargs="+", default=["float32"], choices=list(TOLERANCE))
    arguments = parser.parse_args(given)

    jax.config.update("jax_platforms", "cpu")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    logging.getLogger("dnabert_jax").setLevel(logging.ERROR)
    encoder = EncoderConfig(
        k=arguments.k,
        layers=arguments.layers,
        hidden=arguments.hidden,
        heads=max(arguments.hidden // 64, 1),
        intermediate=4 * arguments.hidden,
        initializer_range=arguments.initializer_range,
    )
    config = ModelConfig(encoder, "single_label", CLASSES)
    sequences = mixed(arguments.sequences, arguments.k)
    lengths = [len(letters) - arguments.k + 1 for letters in sequences]
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "model")
        params = jax.jit(initializer(config))(jax.random.key(0))
        checkpoint.write(folder, config, jax.device_get(nn.unbox(params)))
        print(f"BERT {arguments.layers} × {arguments.hidden}, k = {arguments.k}, on a CPU")
        shown = f"{min(lengths)} to {max(lengths)} k-mers, {statistics.mean(lengths):.0f} in the mean"
        print(f"{len(sequences)} sequences of {shown}")
        for dtype in arguments.compute_dtypes:
            _measure(folder, dtype, sequences, arguments)


if __name__ == "__main__":
    main()
