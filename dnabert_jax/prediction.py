"""What `dnabert predict` does: a file of sequences in; a row for each record, window or base out, in input order."""

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from dnabert_jax import kmers, loaded, results
from dnabert_jax.config import ModelConfig
from dnabert_jax.data.sequences import Sequence
from dnabert_jax.errors import InputError
from dnabert_jax.inference import batches, predictions, records
from dnabert_jax.loaded import Model

Long = Literal["error", "window", "pieces"]

_HALF = 0.5
"""A class of a multi-label model is named where its probability is more than this."""


class Scored(NamedTuple):
    """A stretch of a record, 0-based and half-open, with its bases, uint8[n], and what the model says about it.

    `values` is float32[outputs], or float32[n, classes] per base: probabilities or, for regression, numbers.
    """

    id: str
    start: int
    end: int
    bases: np.ndarray
    values: np.ndarray


def windows(sequence: Sequence, longest: int, stride: int) -> Iterator[tuple[int, int]]:
    """Starts and ends that cover a sequence: at every `stride`, and the last flush with its end."""
    length = len(sequence.bases)
    for start in range(0, max(length - longest, 0), stride):
        yield start, start + longest
    yield max(length - longest, 0), length


def longest(config: ModelConfig) -> int:
    """Bases in the longest sequence that a model reads without being told how: in as many pieces as in training."""
    return batches.longest(config.encoder, config.pieces)


def score(
    model: Model, sequences: Iterable[Sequence], *, source: str | Path = "", long: Long = "error", stride: int = 0
) -> Iterator[Scored]:
    """Scores records in order, holding a window or two of them at a time (`inference.batches`).

    Args:
      model: with a fine-tuned head.
      sequences: as `sequences.read` yields them.
      source: file name for error messages.
      long: what to do with a record longer than `longest`: an error; windows that slide over it; or DNABERT-XL's way,
        pieces whose outputs are averaged.
      stride: bases from one window to the next, at most a whole window; 0 takes half of one.

    Yields:
      One Scored a record, or a window.

    Raises:
      InputError: a record that is too long where `long` is "error", or where the pieces have places side by side.
    """
    config = model.config
    if long == "error":
        hint = "the longest that the model reads, or `--long pieces` to average over pieces"
        if config.head != "per_base":
            hint += ", or `--long window` to slide over it"
        sequences = records.no_longer(sequences, longest(config), source, hint)
    elif long == "pieces" and config.join == "concatenate":
        hint = "the pieces that the classifier reads side by side; `--long window` slides over longer ones"
        sequences = records.no_longer(sequences, longest(config), source, hint)
    step = stride or max(longest(config) // 2, 1)
    stretches = _stretches(sequences, longest(config), step) if long == "window" else _whole(sequences)
    found = predictions.predict(
        config, model.params, ((each, each[-1]) for each in stretches), batch_size=model.batch_size
    )
    for stretch, values in found:
        yield Scored(*stretch, values)


def _whole(sequences: Iterable[Sequence]) -> Iterator[tuple[str, int, int, np.ndarray]]:
    for sequence in sequences:
        yield sequence.id, 0, len(sequence.bases), sequence.bases


def _stretches(sequences: Iterable[Sequence], longest: int, stride: int) -> Iterator[tuple[str, int, int, np.ndarray]]:
    for sequence in sequences:
        for start, end in windows(sequence, longest, stride):
            yield sequence.id, start, end, sequence.bases[start:end]


def predict(
    model: str | Path,
    input: str | Path,
    output: str | Path,
    *,
    fasta: str | Path = "",
    long: Long = "error",
    stride: int = 0,
    batch_size: int = 64,
    say: Callable[[str], None],
) -> int:
    """Scores a file and writes a tab-separated table with a header.

    The columns are `id`; for windows `start` and `end`, 0-based and half-open; and then, by the model's head:

    - single_label: `class`, the likeliest, and the probability of each class under its name;
    - multi_label: `classes`, those with a probability above 0.5, parted by `;`, and each probability;
    - regression: each number under its name;
    - per_base: `position`, 0-based, `base`, `class`, and each probability, so one row for each base.

    The output appears under its name when it is complete, in the place of an earlier file.

    Args:
      model: workdir of a fine-tuning run, converted or Hugging Face model, or hub id.
      input: FASTA, TSV or CSV with a column `sequence`, or BED with `fasta`.
      output: file to write; not one that is read.
      fasta: FASTA that a BED points into.
      long, stride: as for `score`.
      batch_size: as for `loaded.load`.
      say: hears notes.

    Returns:
      The number of rows.

    Raises:
      InputError: what `loaded.load`, `sequences.read` and `score` raise, a model that was not fine-tuned, windows where
        every base has one row, or an output that cannot be written.
      RunStopped: the disk is full.
    """
    output = Path(output)
    results.check_place(output, inputs=(input, fasta), model=model)
    classifier = loaded.load(model, batch_size=batch_size, say=say)
    config = classifier.config
    loaded.require_fine_tuned(config, str(model))
    if long == "window" and config.head == "per_base":
        raise InputError("--long window gives a base several rows; expected `--long pieces` for a classifier of bases")
    if not 0 <= stride <= longest(config):
        raise InputError(f"stride is {stride}; expected 0 (half a window) to {longest(config)}, a whole window")
    sequences = records.read(input, fasta=fasta, k=config.encoder.k, say=say)
    rows = 0
    with results.text(output) as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        place = ["start", "end"] if long == "window" else []
        table.writerow(["id", *place, *_LEADING[config.head], *config.classes])
        for scored in score(classifier, sequences, source=input, long=long, stride=stride):
            where = [scored.start, scored.end] if place else []
            for row in _rows(config, scored):
                table.writerow([scored.id, *where, *row])
                rows += 1
    return rows


_LEADING = {
    "single_label": ["class"],
    "multi_label": ["classes"],
    "regression": [],
    "per_base": ["position", "base", "class"],
}


def _rows(config: ModelConfig, scored: Scored) -> Iterator[list[Any]]:
    """What stands behind the id and the place of a window."""
    names, values = config.classes, scored.values
    if config.head == "per_base":
        for position, (letter, of_base) in enumerate(zip(kmers.decode(scored.bases), values, strict=True)):
            yield [position, letter, names[int(of_base.argmax())], *_written(of_base)]
    elif config.head == "multi_label":
        yield [";".join(name for name, value in zip(names, values) if value > _HALF), *_written(values)]
    elif config.head == "regression":
        yield [f"{value:.6g}" for value in values]
    else:
        yield [names[int(values.argmax())], *_written(values)]


def _written(probabilities: np.ndarray) -> list[str]:
    return [f"{probability:.6f}" for probability in probabilities]
