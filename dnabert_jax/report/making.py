"""The sections of a report that say how a model was made: its run, how it learnt, and its data."""

import re
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dnabert_jax import evaluation
from dnabert_jax.config import FinetuneConfig, FinetunedEncoderConfig, differences
from dnabert_jax.evaluation.pictures import COLOURS, tidy
from dnabert_jax.report.document import Section, markdown, picture, table
from dnabert_jax.report.finished import Finished
from dnabert_jax.report.judgement import TITLES

_TARGETS = {
    "single_label": "one class",
    "multi_label": "any number of classes",
    "regression": "numbers",
    "per_base": "the class of each base",
}
_HEADING = re.compile(r"^# +(.+?)\s*#*$", re.MULTILINE)


def title(run: Finished) -> str:
    """The first heading of the data's README, or the name of the workdir."""
    found = _HEADING.search(run.readme)
    return found[1].replace("`", "") if found else f"Fine-tuned model {run.folder.resolve().name}"


def making(run: Finished) -> Section:
    """What was trained, how, with what, and when."""
    config, encoder, made = run.config, run.config.encoder, run.result.get("made_with", {})
    versions = ", ".join(f"{name} {version}" for name, version in made.items() if name != "devices")
    rows: list[list[Any]] = [
        ["params from", run.start],
        ["predicts", _TARGETS[config.target]],
        [
            "encoder",
            f"k = {encoder.k}, {encoder.layers} layers of {encoder.hidden}, {encoder.heads} heads, up to "
            f"{encoder.max_length} tokens"
            + (f" in each of {config.pieces} pieces" if config.pieces > 1 else "")
            + (f"; with its head {run.result['params']:,} params" if "params" in run.result else ""),
        ],
        ["trained", _trained(config)],
        ["epochs", f"{config.epochs}, of which {run.result['best_epoch']} did best on the validation split"],
        ["batch size, peak learning rate", f"{config.batch_size}, {config.learning_rate:g}"],
        ["seed", str(config.seed)],
        ["time of the training steps", duration(run.training_seconds)],
        ["hardware", made.get("devices", "not known")],
        ["versions", versions or "not known"],
        ["ended", f"{run.ended:%Y-%m-%d %H:%M} UTC"],
        ["workdir", str(run.folder.resolve())],
    ]
    contents = [table([], rows)]
    if changed := _changed(config):
        contents.append(table(["field", "value", "default"], changed, caption="Fields that are not as by default"))
    return Section("How the model was made", *contents)


def _trained(config: FinetuneConfig) -> str:
    if config.freeze_encoder:
        return "the head only, on the frozen encoder"
    return f"LoRA of rank {config.lora.rank} and the head" if config.lora.rank else "encoder and head"


def _changed(config: FinetuneConfig) -> list[list[str]]:
    """(field, value, default), of those that decide the result and are not in the table above."""
    told = (
        "workdir",
        "init",
        "data.",
        "seed",
        "epochs",
        "batch_size",
        "learning_rate",
        "target",
        "mesh.",
        "report_every",
    )
    shape = tuple(f"encoder.{name}" for name in FinetunedEncoderConfig().missing)
    found = differences(FinetuneConfig(), config)
    return [[name, str(new), str(old)] for name, old, new in found if not name.startswith((*told, *shape))]


def duration(seconds: float | None) -> str:
    """A time as people say it."""
    if seconds is None:
        return "not known"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def learning(run: Finished) -> Section | None:
    """The learning curve; None where `metrics.jsonl` has gone."""
    train = [each for each in run.metrics if each["split"] == "train"]
    validation = [each for each in run.metrics if each["split"] == "validation"]
    if not train or not validation:
        return None
    name = evaluation.criterion(run.config.target)
    drawn = picture(
        _curve(train, validation, name, run.result["best_epoch"]),
        alt=f"Loss in training and {TITLES[name]} in validation, by epoch",
    )
    rows = [
        [
            epoch,
            *(each.get(figure) for figure in _shown(validation)),
            "best" if epoch == run.result["best_epoch"] else "",
        ]
        for epoch, each in enumerate(validation, start=1)
    ]
    header = ["epoch", *(TITLES[figure] for figure in _shown(validation)), ""]
    return Section("Learning", drawn, table(header, rows, caption="On the validation split"))


def _shown(validation: list[dict[str, Any]]) -> list[str]:
    return [name for name in ("accuracy", "f1", "mcc", "auroc", "rmse", "r2", "pearson") if name in validation[0]]


def _curve(train: list[dict[str, Any]], validation: list[dict[str, Any]], name: str, best: int) -> Figure:
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    per_epoch = validation[0]["step"]

    def draw(axes: Any, reports: list[dict[str, Any]], what: str, **look: Any) -> None:
        values = [np.nan if each.get(what) is None else each[what] for each in reports]
        axes.plot([each["step"] / per_epoch for each in reports], values, linewidth=1.8, **look)
        tidy(axes)

    draw(left, train, "loss", color=COLOURS[0])
    left.set(xlabel="Epoch", ylabel="Loss", title="Training")
    left.set_ylim(bottom=0)
    draw(right, validation, name, color=COLOURS[1], marker="o")
    right.axvline(best, color="0.6", linewidth=1, linestyle=(0, (1, 3)), label="best epoch")
    right.set(xlabel="Epoch", ylabel=TITLES[name], title="Validation")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


def data(run: Finished) -> Section:
    """The data's own README without its title, and what was read of each split."""
    files = {name: getattr(run.config.data, name) for name in run.result["data"]}
    rows = [[name, each["sequences"], files[name]] for name, each in run.result["data"].items()]
    contents = [table(["split", "sequences", "file"], rows)]
    if run.readme:
        contents.append(markdown(_HEADING.sub("", run.readme, count=1)))
    return Section("The data", *contents)
