"""Models of several factors: run, stopped, resumed, held to their options, with files that are none of peaks."""

import csv
import gzip
import json
import shutil
import signal
from pathlib import Path
from statistics import mean, median

import numpy as np
import pytest

from dnabert_jax import cli, factors, kmers, stored
from dnabert_jax.config import FinetuneConfig, FinetunedEncoderConfig
from dnabert_jax.errors import InputError, Interrupted
from dnabert_jax.tasks import tfbs
from tests import tiny
from tests.training import runs

WINDOW, PEAKS = 24, 60
EXAMPLES = tfbs.Options(window=WINDOW)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """`good/` peaks of two factors, `peaks/` with a bad file and a README too, `genome.fa`, `model` and `recipe.py`."""
    folder = tmp_path_factory.mktemp("factors")
    rng = np.random.default_rng(5)
    bases = rng.integers(0, 4, 20_000, dtype=np.uint8)
    starts = np.arange(100, 100 + 300 * PEAKS, 300)
    for start in starts:
        bases[start + 8 : start + 16] = kmers.encode("GGGCGGGG")
    (folder / "genome.fa").write_text(f">chr1\n{kmers.decode(bases)}\n")
    (folder / "peaks").mkdir()
    rows = "".join(f"1\t{start}\t{start + WINDOW}\n" for start in starts)
    (folder / "peaks" / "SP1.bed.gz").write_bytes(gzip.compress(rows.encode()))
    rows = "".join(f"chr1\t{start}\t{start + 50}\t.\t0\t.\t1\t-1\t-1\t12\n" for start in starts[::2])
    (folder / "peaks" / "KLF4.narrowPeak").write_text(rows)
    shutil.copytree(folder / "peaks", folder / "good")
    (folder / "peaks" / "BAD.bed").write_text("chr1\t5\t3\n")
    (folder / "peaks" / "README.txt").write_text("where they are from\n")
    stored.write(folder / "model", *tiny.model("masked_lm"))
    config = FinetuneConfig(
        encoder=FinetunedEncoderConfig(compute_dtype="float32"), epochs=2, batch_size=16, learning_rate=1e-3
    )
    runs.recipe(config, folder / "recipe.py")
    return folder


def run(given: Path, out: Path, peaks: str = "peaks", **changes):
    options = {"fasta": given / "genome.fa", "recipe": str(given / "recipe.py"), "init": str(given / "model")}
    said = []
    changes = {"examples": EXAMPLES, "say": said.append} | options | changes
    return factors.run(given / peaks, out, **changes), said


class Trainer:
    """Stands in for training: invents figures, and is interrupted in the second factor when it first comes there."""

    def __init__(self) -> None:
        self.came: list[tuple[str, str, str, int]] = []

    def __call__(self, dataset: Path, recipe: str, init: str, workdir: Path, say, seed: int):
        assert (dataset / "train.tsv").is_file()
        self.came.append((workdir.parent.name, recipe, init, seed))
        if len(self.came) == 2:
            raise Interrupted("SIGTERM: saved step 8")
        value = 0.5 + 0.1 * len(self.came)
        result = {"split": "test", "examples": 12, "mcc": None, "accuracy": value, "f1": value / 2, "auroc": value}
        workdir.mkdir()
        (workdir / "result.json").write_text(json.dumps(result))
        return result


@pytest.fixture(scope="module")
def done(given, tmp_path_factory):
    """Folder, outcome, what was said, and the trainer of a run that was interrupted and started again."""
    out, trainer = tmp_path_factory.mktemp("done") / "out", Trainer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factors.experiment, "finetuned", trainer)
        with pytest.raises(Interrupted, match="saved step 8"):
            run(given, out)
        before = runs.contents(out / "KLF4"), runs.contents(out / "SP1")
        assert list(before[1]) == [name for name in before[1] if name.startswith("data/")] != []
        outcome, said = run(given, out)
    after = runs.contents(out / "SP1")
    after.pop("model/result.json")
    assert (runs.contents(out / "KLF4"), after) == before
    return out, outcome, said, trainer


@pytest.mark.slow
def test_real_training_is_stopped_and_goes_on(given, tmp_path):
    with pytest.raises(Interrupted, match="SIGTERM: saved step 8"), runs.stopped_in(8):
        run(given, tmp_path / "out")
    assert not (tmp_path / "out/SP1/model/result.json").exists()
    before = runs.contents(tmp_path / "out/KLF4"), runs.contents(tmp_path / "out/SP1/data")
    outcome, said = run(given, tmp_path / "out")
    assert (runs.contents(tmp_path / "out/KLF4"), runs.contents(tmp_path / "out/SP1/data")) == before
    assert list(outcome.results) == ["KLF4", "SP1"]
    assert "SP1: resuming from step 8" in said
    for name, result in outcome.results.items():
        assert json.loads((tmp_path / "out" / name / "model/result.json").read_text()) == result
        assert result["split"] == "test"
        assert (tmp_path / "out" / name / "model/roc.png").is_file()


def test_every_factor_is_trained_from_the_same_params_and_a_finished_one_is_left(done, given):
    _, outcome, said, trainer = done
    same = (str(given / "recipe.py"), str(given / "model"), 0)
    assert trainer.came == [("KLF4", *same), ("SP1", *same), ("SP1", *same)]
    assert list(outcome.results) == ["KLF4", "SP1"]
    assert not [line for line in said if line.startswith("KLF4")]


def test_a_bad_file_is_said_and_left_out(done, given):
    out, outcome, said, _ = done
    assert list(outcome.failed) == ["BAD"]
    assert "line 1: an interval from 5 to 3" in outcome.failed["BAD"]
    assert [line for line in said if line.startswith("BAD")] == [f"BAD: left out: {outcome.failed['BAD']}"]
    assert f"{given / 'peaks'}: 1 files are no peaks by their names: README.txt" in said
    assert not (out / "BAD").exists()


def test_the_table_holds_the_figures_and_the_means_are_theirs(done):
    out, outcome, *_ = done
    with open(out / "factors.tsv", newline="") as file:
        rows = {row["factor"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert list(rows) == ["KLF4", "SP1"]
    for name, result in outcome.results.items():
        assert int(rows[name]["examples"]) == result["examples"]
        for figure in ("accuracy", "f1", "auroc"):
            assert float(rows[name][figure]) == result[figure]
        assert rows[name]["mcc"] == ""
    values = [float(row["f1"]) for row in rows.values()]
    assert f"| f1 | {mean(values):.4f} | {median(values):.4f} |" in str(outcome).splitlines()
    assert (out / "factors.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "factors.html").read_text()
    assert "Binding sites of 2 factors" in page
    assert page.count("data:image/svg") == 1
    for shown in (*rows, f"{mean(values):.4f}", "line 1: an interval from 5 to 3"):
        assert shown in page


def test_the_command_prints_the_table_and_fails_by_the_bad_one(done, given, capsys):
    out, outcome, *_ = done
    arguments = ["--peaks", given / "peaks", "--out", out, "--fasta", given / "genome.fa", "--init", given / "model"]
    arguments += ["--recipe", given / "recipe.py", "--window", WINDOW]
    status = cli._status(lambda: cli._dispatch("dnabert", cli.COMMANDS, ["factors", *map(str, arguments)]))
    assert status == 1
    printed, said = capsys.readouterr()
    assert printed == f"{outcome}\n"
    assert said.splitlines()[-1] == "error: 1 of 3 factors gave no model: BAD"


@pytest.mark.parametrize(("after", "message"), [("examples", "the examples are made"), ("training", "KLF4 is done")])
def test_a_signal_waits_for_what_is_at_work(given, tmp_path, monkeypatch, after, message):
    trainer, make = Trainer(), tfbs.make

    def made(*arguments, **others):
        if after == "examples":
            signal.raise_signal(signal.SIGTERM)
        return make(*arguments, **others)

    def trained(*arguments, **others):
        signal.raise_signal(signal.SIGTERM)
        return trainer(*arguments, **others)

    monkeypatch.setattr(factors.tfbs, "make", made)
    monkeypatch.setattr(factors.experiment, "finetuned", trained)
    with pytest.raises(Interrupted, match=f"SIGTERM: {message}"):
        run(given, tmp_path / "out", peaks="good")
    assert (tmp_path / "out/KLF4/data/train.tsv").is_file()
    assert not (tmp_path / "out/SP1").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"examples": tfbs.Options(window=WINDOW, seed=3)}, ["examples.seed (0 → 3)", "training.seed (0 → 3)"]),
        ({"examples": tfbs.Options(window=30)}, ["examples.window (24 → 30)"]),
        ({"init": ""}, ["training.init"]),
        ({"recipe": "tfbs"}, ["training.epochs (2 → 5)", "training.learning_rate"]),
        ({"fasta": None}, ["fasta"]),
    ],
)
def test_other_options_are_named(done, given, changes, named):
    with pytest.raises(InputError, match="begun with other options") as caught:
        run(given, done[0], **changes)
    for each in named:
        assert each in str(caught.value)


def test_options_may_change_until_a_factor_has_begun(given, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "BAD.bed").write_text("chr1\t5\t3\n")
    for window in (24, 30):
        with pytest.raises(InputError, match=r"none of 1 factors gave a model; the first: .*BAD.bed: line 1"):
            run(given, tmp_path / "out", peaks=str(bad), examples=tfbs.Options(window=window))


def test_what_no_factor_could_do_with_is_told_before_anything_is_made(given, tmp_path):
    wrong = [
        ({"fasta": tmp_path / "none.fa"}, "none.fa: cannot be read"),
        ({"recipe": "tfsb"}, "unknown recipe 'tfsb'"),
        ({"init": str(given / "peaks")}, "is no model folder"),
        ({"examples": tfbs.Options(validation=("chr7",))}, "no record 'chr7'"),
        ({"peaks": str(given / "model")}, "no peak file; expected"),
        ({"peaks": str(tmp_path / "none")}, "none: cannot be read"),
    ]
    for changes, message in wrong:
        with pytest.raises(InputError, match=message):
            run(given, tmp_path / "out", **changes)
        assert list(tmp_path.iterdir()) == []


def test_two_files_of_one_name(given, tmp_path):
    for name in ("CTCF.bed", "CTCF.narrowPeak.gz"):
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match=r"CTCF.bed and CTCF.narrowPeak.gz are both of CTCF"):
        run(given, tmp_path / "out", peaks=str(tmp_path))


def test_a_folder_with_other_files_is_left_alone(given, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"holds thesis.txt but no options.json"):
        run(given, tmp_path)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("CTCF.bed", "CTCF"),
        ("CTCF.rep1.narrowPeak.gz", "CTCF.rep1"),
        ("ENCFF001.narrowPeak.bed.gz", "ENCFF001"),
        ("oct4_peaks_200bp.fa", "oct4_peaks_200bp"),
        ("genome.fa.fai", None),
        ("notes.txt.gz", None),
        (".bed", None),
    ],
)
def test_the_name_of_a_factor(file, name):
    assert factors._name(Path(file)) == name
