"""From a task's folder to a fine-tuned model and its report: what makes a task one command.

A task's folder holds `train.tsv`, `validation.tsv` and, mostly, `test.tsv` (`tasks.dataset` writes it). The model is
trained in a workdir of its own, where an interrupted run resumes, and the report is written there.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnabert_jax import places, recipes
from dnabert_jax.config import FinetuneConfig, LabelledConfig
from dnabert_jax.errors import InputError, Interrupted
from dnabert_jax.training.signals import StopSignals

Say = Callable[[str], None]


@dataclass(frozen=True)
class Training:
    """Fine-tuning on a dataset as soon as it is made; none without a recipe."""

    recipe: str = ""
    """Recipe of the fine-tuning: a name in configs/ or a .py file. Empty makes the dataset only."""
    init: str = ""
    """Model whose encoder is taken: a workdir, a converted model, a Hugging Face folder or hub id."""
    workdir: str = ""
    """Folder of the run; when empty, that of the dataset with -model behind its name."""
    compare_random: bool = False
    """Train from random params too, in the workdir with -random behind its name, and report both side by side."""

    def __post_init__(self) -> None:
        if not self.recipe and (self.init or self.workdir or self.compare_random):
            raise InputError("no recipe; expected one, such as --train.recipe splice")
        if self.compare_random and not self.init:
            raise InputError("no init; expected the model to compare with one from random params")
        if places.is_remote(self.workdir):
            raise InputError(f"{self.workdir}: a task's report is drawn in a local folder; expected one as workdir")


def check(training: Training) -> None:
    """Raises InputError where the recipe or the model cannot be had, before a dataset is made for them."""
    if training.recipe:
        recipes.load(training.recipe, FinetuneConfig)
    if training.init:
        from dnabert_jax import stored

        stored.read(training.init, lambda line: None)


def follow(dataset: Path, training: Training, say: Say) -> Path | None:
    """Fine-tunes as a command asked, and writes the report.

    Args:
      dataset: a task's folder.
      training: what was asked.
      say: hears notes.

    Returns:
      The report, or None where no training was asked for.

    Raises:
      As `training.finetune.run`, and `report.write`.
    """
    from dnabert_jax import report

    if not training.recipe:
        return None
    workdir = Path(training.workdir or f"{dataset}-model")
    against = []
    try:
        with StopSignals() as stop:
            _run(dataset, training.recipe, training.init, workdir, say)
            if training.compare_random:
                if stop.received:
                    raise Interrupted(f"{stop.received}: {workdir} is done; start again with the same command to go on")
                against = [workdir.with_name(f"{workdir.name}-random")]
                finetuned(dataset, training.recipe, training.init, against[0], say, random_params=True)
    except Interrupted as error:
        # The command makes the dataset first, which is there now.
        raise Interrupted(f"{error} (with --overwrite, which makes the same examples again)") from None
    path = report.write(workdir, against=against, say=say)
    say(f"{path}: the report")
    return path


def finetuned(dataset: Path, recipe: str, init: str, workdir: Path, say: Say, **overrides: Any) -> dict[str, Any]:
    """Fine-tunes on a task's folder, or goes on where an earlier start in the same workdir stopped; with a report.

    Args:
      dataset: holds `train.tsv`, `validation.tsv` and perhaps `test.tsv`.
      recipe: as `recipes.load` finds it.
      init: model to start from; empty starts from random params of the recipe's encoder.
      workdir: folder of the run.
      say: hears notes.
      overrides: fields of FinetuneConfig in the place of the recipe's.

    Returns:
      What `result.json` holds.

    Raises:
      InputError: no such recipe or files, or as `training.finetune.run`.
      RunStopped, Interrupted: as there.
    """
    from dnabert_jax import report

    result = _run(dataset, recipe, init, workdir, say, **overrides)
    report.write(workdir, say=say)
    return result


def _run(dataset: Path, recipe: str, init: str, workdir: Path, say: Say, **overrides: Any) -> dict[str, Any]:
    """As `finetuned`, for whoever writes the report when there are more models to put into it."""
    from dnabert_jax.training import finetune

    config = recipes.load(recipe, FinetuneConfig)
    files = {name: str(Path(dataset) / f"{name}.tsv") for name in ("train", "validation", "test")}
    for name in ("train", "validation"):
        if not Path(files[name]).is_file():
            raise InputError(f"{dataset}: no {name}.tsv; expected the folder of a task with a {name} split")
    if not Path(files["test"]).is_file():
        files["test"] = ""
    data = LabelledConfig(**files)
    config = dataclasses.replace(config, workdir=str(workdir), init=str(init), data=data, **overrides)
    return finetune.run(config, say)
