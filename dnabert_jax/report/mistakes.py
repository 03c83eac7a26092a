"""The sections of a report that say where a model is wrong: by kind of example, and the worst examples."""

from typing import Any

import numpy as np
from markupsafe import Markup

from dnabert_jax.report.document import Section, table
from dnabert_jax.report.finished import Finished

WORST = 20
_LONGEST_SHOWN = 120
_MIDDLE_SHOWN = 80
_HALF = 0.5

Rows = list[dict[str, str]] | None


def kinds(run: Finished, described: Rows) -> Section | None:
    """How often each kind of example is right, where the data tell kinds; none but for one class an example."""
    if run.config.target != "single_label" or not described or "kind" not in described[0]:
        return None
    called = run.judged.predictions.argmax(axis=1)
    of_kind: dict[tuple[str, str], list[int]] = {}
    for number, row in enumerate(described):
        of_kind.setdefault((run.classes[run.judged.labels[number]], row["kind"]), []).append(number)
    rows = []
    for (label, kind), numbers in sorted(of_kind.items()):
        right = called[numbers] == run.judged.labels[numbers]
        wrong = called[numbers][~right]
        most = run.classes[np.bincount(wrong).argmax()] if len(wrong) else None
        rows.append([kind, label, len(numbers), float(right.mean()), most])
    return Section("Kinds of examples", table(["kind", "class", "examples", "share right", "mostly taken for"], rows))


def worst(run: Finished, described: Rows) -> Section:
    """The examples that the model got most wrong."""
    header, rows = {
        "single_label": _of_class,
        "multi_label": _of_classes,
        "regression": _of_numbers,
        "per_base": _of_bases,
    }[run.config.target](run)
    if not rows:
        return Section("Most wrong", "None: the model is right about every example.")
    with_kind = bool(described) and "kind" in described[0]
    more = [*(["kind"] if with_kind else []), *(["sequence"] if described else [])]
    cells = []
    for number, row in rows:
        cells.append([*row])
        if described:
            cells[-1] += [described[number][name] if name == "kind" else _sequence(described[number]) for name in more]
    notes = []
    if not described:
        notes = [f"Their sequences are not shown, for {run.data_file} is no table of what was judged."]
    elif any(len(described[number]["sequence"]) > _LONGEST_SHOWN for number, _ in rows):
        notes = [f"Of sequences longer than {_LONGEST_SHOWN} bases the {_MIDDLE_SHOWN} in the middle are shown."]
    return Section("Most wrong", table(["id", *header, *more], cells), *notes)


def _sequence(row: dict[str, str]) -> Markup:
    bases = row["sequence"]
    if len(bases) > _LONGEST_SHOWN:
        start = (len(bases) - _MIDDLE_SHOWN) // 2
        bases = f"…{bases[start : start + _MIDDLE_SHOWN]}…"
    return Markup('<span class="sequence">{}</span>').format(bases)


Found = tuple[list[str], list[tuple[int, list[Any]]]]
"""Columns behind the id, and the number of the sequence with its id and these columns, the worst first."""


def _of_class(run: Finished) -> Found:
    labels, probabilities = run.judged.labels, run.judged.predictions
    called = probabilities.argmax(axis=1)
    true = probabilities[np.arange(len(labels)), labels]
    order = [number for number in np.argsort(true, kind="stable") if called[number] != labels[number]][:WORST]
    rows = [
        (
            number,
            [
                run.judged.ids[number],
                run.classes[labels[number]],
                run.classes[called[number]],
                float(true[number]),
                float(probabilities[number, called[number]]),
            ],
        )
        for number in order
    ]
    return ["true", "called", "P(true)", "P(called)"], rows


def _of_classes(run: Finished) -> Found:
    labels, probabilities = run.judged.labels > 0, run.judged.predictions
    wrong = (labels != (probabilities > _HALF)).sum(axis=1)
    off = np.abs(labels - probabilities).sum(axis=1)
    order = [number for number in np.argsort(-off, kind="stable") if wrong[number]][:WORST]

    def named(which: np.ndarray) -> str:
        return ", ".join(name for name, there in zip(run.classes, which) if there) or "none"

    rows = [
        (
            number,
            [run.judged.ids[number], named(labels[number]), named(probabilities[number] > _HALF), int(wrong[number])],
        )
        for number in order
    ]
    return ["true", "called", "wrong"], rows


def _of_numbers(run: Finished) -> Found:
    true, predicted = run.judged.labels.reshape(run.judged.predictions.shape), run.judged.predictions
    spread = true.std(axis=0)
    off = (((predicted - true) / np.where(spread > 0, spread, 1)) ** 2).sum(axis=1)
    order = np.argsort(-off, kind="stable")[:WORST]
    if len(run.classes) == 1:
        rows = [
            (n, [run.judged.ids[n], float(true[n, 0]), float(predicted[n, 0]), float(predicted[n, 0] - true[n, 0])])
            for n in order
        ]
        return ["true", "predicted", "error"], rows

    def listed(values: np.ndarray) -> str:
        return "; ".join(f"{value:.4g}" for value in values)

    return ["true", "predicted"], [(n, [run.judged.ids[n], listed(true[n]), listed(predicted[n])]) for n in order]


def _of_bases(run: Finished) -> Found:
    sequences = run.judged.sequences
    wrong = np.bincount(sequences, run.judged.predictions.argmax(axis=1) != run.judged.labels).astype(int)
    bases = np.bincount(sequences)
    first = np.unique(sequences, return_index=True)[1]
    order = [number for number in np.argsort(-wrong / bases, kind="stable") if wrong[number]][:WORST]
    rows = [(n, [run.judged.ids[first[n]], int(wrong[n]), int(bases[n]), float(wrong[n] / bases[n])]) for n in order]
    return ["wrong bases", "labelled bases", "share wrong"], rows
