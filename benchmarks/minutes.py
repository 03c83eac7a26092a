"""Pretraining for some minutes: bits per base of the held-out bases against the minutes that it took."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnabert_jax import embedded
from dnabert_jax.data import fasta

POINTS = 10
"""Validations on the way."""
_COMPILING_S = 75.0
_SHARE = 0.85
"""Of the time left, what the steps are planned for: validating and saving take the rest."""
_MOST_ROWS = 256
_FEWEST_STEPS = 200


@dataclass(frozen=True)
class Plan:
    """A run of pretraining.

    Attributes:
      steps: after which the learning rate is 0.
      rows: of a step.
      accumulation: parts in which they are read.
    """

    steps: int
    rows: int
    accumulation: int = 1

    @property
    def flags(self) -> list[str]:
        """For `train.py`."""
        every = max(1, self.steps // POINTS)
        values = {
            "batch_size": self.rows,
            "accumulation": self.accumulation,
            "loop.steps": self.steps,
            "loop.report_every": every,
            "loop.validate_every": every,
            "loop.save_every": self.steps,
            "optimizer.warmup_steps": self.steps // 10,
            "optimizer.decay_steps": self.steps,
        }
        return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def plan(seconds: float, tokens_per_second: float, row_length: int, most_rows: int) -> Plan | None:
    """The run that fills the time: up to 256 rows a step, fewer where the machine would do few steps of those.

    Args:
      seconds: that there are for all of it.
      tokens_per_second: that a step was measured to read, padding included.
      row_length: tokens of a row.
      most_rows: that the machine holds at once.

    Returns:
      None where not even steps of 8 rows would come to a number worth a curve.
    """
    tokens = max(0.0, seconds - _COMPILING_S) * _SHARE * tokens_per_second
    rows = _MOST_ROWS
    while rows > 8 and tokens < _FEWEST_STEPS * rows * row_length:
        rows //= 2
    steps = int(tokens / (rows * row_length))
    if steps < POINTS:
        return None
    accumulation = 1
    while rows // accumulation > most_rows:
        accumulation *= 2
    return Plan(steps, rows, accumulation)


def held_out(path: Path) -> str:
    """The region that is kept for validation: the last twentieth of the file's first record."""
    record = next(fasta.records(path))
    length = len(record.bases)
    return f"{record.name}:{length - length // 20 + 1}-{length}"


def genome(path: Path | None) -> Path:
    """The FASTA file to pretrain on: the one that is given, or the one that comes with the package."""
    return path or embedded.FASTA


class Curve:
    """The validations of a run as they appear in its `metrics.jsonl`, each with the minute in which it was there.

    Args:
      file: written by the run.
      tokens_per_step: that a step reads.
      say: hears each point once.
    """

    def __init__(self, file: Path, tokens_per_step: int, say: Callable[[dict[str, Any]], None]) -> None:
        self.points: list[dict[str, Any]] = []
        self._file, self._tokens_per_step, self._say = file, tokens_per_step, say

    def look(self, seconds: float) -> None:
        """Takes up what was reported since the last look; `seconds` is how long the run has run by now."""
        if not self._file.exists():
            return
        # The last line may be half there yet.
        lines = self._file.read_text(encoding="utf-8").split("\n")[:-1]
        reports = [each for line in lines if (each := json.loads(line))["split"] == "validation"]
        for report in reports[len(self.points) :]:
            point = {
                "minutes": round(seconds / 60, 3),
                "step": report["step"],
                "tokens": report["step"] * self._tokens_per_step,
                "bits_per_base": report["bits_per_base"],
            }
            self.points.append(point)
            self._say(point)
