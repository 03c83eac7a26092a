"""Scoring sequences with a fine-tuned model: batches in, one row out per record (or per window), in input order."""

import contextlib
import csv
import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

import jax
import numpy as np

from dnabert_jax import outputs
from dnabert_jax.config import FinetuneConfig, MeshConfig
from dnabert_jax.data import loader, sequences
from dnabert_jax.data.sequences import Sequence
from dnabert_jax.errors import InputError, RunStopped
from dnabert_jax.model.heads import predictor
from dnabert_jax.sharding import make_mesh, use
from dnabert_jax.training import finetune, state, workdir
from dnabert_jax.training.checkpoints import restore_params

Say = Callable[[str], None]

_BUCKET = 64
"""Rows are padded to a multiple of this many tokens, so that few programs are compiled for many lengths."""


@dataclass(frozen=True)
class Classifier:
    """A fine-tuned model.

    Attributes:
      config: of the fine-tuning run, except that no fused attention kernel is demanded.
      classes: names, in the order of the probabilities.
      params: float32 pytree.
      probabilities: jitted (params, batch) → float32[batch, classes].
    """

    config: FinetuneConfig
    classes: tuple[str, ...]
    params: state.Params
    probabilities: Callable[[state.Params, Any], jax.Array]

    @property
    def longest(self) -> int:
        """Bases in the longest sequence that it reads."""
        return self.config.model.max_kmers + self.config.model.k - 1


class Scored(NamedTuple):
    """A stretch of a record, 0-based and half-open, and the probability of each class, float32[classes]."""

    id: str
    start: int
    end: int
    probabilities: np.ndarray


def load(model: str | Path, say: Say) -> Classifier:
    """The best epoch of a fine-tuning run.

    Args:
      model: its workdir.
      say: hears of damaged checkpoints that were passed over.

    Raises:
      InputError: not the workdir of a fine-tuning run, or one without a checkpoint.
    """
    config = workdir.read_config(model, FinetuneConfig)
    if config.encoder.attention != "xla":  # the device that scores need not be one that runs the kernel of the training
        config = dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, attention="auto"))
    file = Path(model) / finetune.CLASSES
    classes = _classes(file)
    if not classes:
        raise InputError(f"{file}: missing or damaged; expected the class names that fine-tuning wrote")
    with use(make_mesh(MeshConfig(), jax.devices()[:1])) as mesh:
        like = state.parameter_layout(finetune.initializer(config, classes), jax.random.key(0), mesh)
        params, _ = restore_params(Path(model) / finetune.BEST, like, say)
    return Classifier(config, classes, params, predictor(config.fine_tuned(classes)))


def _classes(file: Path) -> tuple[str, ...]:
    """The class names in a file; none where it is not as fine-tuning wrote it."""
    try:
        names = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    whole = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if whole else ()


def windows(sequence: Sequence, longest: int, stride: int) -> Iterator[tuple[int, int]]:
    """Starts and ends that cover a sequence: at every `stride`, and the last flush with its end."""
    length = len(sequence.bases)
    for start in range(0, max(length - longest, 0), stride):
        yield start, start + longest
    yield max(length - longest, 0), length


def score(
    classifier: Classifier,
    records: Iterable[Sequence],
    *,
    source: str = "",
    long: Literal["error", "window"] = "error",
    stride: int = 0,
    batch_size: int = 64,
) -> Iterator[Scored]:
    """Scores records in order, holding one batch of them at a time.

    Args:
      classifier: from `load`.
      records: as `sequences.read` yields them.
      source: file name for error messages.
      long: what to do with a record longer than the model reads: an error, or windows that slide over it.
      stride: bases from one window to the next, at most a whole window; 0 takes half of one.
      batch_size: stretches scored at once.

    Yields:
      One Scored a record, or a window.

    Raises:
      InputError: a record that is too long where `long` is "error".
    """
    step = stride or max(classifier.longest // 2, 1)
    stretches = _stretches(classifier, records, source, long, step)
    while batch := list(itertools.islice(stretches, batch_size)):
        k = classifier.config.model.k
        longest = max(len(bases) for *_, bases in batch) - k + 3
        length = min(_BUCKET * math.ceil(longest / _BUCKET), classifier.config.model.max_length)
        filler = [batch[-1][-1]] * (batch_size - len(batch))  # keeps the shape, so that nothing is compiled anew
        rows = loader.sequence_batch([*(bases for *_, bases in batch), *filler], k=k, length=length)
        scores = np.asarray(classifier.probabilities(classifier.params, rows))
        for (name, start, end, _), row in zip(batch, scores):
            yield Scored(name, start, end, row)


def _stretches(classifier, records, source, long, stride) -> Iterator[tuple[str, int, int, np.ndarray]]:
    longest = classifier.longest
    for record in records:
        if len(record.bases) > longest and long == "error":
            raise InputError(
                f"{source}: record {record.id!r} has {len(record.bases)} bases; expected at most {longest}, the "
                "longest that the model reads, or `--long window` to slide over it"
            )
        for start, end in windows(record, longest, stride):
            yield record.id, start, end, record.bases[start:end]


def predict(
    model: str | Path,
    input: str | Path,
    output: str | Path,
    *,
    fasta: str | Path = "",
    long: Literal["error", "window"] = "error",
    stride: int = 0,
    batch_size: int = 64,
    say: Say,
) -> int:
    """Scores a file and writes tab-separated rows: `id`, `class`, and a column of probabilities for each class.

    Windows have `start` and `end` behind their `id`. The output appears under its name when it is complete, in the
    place of an earlier file.

    Args:
      model: workdir of a fine-tuning run.
      input: FASTA, TSV or CSV with a column `sequence`, or BED with `fasta`.
      output: file to write; not one that is read.
      fasta: FASTA that a BED points into.
      long, stride, batch_size: as for `score`.
      say: hears notes.

    Returns:
      The number of rows.

    Raises:
      InputError: what `load`, `sequences.read` and `score` raise, or an output that cannot be written.
      RunStopped: the disk is full.
    """
    if batch_size < 1:
        raise InputError(f"batch size is {batch_size}; expected 1 or more")
    _require_other(Path(output), input, fasta)
    _require_outside(Path(output), model)
    classifier = load(model, say)
    if not 0 <= stride <= classifier.longest:
        raise InputError(f"stride is {stride}; expected 0 (half a window) to {classifier.longest}, a whole window")
    records = _read(input, fasta=fasta, k=classifier.config.model.k, say=say)
    place = ["start", "end"] if long == "window" else []
    rows = 0
    with _whole_or_absent(Path(output)) as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["id", *place, "class", *classifier.classes])
        for scored in score(classifier, records, source=str(input), long=long, stride=stride, batch_size=batch_size):
            where = [scored.start, scored.end] if place else []
            best = classifier.classes[int(scored.probabilities.argmax())]
            table.writerow([scored.id, *where, best, *(f"{p:.6f}" for p in scored.probabilities)])
            rows += 1
    return rows


def _require_other(output: Path, *inputs: str | Path) -> None:
    for each in inputs:
        if each and output.exists() and Path(each).exists() and output.samefile(each):
            raise InputError(f"{output}: is the input; expected another file to write")


def _require_outside(output: Path, model: str | Path) -> None:
    if output.is_file() and Path(model).resolve() in output.resolve().parents:
        raise InputError(f"{output}: belongs to the model; expected a file outside it, or a new one")


def _read(path: str | Path, **options: Any) -> Iterator[Sequence]:
    try:
        yield from sequences.read(path, **options)
    except OSError as error:
        raise InputError(f"{path}: cannot be read to its end ({error.strerror or error})") from None


@contextlib.contextmanager
def _whole_or_absent(path: Path) -> Iterator[TextIO]:
    """A text file that gets its name when the block ends well; an OSError of the block is one of writing.

    Pipes and devices, `/dev/stdout` among them, are written to as they are.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected a file to write")
    stream = path.parts[:2] == ("/", "dev") or (path.exists() and not path.is_file())
    try:
        with (
            contextlib.nullcontext(path) if stream else outputs.file(path) as place,
            _opened(place, path) as file,
        ):
            yield file
    except OSError as error:
        raise RunStopped(f"{path}: writing failed ({error.strerror}); no output was left") from None


def _opened(place: Path, path: Path) -> TextIO:
    try:
        return open(place, "w", encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
