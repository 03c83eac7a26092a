"""Workdirs as fine-tuning leaves them, without the training: labels, and predictions that know something of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from dnabert_jax import evaluation
from dnabert_jax.config import EncoderConfig, FinetuneConfig, FinetunedEncoderConfig, LabelledConfig, to_json
from dnabert_jax.evaluation import judged

EPOCHS, PER_EPOCH = 3, 40
CLASSES = {
    "single_label": ("<b>no</b>", "TATA & co"),
    "multi_label": ("CTCF", "MYC", "REST"),
    "regression": ("value",),
    "per_base": ("E", "I", "U"),
}
KINDS = ("interior", "decoy")


def finished(folder: Path, target: str, *, count: int = 90, seed: int = 0, model: int = 0, **config: Any) -> Path:
    """The workdir of a run that has ended.

    Args:
      folder: where the workdir and, for each seed, its data go.
      target: what it predicts.
      count: examples of the test split; for `per_base` a third as many sequences.
      seed: of the data.
      model: of what it predicts; its workdir is named after it.
      config: fields of its config.
    """
    workdir, data = folder / f"{target}-{seed}-{model}", folder / f"{target}-{seed}-data"
    workdir.mkdir()
    classes = CLASSES[target]
    labels, sequences = _labels(target, count, seed)
    predictions = _predictions(target, labels, len(classes), model)
    ids = tuple(f"20:{number * 300}-{number * 300 + len(each)}(+)" for number, each in enumerate(sequences))
    found = judged.Judged(ids, labels, predictions)
    if target == "per_base":
        found = judged.Judged(tuple(np.repeat(ids, 3)), labels, predictions, np.tile([1, 2, 3], len(ids)))
    if not data.exists():
        _write_data(data, target, found, sequences)
    files = LabelledConfig(**{name: str(data / f"{name}.tsv") for name in ("train", "validation", "test")})
    encoder = FinetunedEncoderConfig().filled(EncoderConfig())
    run = FinetuneConfig(**{"init": "somewhere/pretrained", "encoder": encoder, "epochs": EPOCHS, **config})
    run = FinetuneConfig(**{**vars(run), "workdir": str(workdir), "target": target, "data": files})
    (workdir / "config.json").write_text(to_json(run))
    (workdir / "classes.json").write_text(json.dumps(classes))
    judged.write(workdir / judged.FILE, target, found, classes)
    figures = evaluation.figures(target, labels, predictions, classes)
    described: dict[str, Any] = {"sequences": len(ids), "digest": f"{target} {seed}"}
    if target != "regression":
        described["per_class"] = {name: 10 + number for number, name in enumerate(classes)}
    result = {
        "split": "test",
        "best_epoch": 2,
        "epochs": EPOCHS,
        "init": run.init,
        "params": 123_456,
        **figures,
        "data": dict.fromkeys(("train", "validation", "test"), described),
        "made_with": {"python": "3.11", "jax": "0.8", "devices": "1 × TPU"},
    }
    (workdir / "result.json").write_text(json.dumps(result))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in _metrics(figures)))
    return workdir


def _labels(target: str, count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    number = count // 3 if target == "per_base" else count
    sequences = ["".join(generator.choice(list("ACGT"), 200 if target == "single_label" else 5)) for _ in range(number)]
    if target == "regression":
        return generator.normal(1000, 5, (count, 1)).astype(np.float32), sequences
    if target == "multi_label":
        return generator.integers(0, 2, (count, 3)).astype(np.float32), sequences
    return generator.permutation(np.arange(count) % len(CLASSES[target])), sequences


def _predictions(target: str, labels: np.ndarray, classes: int, model: int) -> np.ndarray:
    generator = np.random.default_rng(100 + model)
    if target == "regression":
        return (labels + generator.normal(0, 3, labels.shape)).astype(np.float32)
    if target == "multi_label":
        return (0.3 * labels + 0.7 * generator.random(labels.shape)).astype(np.float32)
    drawn = generator.dirichlet(np.ones(classes), len(labels))
    return (0.7 * drawn + 0.3 * np.eye(classes)[labels]).astype(np.float32)


def _write_data(data: Path, target: str, found: judged.Judged, sequences: list[str]) -> None:
    data.mkdir()
    (data / "README.md").write_text(
        "# Sites of `chr20` & <more>\n\nMade <script>alert(1)</script> ![x](http://a.example/x.png)\n\n"
        "| what | count |\n| --- | ---: |\n| sites | 1,234 |\n"
    )
    rows = ["id\tkind\tlabel\tsequence"]
    for number, sequence in enumerate(sequences):
        at = 3 * number if target == "per_base" else number
        rows.append(f"{found.ids[at]}\t{KINDS[number % 2]}\tx\t{sequence}")
    (data / "test.tsv").write_text("\n".join(rows) + "\n")


def _metrics(figures: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for epoch in range(1, EPOCHS + 1):
        found.append({"step": epoch * PER_EPOCH, "split": "train", "loss": 1 / epoch, "step_time_ms": 500.0})
        plain = {name: value for name, value in figures.items() if isinstance(value, float | int)}
        found.append({"step": epoch * PER_EPOCH, "split": "validation", **plain})
    return found
