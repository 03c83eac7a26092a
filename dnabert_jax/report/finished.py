"""What a finished fine-tuning run left in its workdir, read and checked, for a report on it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from dnabert_jax import evaluation, places
from dnabert_jax.config import FinetuneConfig
from dnabert_jax.data import tables
from dnabert_jax.errors import InputError
from dnabert_jax.evaluation import judged as judged_
from dnabert_jax.evaluation.judged import Judged
from dnabert_jax.evaluation.weighted import NAMES
from dnabert_jax.training import reports, workdir

_RESULT = "result.json"
_AGAIN = "start the same fine-tuning again, which goes on from where it stopped and writes it"


@dataclass(frozen=True)
class Finished:
    """A fine-tuning run that has ended."""

    folder: Path
    config: FinetuneConfig
    classes: tuple[str, ...]
    result: dict[str, Any]
    """`result.json`"""
    judged: Judged
    """`predictions.tsv`"""
    metrics: list[dict[str, Any]]
    """`metrics.jsonl`"""
    ended: datetime

    @property
    def start(self) -> str:
        """Where the params come from, in words."""
        if not self.config.init:
            return "random params"
        return f"random params, in the shape of {self.config.init}" if self.config.random_params else self.config.init

    @property
    def training_seconds(self) -> float | None:
        """Seconds that the steps took, without compiling, judging and saving; None where it is not known."""
        seconds, before = 0.0, 0
        for report in self.metrics:
            if report["split"] == "train" and "step_time_ms" in report:
                seconds += (report["step"] - before) * report["step_time_ms"] / 1000
                before = report["step"]
        return seconds or None

    @property
    def data_file(self) -> Path:
        """The labelled data that the run was judged on; it may have been moved since."""
        return Path(getattr(self.config.data, self.result["split"]))

    @property
    def readme(self) -> str:
        """What lies beside the training data as README.md; empty where there is none."""
        file = Path(self.config.data.train).parent / "README.md"
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    def described(self) -> list[dict[str, str]] | None:
        """The columns of each sequence that was judged, by name; None where the data file is no table of them now."""
        try:
            rows = list(self._rows())
        except InputError:
            return None
        ids = np.asarray(self.judged.ids)[np.unique(self.judged.sequences, return_index=True)[1]]
        return rows if [row["id"] for row in rows] == ids.tolist() else None

    def _rows(self) -> Iterator[dict[str, str]]:
        for line, row in tables.read(self.data_file, ["sequence", "label"]):
            if self.config.target != "per_base" or set(row["label"]) != {"."}:
                yield {**row, "id": row.get("id") or f"line {line}"}


def read(path: str | Path) -> Finished:
    """Reads the workdir of a fine-tuning run.

    Raises:
      InputError: no workdir, one of another kind of run, a run that has not ended or left no predictions, or files
        that are damaged or not of one run.
    """
    if places.is_remote(path):
        raise InputError(f"{path}: reports are drawn from local folders; expected the workdir copied to one")
    folder = Path(path)
    config = workdir.read_config(folder, FinetuneConfig)
    if not (folder / _RESULT).is_file():
        raise InputError(f"{folder}: holds no {_RESULT}, the run has not ended; {_AGAIN}")
    if not (folder / judged_.FILE).is_file():
        raise InputError(f"{folder}: holds no {judged_.FILE}, as older versions left it; {_AGAIN}")
    result = _json(folder / _RESULT, dict)
    classes = tuple(map(str, _json(folder / workdir.CLASSES, list)))
    judged = judged_.read(folder / judged_.FILE, config.target, classes)
    figures = evaluation.figures(config.target, judged.labels, judged.predictions, classes)
    for name in ("examples", *NAMES[config.target]):
        if not _same(figures[name], result.get(name)):
            raise InputError(
                f"{folder / judged_.FILE}: gives {name} {figures[name]}, but {_RESULT} has {result.get(name)}; "
                f"expected both of one run: {_AGAIN}"
            )
    if not isinstance(result.get("data"), dict) or result.get("split") not in result["data"]:
        raise InputError(f"{folder / _RESULT}: does not say what data it is of; {_AGAIN}")
    ended = datetime.fromtimestamp((folder / _RESULT).stat().st_mtime, UTC)
    return Finished(folder, config, classes, result, judged, reports.read(folder), ended)


def _json(file: Path, kind: type) -> Any:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or error
        raise InputError(f"{file}: cannot be read ({what}); expected what the run wrote") from None
    if not isinstance(values, kind):
        raise InputError(f"{file}: holds {type(values).__name__}; expected what the run wrote")
    return values


def _same(a: float | None, b: Any) -> bool:
    if a is None or not isinstance(b, int | float):
        return a is None and b is None
    return bool(np.isclose(a, b, rtol=1e-6, atol=1e-9))
