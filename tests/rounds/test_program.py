"""Rounds on the embedded genome: with a model that knows its examples by heart, and once with a real one."""

import csv
import dataclasses
import gzip
import hashlib
import itertools
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dnabert_jax import embedded, experiment, kmers, loaded
from dnabert_jax.config import ModelConfig
from dnabert_jax.data import fasta
from dnabert_jax.errors import InputError, Interrupted
from dnabert_jax.inference import predictions
from dnabert_jax.rounds import program
from dnabert_jax.tasks import splice
from dnabert_jax.tasks.splits import Choice
from dnabert_jax.training import workdir
from tests import tiny

CLASSES = ("acceptor", "donor", "neither")
LENGTH = 460_000
EXAMPLES = splice.Options(window=40, choice=Choice(("20:340001-400000",), ("20:1-90000",)))
REGION = "chr20:400001-430000"
LEARNT = 0.8
"""The share of its counter-examples that the model below learns."""


def _read(file):
    with open(file, encoding="utf-8", newline="") as rows:
        return list(csv.DictReader(rows, delimiter="\t"))


def _share(bases):
    """A number from 0 to 1 that follows from the bases."""
    return int.from_bytes(hashlib.sha256(bytes(bases)).digest()[:4], "big") / 2**32


@pytest.fixture(scope="module")
def slice_of_20(tmp_path_factory):
    """The beginning of the embedded genome, and the exons in it."""
    folder = tmp_path_factory.mktemp("slice")
    with fasta.IndexedFasta(embedded.FASTA) as genome:
        (folder / "slice.fa").write_text(f">20\n{kmers.decode(genome.fetch('20', 0, LENGTH))}\n")
    rows = gzip.decompress(embedded.GTF.read_bytes()).decode().splitlines(keepends=True)
    inside = (row for row in rows if not row.startswith("#") and int(row.split("\t")[4]) <= LENGTH)
    (folder / "slice.gtf").write_text("".join(inside))
    return folder / "slice.fa", folder / "slice.gtf"


@pytest.fixture
def by_heart(monkeypatch):
    """Puts in the place of training and model something that calls sites by two letters, unless it was told better.

    Of every border with GT or AG it calls one in ten, but not most of those that its training examples label neither.
    """
    trained = []

    def finetuned(dataset, recipe, init, folder, say, **overrides):
        trained.append((dataset, recipe, init, overrides))
        folder.mkdir(parents=True)
        result = {"split": "test", "accuracy": 0.5, "f1": 0.4, "mcc": len((dataset / "train.tsv").read_bytes()) / 1e9}
        workdir.write_json(folder / "result.json", result)
        return result

    def load(folder, **_):
        rows = _read(folder.parent / "data" / "train.tsv")
        told = {row["sequence"] for row in rows if row["label"] == "neither" and _share(row["id"].encode()) < LEARNT}
        return SimpleNamespace(config=ModelConfig(tiny.ENCODER, "single_label", CLASSES), params=told, batch_size=4)

    def predict(config, told, asked, *, batch_size):
        half = EXAMPLES.half
        for each, bases in asked:
            letters = kmers.decode(bases)
            called = "donor" if letters[half : half + 2] == "GT" else "acceptor"
            sure = _share(bases)
            values = {name: 0.0 for name in CLASSES}
            if letters in told or sure > 0.1:
                values["neither"] = 1.0
            else:
                values[called] = 1.0 - sure
            yield each, np.array([values[name] for name in CLASSES], np.float32)

    monkeypatch.setattr(experiment, "finetuned", finetuned)
    monkeypatch.setattr(loaded, "load", load)
    monkeypatch.setattr(predictions, "predict", predict)
    return trained


@pytest.fixture
def start(by_heart, slice_of_20, tmp_path):
    def run(**options):
        options = {"recipe": "splice", "named": [REGION], "examples": EXAMPLES, "say": lambda line: None, **options}
        return program.run(*slice_of_20, tmp_path / "out", **options)

    run.folder = tmp_path / "out"
    return run


def test_rounds_add_false_positives_until_there_are_no_fewer(start, by_heart):
    outcome = start(rounds=6, most_added=300)
    table = _read(start.folder / "rounds.tsv")
    assert [int(row["round"]) for row in table] == list(range(len(outcome.rows)))
    counts = [int(row["false_positives"]) for row in table]
    assert len(counts) >= 3
    assert all(after < before for before, after in itertools.pairwise(counts))
    assert counts[0] > 200
    assert [str(dataset) for dataset, *_ in by_heart] == [
        str(start.folder / f"round-{number}" / "data") for number in range(len(counts))
    ]
    assert {(recipe, init, overrides["seed"]) for _, recipe, init, overrides in by_heart} == {("splice", "", 0)}

    added = 0
    for number in range(len(counts)):
        folder = start.folder / f"round-{number}"
        rows = _read(folder / "data" / "train.tsv")
        found = _read(folder / "false_positives.tsv")
        probabilities = [float(row["probability"]) for row in found]
        assert probabilities == sorted(probabilities, reverse=True)
        assert len(found) == min(300, int(table[number]["false_positives"])) or number
        kinds = Counter(row["kind"] for row in rows)
        for before in range(number):
            kind = f"false positive of round {before}"
            given = _read(start.folder / f"round-{before}" / "false_positives.tsv")
            assert 0 < kinds[kind] <= len(given)
            places = {(row["record"], int(row["position"]), row["strand"]) for row in given}
            here = [row for row in rows if row["kind"] == kind]
            assert {(row["record"], int(row["start"]) + EXAMPLES.half, row["strand"]) for row in here} <= places
            assert {row["label"] for row in here} == {"neither"}
        assert len(rows) == int(table[number]["training_examples"])
        assert number == 0 or len(rows) > added
        added = len(rows)
        for split in ("validation", "test"):
            same = [(start.folder / f"round-{each}" / "data" / f"{split}.tsv").read_bytes() for each in (0, number)]
            assert same[0] == same[1]
    assert found == []  # the last round called nothing that its examples do not hold
    assert "<svg" not in (start.folder / "rounds.html").read_text()  # pictures are images inside it
    assert "Precision and recall by round" in (start.folder / "rounds.html").read_text()
    assert str(outcome).count("\n") == len(counts) + 1


def test_the_same_with_a_stop_between_as_without(start, by_heart, monkeypatch, tmp_path):
    start(rounds=1)
    files = {each.relative_to(start.folder): each.read_bytes() for each in start.folder.rglob("*.tsv")}
    shutil.rmtree(start.folder)

    start(rounds=0)
    before = files[Path("rounds.tsv")].splitlines(keepends=True)
    assert (start.folder / "rounds.tsv").read_bytes() == b"".join(before[:2])
    before = len(by_heart)

    class Stopped:
        received = None

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    stop = Stopped()
    train = experiment.finetuned

    def stopped_then(*arguments, **options):
        stop.received = "SIGTERM"
        return train(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(program, "StopSignals", lambda: stop)
        patch.setattr(experiment, "finetuned", stopped_then)
        with pytest.raises(Interrupted, match="SIGTERM: round-1 is trained; start again with the same command"):
            start(rounds=1)
    assert len(by_heart) == before + 1
    assert not (start.folder / "round-1" / "counts.json").exists()
    start(rounds=1)
    assert {each.relative_to(start.folder) for each in start.folder.rglob("*.tsv")} == set(files)
    for name, content in files.items():
        assert (start.folder / name).read_bytes() == content
    done = len(by_heart)
    start(rounds=1)
    assert len(by_heart) == done


def test_a_stop_while_examples_are_made_comes_before_training(start, by_heart, monkeypatch):
    make = splice.make

    def made(*arguments, **others):
        signal.raise_signal(signal.SIGTERM)
        return make(*arguments, **others)

    monkeypatch.setattr(splice, "make", made)
    with pytest.raises(Interrupted, match="SIGTERM: the examples of round-0 are made; start again"):
        start(rounds=0)
    assert by_heart == []
    assert (start.folder / "round-0" / "data" / "train.tsv").is_file()


def test_rounds_end_where_there_are_no_fewer(start, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "LEARNT", 0.0)
    said = []
    outcome = start(rounds=6, most_added=7, say=said.append)
    first, second = (row["false_positives"] for row in outcome.rows)
    assert first == second
    assert said[-1] == f"round 1: {second} false positives after {first}; no more rounds"


def test_other_options_than_those_of_the_first_start(start):
    start(rounds=0, most_added=5)
    with pytest.raises(
        InputError, match=r"begun with other options: most_added \(5 → 6\), examples.window \(40 → 60\)"
    ):
        start(rounds=0, most_added=6, examples=splice.Options(window=60, choice=EXAMPLES.choice))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"named": []}, "no region to score"),
        (
            {"named": ["20:100001-350000"]},
            "region 20:100001-350000: shares bases with 20:340001-400000, which is for val",
        ),
        ({"named": ["20:50001-50100"]}, "which is for test; expected training territory: 20:90001-340000"),
        ({"named": ["20:100001-100100", "20:100050-100200"]}, "region 20:100001-100100 shares bases with 20:10"),
        ({"named": ["21"]}, "no record '21'"),
        ({"rounds": -1}, "rounds are -1; expected 0 or more"),
        ({"most_added": 0}, "most added is 0; expected 1 or more"),
        ({"recipe": "nowhere.py"}, "nowhere.py"),
        ({"init": "no/such/folder/at/all"}, "no/such/folder"),
    ],
)
def test_wrong_input_begins_nothing(start, options, message):
    with pytest.raises(InputError, match=message):
        start(**options)
    assert not (start.folder / "options.json").exists()


def test_a_folder_of_something_else(start):
    start.folder.mkdir()
    (start.folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds notes.txt but no options.json; expected an empty or new folder"):
        start()


@pytest.mark.slow
def test_with_a_model_that_is_trained(slice_of_20, tmp_path):
    recipe = tmp_path / "small.py"
    recipe.write_text(
        "from dnabert_jax.config import FinetuneConfig, FinetunedEncoderConfig\n"
        "encoder = FinetunedEncoderConfig(k=3, layers=1, hidden=32, heads=2, intermediate=64, max_length=64, "
        "compute_dtype='float32')\n"
        "config = FinetuneConfig(encoder=encoder, batch_size=16, epochs=20, learning_rate=3e-3)\n"
    )
    outcome = program.run(
        *slice_of_20,
        tmp_path / "out",
        recipe=str(recipe),
        named=["20:400001-420000"],
        examples=dataclasses.replace(EXAMPLES, negatives=("exon",)),  # so that a GT or AG is all that is learnt
        rounds=1,
        say=lambda line: None,
    )
    first, second = outcome.rows
    assert first["borders"] == second["borders"] > 4_000
    assert 0 < first["false_positives"] <= first["borders"]
    assert second["training_examples"] > first["training_examples"]
    assert second["false_positives"] < first["false_positives"]
