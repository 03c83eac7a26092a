"""Every kind of target from a table of real sequences to a model that has learnt what is to be seen in them."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from dnabert_jax import embedded, kmers, stored
from dnabert_jax.config import EncoderConfig, FinetuneConfig, FinetunedEncoderConfig, LabelledConfig, LoraConfig
from dnabert_jax.data import fasta
from dnabert_jax.training import finetune, workdir
from tests import tiny
from tests.training import runs

pytestmark = pytest.mark.slow

ENCODER = dataclasses.replace(tiny.ENCODER, initializer_range=0.05)


@pytest.fixture(scope="module")
def genome() -> np.ndarray:
    with fasta.IndexedFasta(embedded.FASTA) as file:
        return file.fetch("20", 1_000_000, 1_200_000)


def letters(genome: np.ndarray, count: int, length: int, seed: int) -> list[str]:
    starts = np.random.default_rng(seed).choice(len(genome) // length, count, replace=False) * length
    return [kmers.decode(genome[start : start + length]) for start in starts]


def gc(sequence: str) -> float:
    return (sequence.count("G") + sequence.count("C")) / len(sequence)


def tables(folder: Path, sequences: list[str], label: Callable[[str], str]) -> LabelledConfig:
    """Three tables, of 70, 15 and 15 % of the sequences."""
    cuts = [0, round(0.7 * len(sequences)), round(0.85 * len(sequences)), len(sequences)]
    files = {}
    for name, start, end in zip(("train", "validation", "test"), cuts, cuts[1:]):
        rows = "".join(f"{sequence}\t{label(sequence)}\n" for sequence in sequences[start:end])
        (folder / f"{name}.tsv").write_text("sequence\tlabel\n" + rows)
        files[name] = str(folder / f"{name}.tsv")
    return LabelledConfig(**files)


def run(folder: Path, data: LabelledConfig, **more: Any) -> tuple[FinetuneConfig, dict[str, Any]]:
    values: dict[str, Any] = {
        "encoder": FinetunedEncoderConfig(compute_dtype="float32").filled(ENCODER),
        "workdir": str(folder / "workdir"),
        "data": data,
        "batch_size": 16,
        "epochs": 8,
        "learning_rate": 3e-3,
        "dropout": 0.0,
        **more,
    }
    config = FinetuneConfig(**values)
    finetune.run(config, lambda line: None)
    return config, json.loads((folder / "workdir" / "result.json").read_text())


def test_any_number_of_classes(genome: np.ndarray, tmp_path: Path):
    def label(sequence: str) -> str:
        return ";".join(name for name, has in (("rich", gc(sequence) > 0.45), ("cpg", "CG" in sequence)) if has)

    sequences = letters(genome, 300, 60, 0)
    assert {label(sequence) for sequence in sequences} == {"", "rich", "cpg", "rich;cpg"}
    config, result = run(tmp_path, tables(tmp_path, sequences, label), target="multi_label")
    assert result["mcc"] > 0.6
    assert set(result["per_class"]) == {"cpg", "rich"}
    assert stored.read(config.workdir, pytest.fail).config.classes == ("cpg", "rich")


def test_numbers_in_their_own_units(genome: np.ndarray, tmp_path: Path):
    def label(sequence: str) -> str:
        return f"{5000 + 100 * gc(sequence):.2f}"

    sequences = letters(genome, 300, 60, 1)
    data = tables(tmp_path, sequences, label)
    config, result = run(tmp_path, data, target="regression")
    assert result["r2"] > 0.8
    assert result["rmse"] < 5
    said: list[str] = []
    again = dataclasses.replace(config, init=config.workdir, workdir=str(tmp_path / "again"), epochs=1)
    finetune.run(dataclasses.replace(again, learning_rate=1e-6), said.append)
    assert any(line.startswith("loaded from") and "classifier" in line for line in said)
    assert json.loads((tmp_path / "again" / "result.json").read_text())["r2"] == pytest.approx(result["r2"], abs=0.02)


def in_cpg(sequence: str) -> str:
    """y for the bases of a CG, n for others, and three at each end without a label."""
    marks = ["n"] * len(sequence)
    for at in range(len(sequence) - 1):
        if sequence[at : at + 2] == "CG":
            marks[at] = marks[at + 1] = "y"
    return "..." + "".join(marks)[3:-3] + "..."


def test_a_class_for_each_base(genome: np.ndarray, tmp_path: Path):
    sequences = [each for each in letters(genome, 600, 60, 2) if "CG" in each]
    data = tables(tmp_path, sequences, in_cpg)
    _, result = run(tmp_path, data, target="per_base", epochs=10)
    test = sequences[round(0.85 * len(sequences)) :]
    assert result["examples"] == sum(len(sequence) - 6 for sequence in test)
    assert result["mcc"] > 0.9


def test_a_class_for_each_base_of_sequences_in_pieces(genome: np.ndarray, tmp_path: Path):
    sequences = [each for each in letters(genome, 250, 150, 3) if "CG" in each]
    data = tables(tmp_path, sequences, in_cpg)
    _, result = run(tmp_path, data, target="per_base", pieces=3, epochs=10)
    assert result["mcc"] > 0.9


@pytest.mark.parametrize("join", ["mean", "concatenate"])
def test_sequences_in_pieces(genome: np.ndarray, tmp_path: Path, join: str):
    sequences = letters(genome, 300, 150, 4)
    middle = float(np.median([gc(sequence) for sequence in sequences]))
    far = [sequence for sequence in sequences if abs(gc(sequence) - middle) > 0.03]
    data = tables(tmp_path, far, lambda sequence: "high" if gc(sequence) > middle else "low")
    config, result = run(tmp_path, data, pieces=3, join=join)
    assert result["accuracy"] > 0.75
    model = stored.read(config.workdir, pytest.fail)
    assert (model.config.pieces, model.config.join) == (3, join)
    assert model.params["classifier"]["kernel"].shape == (32 * (3 if join == "concatenate" else 1), 2)


def test_low_rank_adaptation(genome: np.ndarray, tmp_path: Path):
    sequences = letters(genome, 300, 60, 5)
    data = tables(tmp_path, sequences, lambda sequence: f"{100 * gc(sequence):.2f}")
    (tmp_path / "base").mkdir()
    flags = tables(tmp_path / "base", sequences, lambda sequence: str(int("CG" in sequence)))
    base_config, _ = run(tmp_path / "base", flags, epochs=1)
    base = stored.read(base_config.workdir, pytest.fail)
    config, result = run(
        tmp_path / "adapted",
        data,
        init=base_config.workdir,
        encoder=FinetunedEncoderConfig(compute_dtype="float32"),
        target="regression",
        lora=LoraConfig(rank=4, alpha=8),
        learning_rate=1e-2,
    )
    assert result["r2"] > 0.5
    adapted = stored.read(config.workdir, pytest.fail)
    assert set(adapted.params) == {"encoder", "pooler", "classifier"}
    before, after = (runs.arrays(model.params["encoder"]) for model in (base, adapted))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("['layers']") and name.endswith("['kernel']")}
    for name in changed:
        difference = (after[name] - before[name])[0]
        if "qkv" in name:
            difference = difference[:, 0].reshape(32, 32)
        singular = np.linalg.svd(difference.reshape(-1, difference.shape[-1]), compute_uv=False)
        assert singular[4] < 1e-4 * singular[0]
    checkpoints = Path(config.workdir) / workdir.CHECKPOINTS
    assert any(checkpoints.iterdir())
    assert isinstance(adapted.config.encoder, EncoderConfig)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(adapted.params))
