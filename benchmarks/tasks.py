"""Our model beside its peers on the paper's tasks: the same examples, splits and figures, and one table a task.

The rows are ours from pretrained params and from random ones, by the same recipe; a CNN of SpliceFinder's shape and one
of DeepBind's (`cnn.py`); and logistic regression on one-hot bases and on counts of k-mers (`linear.py`). How the peers
are trained is tuned on the validation set, and the epoch of every network chosen there. A task is a folder as `dnabert
task` writes it, with train.tsv, validation.tsv and test.tsv.

    python benchmarks/tasks.py --data splice=splice20 --data promoter=tata --init W --recipe splice \\
        --recipe-of promoter=promoter --out compared --seeds 0 1 2

A row that is in `--out` is not run again, and one of ours that was stopped goes on from its workdir there, so the same
command finishes what was begun; with other rows or seeds it adds them. A row that fails is told of and left out, and
the exit status is then 1.
"""

import argparse
import contextlib
import dataclasses
import datetime
import hashlib
import json
import platform
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import cnn
import jax
import linear
import numpy as np
import table

from dnabert_jax import evaluation, outputs, recipes, stored
from dnabert_jax.config import FinetuneConfig
from dnabert_jax.data import labelled
from dnabert_jax.data.labelled import Examples
from dnabert_jax.errors import InputError, Interrupted, RunStopped
from dnabert_jax.evaluation import judged
from dnabert_jax.training import finetune

SPLITS = ("train", "validation", "test")
TUNED = "settings.json"


@dataclass(frozen=True)
class Task:
    """A dataset, and the recipe by which our model is trained on it."""

    name: str
    folder: Path
    init: str
    recipe: str

    def file(self, split: str) -> Path:
        return self.folder / f"{split}.tsv"

    def examples(self) -> dict[str, Examples]:
        """Those of each split.

        Raises:
          InputError: what `labelled.read` raises.
        """
        train = labelled.read(self.file("train"), k=1, max_kmers=sys.maxsize, say=_say)
        others = {
            split: labelled.read(self.file(split), k=1, max_kmers=sys.maxsize, classes=train.classes, say=_say)
            for split in SPLITS[1:]
        }
        return {"train": train, **others}

    def digest(self) -> str:
        """Of the three files."""
        found = hashlib.sha256()
        for split in SPLITS:
            found.update(self.file(split).read_bytes() + b"\xff")
        return found.hexdigest()[:16]


def pretrained(task: Task, seed: int, folder: Path) -> dict[str, Any]:
    """Ours, from the params of `init`."""
    return _ours(task, seed, folder, random_params=False)


def random(task: Task, seed: int, folder: Path) -> dict[str, Any]:
    """Ours, of the same shape, from random params."""
    return _ours(task, seed, folder, random_params=True)


def splicefinder(task: Task, seed: int, folder: Path) -> dict[str, Any]:
    """The CNN of SpliceFinder's shape."""
    return _network("SpliceFinder", task, seed, folder)


def deepbind(task: Task, seed: int, folder: Path) -> dict[str, Any]:
    """The CNN of DeepBind's shape."""
    return _network("DeepBind", task, seed, folder)


def onehot(task: Task, seed: int, folder: Path) -> dict[str, Any]:
    """Logistic regression on one-hot bases."""
    return _regression("one-hot", task, folder)


def kmers(task: Task, seed: int, folder: Path) -> dict[str, Any]:
    """Logistic regression on counts of k-mers."""
    return _regression("k-mers", task, folder)


Row = Callable[[Task, int, Path], dict[str, Any]]

ROWS: dict[str, Row] = {each.__name__: each for each in (pretrained, random, splicefinder, deepbind, onehot, kmers)}
"""Each trains on a task with a seed, leaves `predictions.tsv` in a folder, and gives what stands in the row's JSON."""

WITHOUT_SEED = ("onehot", "kmers")


def _ours(task: Task, seed: int, folder: Path, *, random_params: bool) -> dict[str, Any]:
    recipe = recipes.load(task.recipe, FinetuneConfig)
    if recipe.target != "single_label":
        raise InputError(f"{task.recipe}: its target is {recipe.target!r}; expected 'single_label', as the peers have")
    data = dataclasses.replace(recipe.data, **{split: str(task.file(split)) for split in SPLITS})
    config = dataclasses.replace(
        recipe, workdir=str(folder), init=task.init, random_params=random_params, seed=seed, data=data
    )
    with _clock(folder.with_name(f"{folder.name}.seconds")) as seconds:
        result = finetune.run(config, _say)
    model = stored.read(folder, _say)
    return {
        "minutes": seconds() / 60,
        "best_epoch": result["best_epoch"],
        "epochs": result["epochs"],
        "params": sum(x.size for x in jax.tree.leaves(model.params)),
        "settings": {"recipe": task.recipe, "init": "random params" if random_params else task.init},
    }


def _network(shape: str, task: Task, seed: int, folder: Path) -> dict[str, Any]:
    examples = task.examples()
    classes = examples["train"].classes
    length = max(len(bases) for each in examples.values() for bases in each.sequences)
    data = {name: cnn.Data(cnn.padded(each.sequences, length), each.labels) for name, each in examples.items()}
    tuned = folder.with_name(TUNED)
    made_of = {"data": task.digest()}
    if tuned.is_file():
        _check(tuned, made_of)
        kept = json.loads(tuned.read_text())
        settings = cnn.Settings(**kept["settings"])
    else:
        start = time.perf_counter()
        settings = cnn.tuned(shape, data["train"], data["validation"], len(classes), _say)
        kept = {
            "made_of": made_of,
            "settings": dataclasses.asdict(settings),
            "minutes": (time.perf_counter() - start) / 60,
        }
        _write_json(tuned, kept)
    start = time.perf_counter()
    trained = cnn.train(settings, data["train"], data["validation"], len(classes), seed)
    minutes = (time.perf_counter() - start) / 60
    _leave(folder, examples["test"], trained.probabilities(data["test"].bases))
    return {
        "minutes": minutes,
        "tuning_minutes": kept["minutes"],
        "best_epoch": trained.best_epoch,
        "epochs": trained.epochs,
        "params": trained.size,
        "settings": dataclasses.asdict(settings),
    }


def _regression(kind: linear.Features, task: Task, folder: Path) -> dict[str, Any]:
    examples = task.examples()
    data = {name: linear.Data(each.sequences, each.labels) for name, each in examples.items()}
    start = time.perf_counter()
    trained = linear.train(kind, data["train"], data["validation"])
    minutes = (time.perf_counter() - start) / 60
    _leave(folder, examples["test"], trained.probabilities(data["test"].sequences))
    return {
        "minutes": minutes,
        "best_epoch": None,
        "epochs": None,
        "params": trained.size,
        "settings": trained.settings,
    }


def _leave(folder: Path, test: Examples, probabilities: np.ndarray) -> None:
    """Leaves predictions as `finetune.run` does."""
    folder.mkdir(parents=True, exist_ok=True)
    judged.write(folder / judged.FILE, test.target, judged.of(test, test.labels, probabilities), test.classes)


@contextlib.contextmanager
def _clock(file: Path) -> Iterator[Callable[[], float]]:
    """Seconds spent in the block, and in it in earlier starts, which `file` remembers however the block ends."""
    start = time.perf_counter()
    before = float(file.read_text()) if file.is_file() else 0.0

    def seconds() -> float:
        return before + time.perf_counter() - start

    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield seconds
    finally:
        with outputs.file(file) as temporary:
            temporary.write_text(f"{seconds()}\n")


def compare(tasks: list[Task], rows: list[str], seeds: list[int], out: Path) -> bool:
    """Runs what is not in `out` yet.

    Returns:
      Whether every row is there now.

    Raises:
      Interrupted: a run of ours was asked to stop.
    """
    whole = True
    for task in tasks:
        for name in rows:
            for seed in [0] if name in WITHOUT_SEED else seeds:
                at = f"{task.name}, {name}, seed {seed}"
                file = out / task.name / name / f"seed{seed}.json"
                try:
                    made_of = {"data": task.digest()}
                    if name in ("pretrained", "random"):
                        made_of |= {"init": task.init, "recipe": task.recipe}
                    if file.is_file():
                        _check(file, made_of)
                        _say(f"{at}: is there")
                        continue
                    _say(f"{at}: begins")
                    found = _row(task, name, seed, file.with_suffix(""))
                    _write_json(file, {"task": task.name, "row": name, "seed": seed, "made_of": made_of, **found})
                    _say(f"{at}: MCC {found['figures']['mcc']:.4f}, {found['minutes']:.1f} minutes")
                except (InputError, RunStopped) as error:
                    _say(f"{at}: failed: {error}")
                    whole = False
                except Interrupted:
                    raise
                except Exception:  # the rows behind it are run all the same
                    traceback.print_exc()
                    _say(f"{at}: failed")
                    whole = False
    return whole


def _row(task: Task, name: str, seed: int, folder: Path) -> dict[str, Any]:
    found = ROWS[name](task, seed, folder)
    classes = task.examples()["train"].classes
    said = judged.read(folder / judged.FILE, "single_label", classes)
    figures = evaluation.figures("single_label", said.labels, said.predictions, classes)
    return {**found, "classes": list(classes), "figures": figures, "made_with": _made_with()}


def _check(file: Path, made_of: dict[str, str]) -> None:
    before = json.loads(file.read_text())["made_of"]
    for what, value in made_of.items():
        if before[what] != value:
            raise InputError(f"{file}: was made with {what} {before[what]}, not {value}; expected another --out")


def _made_with() -> dict[str, str]:
    device = jax.devices()[0]
    cpu = f"{platform.machine()} CPU, {table.cores()} cores"
    names = ("dnabert-jax", "jax", "flax", "optax", "scikit-learn")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "hardware": cpu if device.platform == "cpu" else f"{jax.device_count()} × {device.device_kind}, {cpu}",
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{name} {metadata.version(name)}" for name in names)]
        ),
    }


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with outputs.file(file) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def _say(line: str) -> None:
    print(f"{datetime.datetime.now(datetime.UTC):%H:%M:%S} {line}", flush=True)


def _named(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not (found and name and value) or "/" in name or name.startswith("."):
        raise argparse.ArgumentTypeError(f"{text!r}; expected NAME=VALUE")
    return name, value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=_named, action="extend", nargs="+", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--init", default="", help="the pretrained model; also gives `random` its shape")
    parser.add_argument("--recipe", default="", help="by which ours is fine-tuned")
    parser.add_argument("--recipe-of", type=_named, action="extend", nargs="+", default=[], metavar="NAME=RECIPE")
    parser.add_argument("--out", type=Path, default=Path("compared"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    given = parser.parse_args(arguments)
    folders, recipe_of = dict(given.data), dict(given.recipe_of)
    if unknown := set(recipe_of) - set(folders):
        parser.error(f"--recipe-of {min(unknown)}: expected one of {', '.join(folders)}")
    tasks = [
        Task(name, Path(folder), given.init, recipe_of.get(name, given.recipe)) for name, folder in folders.items()
    ]
    for task in tasks:
        if {"pretrained", "random"} & set(given.rows) and not (task.init and task.recipe):
            parser.error(f"{task.name}: ours needs --init and --recipe; or leave it out with --rows")
        for split in SPLITS:
            if not task.file(split).is_file():
                parser.error(f"--data {task.name}: {task.file(split)} is missing; expected a folder of `dnabert task`")
    try:
        whole = compare(tasks, given.rows, given.seeds, given.out)
    except Interrupted as error:
        _say(f"{error}; the same command goes on")
        return 75
    command = f"python benchmarks/tasks.py {shlex.join(sys.argv[1:] if arguments is None else arguments)}"
    text = table.markdown(given.out, {task.name: task.digest() for task in tasks}, list(ROWS), command)
    with outputs.file(given.out / "results.md") as temporary:
        temporary.write_text(text)
    print(f"\n{text}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
