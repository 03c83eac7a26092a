"""The table of a task that `tasks.py` prints: the figures of each row, with 95 % intervals and the seeds' spread.

The intervals are of the bootstrap over the test examples (`dnabert_jax.evaluation.bootstrap`); where a row has several
seeds, each resample gives the mean of their figures, and ± is the standard deviation between seeds.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dnabert_jax.evaluation import bootstrap, judged
from dnabert_jax.evaluation.weighted import Weighted

FIGURES = {"accuracy": "accuracy", "f1": "F1", "mcc": "MCC", "auroc": "AUROC", "auprc": "AUPRC"}
OURS = "pretrained"
_PERCENTILES = (2.5, 97.5)

TITLES = {
    "pretrained": "ours, pretrained",
    "random": "ours, random params",
    "splicefinder": "CNN, SpliceFinder's shape",
    "deepbind": "CNN, DeepBind's shape",
    "onehot": "logistic regression, one-hot",
    "kmers": "logistic regression, k-mers",
}


@dataclass(frozen=True)
class Row:
    """What the runs of a row left, one for each seed."""

    name: str
    runs: list[dict[str, Any]]
    resampled: dict[str, np.ndarray]
    """Of each figure the mean over the seeds in every resample, the same resamples in every row of a task."""

    def is_on(self, digest: str) -> bool:
        """Whether all runs read the data of this digest."""
        return all(run["made_of"]["data"] == digest for run in self.runs)

    def values(self, figure: str) -> list[float]:
        """One a seed; NaN where the figure is undefined, as AUROC is of examples that are all of one class."""
        return [np.nan if run["figures"][figure] is None else run["figures"][figure] for run in self.runs]

    def mean(self, figure: str) -> float:
        return float(np.mean(self.values(figure)))


def read(folder: Path, name: str) -> Row | None:
    """The row of this name in the folder of a task; None where no run of it is there."""
    files = sorted((folder / name).glob("seed*.json"), key=lambda file: int(file.stem.removeprefix("seed")))
    if not files:
        return None
    runs = [json.loads(file.read_text()) for file in files]
    said = [
        judged.read(file.with_suffix("") / judged.FILE, "single_label", tuple(run["classes"]))
        for file, run in zip(files, runs, strict=True)
    ]
    generator = np.random.default_rng(0)
    count = len(said[0].labels)
    weights = np.stack(
        [np.bincount(generator.integers(0, count, count), minlength=count) for _ in range(bootstrap.RESAMPLES)]
    )
    of_seeds = [Weighted("single_label", each.labels, each.predictions)(weights) for each in said]
    return Row(name, runs, {figure: np.mean([each[figure] for each in of_seeds], axis=0) for figure in FIGURES})


def markdown(out: Path, tasks: dict[str, str], names: list[str], command: str) -> str:
    """A table for each task, and how it came about.

    Args:
      out: folder with the runs of every task.
      tasks: digest of the data by name of the task, in order.
      names: of the rows, in order; one without runs on these data is left out.
      command: which made this.
    """
    parts = ["# Our model and its peers on the same examples\n\n", f"```bash\n{command}\n```\n\n", _HOW]
    for task, digest in tasks.items():
        rows = [row for name in names if (row := read(out / task, name)) and row.is_on(digest)]
        parts.append(f"\n## {task}\n\n" + (_table(rows) + _notes(rows) if rows else "No row came to its end.\n"))
    return "".join(parts)


_HOW = (
    "Figures are of the test split, with 95 % intervals of a bootstrap over its examples; with several seeds they are "
    "means ± the standard deviation between seeds. Minutes are of training one model, without tuning.\n"
)


def cores() -> int:
    """Of this machine, as far as this process may use them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _table(rows: list[Row]) -> str:
    lines = [["", *FIGURES.values(), "minutes", "epochs", "params"], ["---", *["---:"] * (len(FIGURES) + 3)]]
    for row in rows:
        epochs = [f"{run['best_epoch']} of {run['epochs']}" for run in row.runs if run["epochs"]]
        lines.append(
            [
                TITLES[row.name],
                *(_cell(row, figure) for figure in FIGURES),
                f"{np.mean([run['minutes'] for run in row.runs]):.2g}",
                ", ".join(epochs),
                f"{row.runs[0]['params']:,}",
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(row: Row, figure: str) -> str:
    values = row.values(figure)
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    low, high = _interval(row.resampled[figure])
    return f"{row.mean(figure):.3f}{spread} ({low:.3f}–{high:.3f})"


def _notes(rows: list[Row]) -> str:
    lines = []
    ours = next((row for row in rows if row.name == OURS), None)
    others = [row for row in rows if row is not ours]
    if ours and others:
        lines.append("Ours, pretrained, minus the best other row, on the same resamples:\n\n")
        for figure, title in FIGURES.items():
            best = max(others, key=lambda row: row.mean(figure))
            low, high = _interval(ours.resampled[figure] - best.resampled[figure])
            difference = ours.mean(figure) - best.mean(figure)
            lines.append(f"- {title}: {difference:+.3f} ({low:+.3f} to {high:+.3f}), {TITLES[best.name]}\n")
        lines.append("\n")
    for row in rows:
        seeds = "; ".join(f"seed {run['seed']}: {run['figures']['mcc']:.4f}" for run in row.runs)
        settings = ", ".join(f"{name} {value}" for name, value in row.runs[0]["settings"].items())
        tuning = row.runs[0].get("tuning_minutes")
        tuned = f"; tuned in {tuning:.2g} minutes" if tuning else ""
        lines.append(f"- {TITLES[row.name]}: MCC {seeds}; {settings}{tuned}\n")
    made = {
        (run["made_with"]["date"], run["made_with"]["hardware"], run["made_with"]["versions"])
        for row in rows
        for run in row.runs
    }
    lines += [f"\nMade {' | '.join(each)}\n" for each in sorted(made)]
    return "\n" + "".join(lines)


def _interval(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return tuple(np.percentile(known, _PERCENTILES)) if len(known) else (np.nan, np.nan)
