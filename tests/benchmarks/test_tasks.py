import json
from pathlib import Path

import numpy as np
import pytest
import table
import tasks
from sklearn.metrics import matthews_corrcoef

from dnabert_jax import kmers, stored
from dnabert_jax.config import FinetuneConfig, FinetunedEncoderConfig
from dnabert_jax.errors import Interrupted
from dnabert_jax.evaluation import judged
from tests import tiny
from tests.training import runs

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A task: whether the middle of 30 bases reads GT."""
    generator = np.random.default_rng(0)
    made = tmp_path / "task"
    made.mkdir()
    for split, count in (("train", 300), ("validation", 60), ("test", 60)):
        bases = generator.integers(0, 4, (count, 30), dtype=np.uint8)
        bases[::2, 14:16] = kmers.encode("GT")
        rows = (f"{'decoy' if at % 2 else 'site'}\t{kmers.decode(row)}\n" for at, row in enumerate(bases))
        (made / f"{split}.tsv").write_text("label\tsequence\n" + "".join(rows))
    return made


def _run(folder: Path, out: Path, *others: str) -> int:
    return tasks.main(["--data", f"sites={folder}", "--out", str(out), *others])


def test_a_table_with_the_figures_of_each_row(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert _run(folder, out, "--rows", "onehot", "kmers") == 0
    text = (out / "results.md").read_text()
    assert text in capsys.readouterr().out
    for name in ("onehot", "kmers"):
        run = json.loads((out / "sites" / name / "seed0.json").read_text())
        said = judged.read(out / "sites" / name / "seed0" / judged.FILE, "single_label", ("decoy", "site"))
        mcc = matthews_corrcoef(said.labels, said.predictions.argmax(axis=1))
        assert run["figures"]["mcc"] == pytest.approx(mcc)
        line = next(line for line in text.splitlines() if line.startswith(f"| {table.TITLES[name]}"))
        assert f" {mcc:.3f} (" in line
    assert run["figures"]["examples"] == 60


def test_what_is_there_is_not_run_again_but_not_for_other_data(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert _run(folder, out, "--rows", "onehot") == 0
    monkeypatch.setitem(tasks.ROWS, "onehot", None)
    assert _run(folder, out, "--rows", "onehot") == 0
    test = folder / "test.tsv"
    test.write_text(test.read_text() + f"site\t{'A' * 30}\n")
    assert _run(folder, out, "--rows", "onehot") == 1
    assert "expected another --out" in capsys.readouterr().out


def test_a_row_that_fails_leaves_the_others(folder, tmp_path, monkeypatch, capsys):
    def fails(task, seed, folder):
        raise ValueError("no such thing")

    monkeypatch.setitem(tasks.ROWS, "onehot", fails)
    assert _run(folder, tmp_path / "out", "--rows", "onehot", "kmers") == 1
    text = (tmp_path / "out" / "results.md").read_text()
    assert table.TITLES["kmers"] in text
    assert table.TITLES["onehot"] not in text
    assert "no such thing" in capsys.readouterr().err


def test_a_run_of_ours_that_is_asked_to_stop_stops_all(folder, tmp_path, monkeypatch):
    def stops(task, seed, folder):
        raise Interrupted("stopped")

    monkeypatch.setitem(tasks.ROWS, "pretrained", stops)
    assert _run(folder, tmp_path / "out", "--init", "W", "--recipe", "splice") == 75
    assert not (tmp_path / "out" / "results.md").exists()


def test_the_difference_is_paired_and_seeds_are_averaged(tmp_path):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 200)
    accuracies: dict[str, list[float]] = {}
    for name, seeds, right in (("pretrained", 2, 0.95), ("random", 2, 0.8), ("kmers", 1, 0.6)):
        for seed in range(seeds):
            score = np.where(generator.random(200) < right, labels, 1 - labels) * 0.8 + 0.1
            at = tmp_path / "sites" / name / f"seed{seed}"
            at.mkdir(parents=True)
            said = judged.Judged(tuple(map(str, range(200))), labels, np.stack([1 - score, score], axis=1))
            judged.write(at / judged.FILE, "single_label", said, ("0", "1"))
            figures = tasks.evaluation.figures("single_label", labels, said.predictions, ("0", "1"))
            accuracies.setdefault(name, []).append(figures["accuracy"])
            run = {"classes": ["0", "1"], "figures": figures, "seed": seed, "settings": {}, "params": 1}
            made_with = {"date": "2026-01-01", "hardware": "a machine", "versions": "some"}
            run |= {"made_of": {"data": "these"}, "minutes": 1.0, "epochs": 5, "best_epoch": 4, "made_with": made_with}
            at.with_suffix(".json").write_text(json.dumps(run))
    text = table.markdown(tmp_path, {"sites": "these"}, list(table.TITLES), "command")
    ours, others = (np.array(accuracies[name]) for name in ("pretrained", "random"))
    assert f"- accuracy: {ours.mean() - others.mean():+.3f} (" in text
    assert f"{ours.mean():.3f} ± {ours.std(ddof=1):.3f} (" in text
    assert "No row" in table.markdown(tmp_path, {"sites": "others"}, list(table.TITLES), "command")
    found = table.read(tmp_path / "sites", "pretrained")
    assert found.resampled["accuracy"].mean() == pytest.approx(ours.mean(), abs=0.01)


def test_every_row_of_a_small_model(folder, tmp_path, monkeypatch, capsys):
    config, params = tiny.model("masked_lm")
    stored.write(tmp_path / "model", config, params)
    recipe = runs.recipe(
        FinetuneConfig(encoder=FinetunedEncoderConfig(compute_dtype="float32"), epochs=2, learning_rate=1e-3),
        tmp_path / "recipe.py",
    )
    for shape in tasks.cnn.TRIED:
        monkeypatch.setitem(tasks.cnn.TRIED, shape, {"both_strands": (False,)})
    others = ["--init", str(tmp_path / "model"), "--recipe", str(recipe), "--seeds", "0", "1"]
    assert _run(folder, tmp_path / "out", *others) == 0
    text = (tmp_path / "out" / "results.md").read_text()
    assert all(title in text for title in table.TITLES.values())
    assert "minus the best other row" in text
