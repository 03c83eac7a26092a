"""The table at the end of `make demo`, with a logistic regression on one-hot bases fitted in the same run."""

import json
import sys
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression

from dnabert_jax import evaluation
from dnabert_jax.data import labelled

BASES = 4


def one_hot(examples: labelled.Examples) -> np.ndarray:
    """float32[examples, length * 4]; N is all zeros."""
    bases = np.stack(examples.sequences)
    return (bases[:, :, None] == np.arange(BASES)).reshape(len(bases), -1).astype(np.float32)


def regression(folder: Path) -> dict:
    """Figures of a logistic regression whose penalty is chosen on the validation set."""
    longest = 10**6
    train = labelled.read(folder / "train.tsv", k=1, max_kmers=longest)
    validation = labelled.read(folder / "validation.tsv", k=1, max_kmers=longest, classes=train.classes)
    test = labelled.read(folder / "test.tsv", k=1, max_kmers=longest, classes=train.classes)
    models = [
        LogisticRegression(C=strength, max_iter=300).fit(one_hot(train), train.labels)
        for strength in (0.001, 0.01, 0.1)
    ]
    best = max(models, key=lambda model: model.score(one_hot(validation), validation.labels))
    return evaluation.figures("single_label", test.labels, best.predict_proba(one_hot(test)), test.classes)


def main(demo: Path) -> None:
    read = {
        name: json.loads((demo / name / "result.json").read_text())
        for name in ("pretrained", "splice-pretrained", "splice-random")
    }
    pretrained = read["pretrained"]
    console = Console(width=100)
    table = Table(box=box.SIMPLE, title="Masked bases, validation", title_justify="left")
    for column in ("", "bits per base", "masked-token loss (nats)", "masked-token accuracy"):
        table.add_column(column, justify="left" if not column else "right")
    for when, name in (("before pretraining", "validation_before"), ("after", "validation")):
        figures = pretrained[name]
        table.add_row(
            when, f"{figures['bits_per_base']:.4f}", f"{figures['loss']:.3f}", f"{figures['masked_accuracy']:.2%}"
        )
    console.print(table)

    table = Table(box=box.SIMPLE, title="Splice sites, test regions", title_justify="left")
    for column in ("", "accuracy", "F1 (macro)", "MCC"):
        table.add_column(column, justify="left" if not column else "right")
    rows = {
        "DNABERT, pretrained params": read["splice-pretrained"],
        "DNABERT, random params": read["splice-random"],
        "logistic regression on one-hot bases": regression(demo / "splice"),
    }
    for name, figures in rows.items():
        table.add_row(name, *(f"{figures[key]:.3f}" for key in ("accuracy", "f1", "mcc")))
    console.print(table)
    examples = read["splice-pretrained"]["examples"]
    console.print(f"{examples} test examples; results, curves and predictions are in {demo}/", soft_wrap=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
