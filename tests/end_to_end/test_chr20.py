"""All of human chromosome 20 through the commands that a user types: build, train, task splice, finetune, predict.

One run of the five commands, about which the tests then ask. The model is small; what it is asked to learn is real.
"""

import collections
import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dnabert_jax.data import shards

pytestmark = pytest.mark.slow

STEPS = 200

RECIPE = f"""
from dnabert_jax.config import DataConfig, EncoderConfig, LoopConfig, MaskingConfig, OptimizerConfig, PretrainConfig

config = PretrainConfig(
    batch_size=64,
    row_length=128,
    encoder=EncoderConfig(
        k=4,
        layers=2,
        hidden=64,
        heads=4,
        intermediate=256,
        max_length=128,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        compute_dtype="float32",
    ),
    masking=MaskingConfig(rate=0.15, late_rate=0.15),
    data=DataConfig(method="cut"),
    optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=20, decay_steps={STEPS}),
    loop=LoopConfig(steps={STEPS}, report_every=20, validate_every=100, validation_rows=128, save_every=100),
)
"""

FINETUNING = """
from dnabert_jax.config import FinetuneConfig, FinetunedEncoderConfig

config = FinetuneConfig(
    encoder=FinetunedEncoderConfig(compute_dtype="float32"),
    batch_size=64,
    epochs=2,
    learning_rate=2e-3,
    dropout=0.0,
    report_every=50,
)
"""


def dnabert(folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    # Large arrays come from huge pages, which makes a step on the CPU about twice as fast; other systems ignore it.
    environment = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", **os.environ}
    command = [sys.executable, "-m", "dnabert_jax", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def genome(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the chromosome and its exons, where an index can be written beside the FASTA."""
    folder = tmp_path_factory.mktemp("chr20")
    shutil.copyfile(shared_data / "human_chr20_grch37.fa.gz", folder / "chr20.fa.gz")
    shutil.copyfile(shared_data / "human_chr20_grch37.refseq.gtf.gz", folder / "chr20.gtf.gz")
    (folder / "recipe.py").write_text(RECIPE)
    (folder / "finetuning.py").write_text(FINETUNING)
    return folder


@pytest.fixture(scope="module")
def built(genome: Path) -> Path:
    done = dnabert(
        genome, "build", "--fasta", "chr20.fa.gz", "--out", "shards", "--assembly", "GRCh37",
        "--validation", "chr20:50,000,001-55,000,000",
    )  # fmt: skip
    assert "63,025,520 bases" in done.stdout
    assert "chr20" in done.stderr  # the record is called 20, which is said
    return genome / "shards"


@pytest.fixture(scope="module")
def pretrained(genome: Path, built: Path) -> Path:
    dnabert(genome, "train", "recipe.py", "--workdir", "pretrained", "--data.path", built)
    return genome / "pretrained"


@pytest.fixture(scope="module")
def splice(genome: Path) -> Path:
    dnabert(
        genome, "task", "splice", "--fasta", "chr20.fa.gz", "--gtf", "chr20.gtf.gz", "--out", "splice", "--window", 100,
    )  # fmt: skip
    return genome / "splice"


@pytest.fixture(scope="module")
def finetuned(genome: Path, pretrained: Path, splice: Path) -> Path:
    labels = [f"--data.{name}={splice / name}.tsv" for name in ("train", "validation", "test")]
    done = dnabert(genome, "finetune", "finetuning.py", "--workdir", "finetuned", "--init", pretrained, *labels)
    assert f"loaded from {pretrained} (step {STEPS}): encoder" in done.stderr
    return genome / "finetuned"


@pytest.fixture(scope="module")
def predicted(genome: Path, finetuned: Path, splice: Path) -> Path:
    dnabert(genome, "predict", "--model", finetuned, "--input", splice / "test.tsv", "--output", "predictions.tsv")
    return genome / "predictions.tsv"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def reports(workdir: Path, split: str) -> list[dict]:
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [each for each in lines if each["split"] == split]


def test_the_build_holds_every_base_once(built):
    metadata = shards.open_split(built, "train"), shards.open_split(built, "validation")
    train, validation = ([(each.start, each.length) for each in split.contigs] for split in metadata)
    assert train == [(0, 50_000_000), (55_000_000, 63_025_520 - 55_000_000)]
    assert validation == [(50_000_000, 5_000_000)]
    assert {each.name for split in metadata for each in split.contigs} == {"20"}
    unknown = sum(int((bases == 4).sum()) for split in metadata for *_, bases in split.scan())
    assert unknown == 3_520_000  # as shared/data/README.md counts them


def test_pretraining_learns(pretrained):
    result = json.loads((pretrained / "result.json").read_text())
    before, after = result["validation_before"], result["validation"]
    assert result["steps"] == STEPS
    assert after["masked_tokens"] == before["masked_tokens"] > 1000
    assert after["loss"] < before["loss"] - 0.1
    assert after["bits_per_base"] < before["bits_per_base"]
    assert after["bits_per_base"] < 1.99  # 2 is uniform guessing
    training = reports(pretrained, "train")
    assert [each["step"] for each in training] == list(range(20, STEPS + 1, 20))
    assert training[-1]["loss"] < training[0]["loss"]
    assert all(each["useful_share"] > 0.97 for each in training)
    assert all(each["unplaced_tokens"] == 0 for each in training)


def test_the_splice_examples_are_real_sites(splice):
    train, validation, test = (table(splice / f"{name}.tsv") for name in ("train", "validation", "test"))
    # 4,905 introns have as many ends of either kind at most; what is left out is not canonical, cut off or repeated.
    for kind in ("donor", "acceptor"):
        assert 4000 < sum(each["label"] == kind for each in [*train, *validation, *test]) <= 4905
    assert {len(each["sequence"]) for each in [*train, *validation, *test]} == {100}
    donors = [each["sequence"] for each in train if each["label"] == "donor"]
    assert {each[50:52] for each in donors} == {"GT"}
    kept = {each["sequence"] for each in train}
    assert not kept & {each["sequence"] for each in [*validation, *test]}


def test_fine_tuning_learns_splice_sites(finetuned, splice):
    result = json.loads((finetuned / "result.json").read_text())
    labels = collections.Counter(each["label"] for each in table(splice / "test.tsv"))
    majority = max(labels.values()) / labels.total()
    assert result["split"] == "test"
    assert result["examples"] == labels.total()
    assert result["accuracy"] > majority + 0.2
    assert result["mcc"] > 0.5
    for picture in ("roc.png", "pr.png", "confusion.png"):
        assert (finetuned / picture).read_bytes().startswith(b"\x89PNG")


def test_predictions_are_a_row_a_record_in_order(predicted, splice, finetuned):
    rows, examples = table(predicted), table(splice / "test.tsv")
    classes = json.loads((finetuned / "classes.json").read_text())
    assert list(rows[0]) == ["id", "class", *classes]
    assert [row["id"] for row in rows] == [each["id"] for each in examples]
    for row in rows:
        shares = {name: float(row[name]) for name in classes}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert shares[row["class"]] == max(shares.values())
    right = sum(row["class"] == each["label"] for row, each in zip(rows, examples, strict=True))
    result = json.loads((finetuned / "result.json").read_text())
    assert right / len(rows) == pytest.approx(result["accuracy"], abs=0.01)
