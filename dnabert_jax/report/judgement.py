"""The sections of a report that say how good a model is: figures with their intervals, classes, and pictures."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from dnabert_jax import evaluation
from dnabert_jax.evaluation import bootstrap, reliability
from dnabert_jax.evaluation.weighted import NAMES
from dnabert_jax.report.document import Section, number, picture, table
from dnabert_jax.report.finished import Finished

TITLES = {
    "accuracy": "Accuracy",
    "subset_accuracy": "Examples with every class right",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "mcc": "MCC",
    "micro_f1": "Micro F1",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "mse": "MSE",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "pearson": "Pearson's r",
    "spearman": "Spearman's ρ",
}
_OF_CLASS = ("f1", "mcc", "precision", "recall", "auroc", "auprc")
_OF_VALUE = ("rmse", "mae", "r2", "pearson", "spearman")


def figures(run: Finished) -> Section:
    """The figures of `result.json`, with 95 % intervals."""
    target = run.config.target
    of_sequences = run.judged.sequences if target == "per_base" else None
    found = bootstrap.intervals(target, run.judged.labels, run.judged.predictions, sequences=of_sequences)
    rows = [[TITLES[name], run.result[name], interval(found[name])] for name in NAMES[target]]
    return Section(
        "Figures",
        table(["figure", "value", "95 % interval"], rows),
        Markup("<p>{}</p>").format(" ".join([_meaning(run), how_sure(run), *left_out(found)])),
    )


def interval(found: bootstrap.Interval | bootstrap.Difference) -> str:
    """The ends of an interval in words."""
    return "–" if found.low is None else f"{number(found.low)} to {number(found.high)}"


def how_sure(run: Finished) -> str:
    """What the intervals are of."""
    drawn = "sequences, each with all its bases," if run.config.target == "per_base" else "examples"
    return (
        f"Intervals: 2.5th to 97.5th percentile of {bootstrap.RESAMPLES:,} bootstrap resamples of the {drawn} that the "
        "model was judged on."
    )


def left_out(found: dict[str, bootstrap.Interval] | dict[str, bootstrap.Difference]) -> list[str]:
    """Which figures were undefined in some resamples, in words."""
    some = [f"{TITLES[name]} in {each.undefined:,}" for name, each in found.items() if each.undefined]
    return [f"Resamples without a figure were left out: {', '.join(some)}."] if some else []


def _meaning(run: Finished) -> str:
    target, classes = run.config.target, run.classes
    examples = f"{run.result['examples']:,} {'labelled bases' if target == 'per_base' else 'examples'}"
    judged = f"Of the {run.result['split']} split ({examples}), at epoch {run.result['best_epoch']}."
    if target == "regression":
        return f"{judged} Several values: the mean over them." if len(classes) > 1 else judged
    if target == "multi_label":
        return f"{judged} A class counts as called above one half; figures are means over the classes."
    areas = f"those of {classes[1]}" if len(classes) == 2 else "means over the classes, each against the rest"
    return f"{judged} F1, precision and recall are means over the classes; AUROC and AUPRC are {areas}."


def classes(run: Finished) -> Section | None:
    """A row for each class or value; None for a single value."""
    if run.config.target == "regression":
        if "per_value" not in run.result:
            return None
        rows = [[name, *(each[figure] for figure in _OF_VALUE)] for name, each in run.result["per_value"].items()]
        return Section("Values", table(["value", *(TITLES[name] for name in _OF_VALUE)], rows))
    splits = list(run.result["data"])
    rows = []
    for name, each in run.result["per_class"].items():
        counts = (run.result["data"][split]["per_class"][name] for split in splits)
        rows.append([name, *counts, *(each.get(figure) for figure in _OF_CLASS)])
    what = "bases" if run.config.target == "per_base" else "examples"
    header = ["class", *(f"{split} {what}" for split in splits), *(TITLES[name] for name in _OF_CLASS)]
    return Section("Classes", table(header, rows), "Each class against the rest.")


def pictures(run: Finished) -> Section:
    """ROC and PR curves and the confusion matrix, or predicted against true values."""
    drawn = evaluation.drawn(run.config.target, run.judged.labels, run.judged.predictions, run.classes)
    alts = {"confusion": _confusion(run.classes, run.result.get("confusion_matrix", []))}
    titles = {"roc": "ROC curve", "pr": "Precision-recall curve", "scatter": "Predicted against true values"}
    return Section("Pictures", *(picture(each, alt=alts.get(name) or titles[name]) for name, each in drawn.items()))


def _confusion(names: Sequence[str], matrix: list[list[int]]) -> str:
    rows = (f"{name}: {', '.join(map(str, row))}" for name, row in zip(names, matrix))
    return f"Confusion matrix; true class: examples called {', '.join(names)}. {'; '.join(rows)}"


def reliable(run: Finished) -> Section:
    """Whether the probabilities are to be believed. Not for regression."""
    target, names = run.config.target, run.classes
    found = reliability.curve(*reliability.question(target, run.judged.labels, run.judged.predictions))
    asked = "the class that is called"
    if target == "multi_label":
        asked = "a class"
    elif len(names) == 2:
        asked = names[1]
    rows: list[list[Any]] = list(zip(found.predicted.tolist(), found.observed.tolist(), found.counts.tolist()))
    return Section(
        "Reliability",
        picture(reliability.draw(found, asked), alt="Reliability curve"),
        table(
            ["mean probability", "share that came true", "number"],
            rows,
            caption=f"Expected calibration error {found.ece:.4f}, Brier score {found.brier:.4f}",
        ),
    )
