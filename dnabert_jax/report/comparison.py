"""The section of a report that sets a model beside others that were judged on the same data."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from dnabert_jax.errors import InputError
from dnabert_jax.evaluation import bootstrap, curves
from dnabert_jax.evaluation.weighted import NAMES
from dnabert_jax.report.document import Section, number, picture, table
from dnabert_jax.report.finished import Finished
from dnabert_jax.report.judgement import TITLES, how_sure, interval, left_out
from dnabert_jax.report.making import duration

_MOST_CLASSES = 8
"""Classes with a picture of their own; of more, the first."""


def check(run: Finished, others: Sequence[Finished]) -> None:
    """Raises InputError where another model was not judged on the same examples."""
    for other in others:
        why = ""
        if other.folder.resolve() == run.folder.resolve():
            why = "is the run itself"
        elif other.config.target != run.config.target:
            why = f"predicts {other.config.target}, and {run.folder} {run.config.target}"
        elif other.classes != run.classes:
            why = f"tells apart {_some(other.classes)}, and {run.folder} {_some(run.classes)}"
        elif _judged_on(other) != _judged_on(run) or other.judged.ids != run.judged.ids:
            why = f"was judged on other data ({other.data_file}) than {run.folder} ({run.data_file})"
        if why:
            raise InputError(f"{other.folder}: {why}; expected another model judged on the same examples")


def _some(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:4]) + (", ..." if len(classes) > 4 else "")


def _judged_on(run: Finished) -> str:
    return run.result["data"][run.result["split"]]["digest"]


def beside(run: Finished, others: Sequence[Finished]) -> Section:
    """Figures side by side, paired differences with their intervals, and the curves of all models in one picture.

    Args:
      run: the model that the report is of.
      others: one or more that `check` let pass.
    """
    models, names = [run, *others], _names([run, *others])
    target, labels = run.config.target, run.judged.labels
    of_sequences = run.judged.sequences if target == "per_base" else None
    found = [bootstrap.intervals(target, labels, each.judged.predictions, sequences=of_sequences) for each in models]
    off = [
        bootstrap.differences(target, labels, run.judged.predictions, each.judged.predictions, sequences=of_sequences)
        for each in others
    ]
    figures = [
        [TITLES[name], *(_stacked(each.result[name], of_model[name]) for each, of_model in zip(models, found))]
        for name in NAMES[target]
    ]
    gains = [
        [TITLES[name], *(_stacked(each[name].value, each[name], sign=True) for each in off)] for name in NAMES[target]
    ]
    undefined = [words for each in (*found, *off) for words in left_out(each)]
    return Section(
        "Beside other models",
        table(["model", "params from", "seed", "best epoch", "learning rate", "time of steps"], _made(models, names)),
        table(["figure", *names], figures, caption="Figures, each with its 95 % interval"),
        table(
            ["figure", *names[1:]],
            gains,
            caption=f"{names[0]} minus the other model on the same resamples, with the 95 % interval of the difference",
        ),
        " ".join(dict.fromkeys([how_sure(run), "An interval without 0 is a difference beyond chance.", *undefined])),
        *_curves(models, names),
    )


def _names(models: Sequence[Finished]) -> list[str]:
    short = [each.folder.resolve().name for each in models]
    return short if len(set(short)) == len(short) else [str(each.folder) for each in models]


def _made(models: Sequence[Finished], names: Sequence[str]) -> list[list[Any]]:
    return [
        [
            name,
            each.start,
            each.config.seed,
            f"{each.result['best_epoch']} of {each.config.epochs}",
            f"{each.config.learning_rate:g}",
            duration(each.training_seconds),
        ]
        for name, each in zip(names, models, strict=True)
    ]


def _stacked(value: float | None, found: bootstrap.Interval | bootstrap.Difference, *, sign: bool = False) -> Markup:
    shown = f"+{number(value)}" if sign and value is not None and value > 0 else number(value)
    return Markup("{}<br><small>{}</small>").format(shown, interval(found))


def _curves(models: Sequence[Finished], names: Sequence[str]) -> Iterator[Markup]:
    """For two classes one ROC and one PR picture, else one of each for every class."""
    run = models[0]
    if run.config.target == "regression":
        return
    count = len(run.classes)
    several = run.config.target == "multi_label"
    for at in [1] if count == 2 and not several else range(min(count, _MOST_CLASSES)):
        is_class = run.judged.labels[:, at] > 0 if several else run.judged.labels == at
        drawn = [(name, is_class, np.asarray(each.judged.predictions[:, at])) for name, each in zip(names, models)]
        yield picture(curves.roc(drawn, f"ROC curve of {run.classes[at]}"), alt=f"ROC curves of {run.classes[at]}")
        title = f"Precision-recall curve of {run.classes[at]}"
        yield picture(curves.precision_recall(drawn, title), alt=title)
