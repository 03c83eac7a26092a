"""Reports show the figures of `result.json`, open without a network, and refuse what they cannot be made of."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dnabert_jax import cli, report
from dnabert_jax.config import PretrainConfig, to_json
from dnabert_jax.errors import InputError
from dnabert_jax.evaluation import judged
from dnabert_jax.evaluation.weighted import NAMES
from dnabert_jax.report.document import number
from dnabert_jax.report.judgement import TITLES
from tests.report import workdirs
from tests.report.pages import Page


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module", params=list(workdirs.CLASSES))
def of_target(request: pytest.FixtureRequest, folder: Path) -> tuple[str, dict, Page]:
    """The target, `result.json` and the report of a run."""
    workdir = workdirs.finished(folder, request.param)
    path = report.write(workdir, say=pytest.fail)
    assert path == workdir / "report.html"
    return request.param, json.loads((workdir / "result.json").read_text()), Page(path.read_text())


@pytest.fixture(scope="module")
def two(folder: Path) -> tuple[Path, Path]:
    """Two models judged on the same data."""
    first = workdirs.finished(folder, "single_label", model=1, seed=1)
    return first, workdirs.finished(folder, "single_label", model=2, seed=1, random_params=True)


def ends(cell: str) -> tuple[float, float]:
    low, high = cell.split(" to ")
    return float(low), float(high)


def test_the_figures_are_those_of_the_result_inside_their_intervals(of_target):
    target, result, page = of_target
    rows = page.table("figure", "value", "95 % interval")
    assert [row[0] for row in rows] == [TITLES[name] for name in NAMES[target]]
    for name, (_, value, interval) in zip(NAMES[target], rows, strict=True):
        assert value == number(result[name])
        low, high = ends(interval)
        assert low <= float(value) <= high


def test_every_class_has_its_figures(of_target):
    target, result, page = of_target
    if target == "regression":
        return
    for row, (name, each) in zip(page.table("class"), result["per_class"].items(), strict=True):
        counts = [str(result["data"][split]["per_class"][name]) for split in ("train", "validation", "test")]
        names = ("f1", "mcc", "precision", "recall", "auroc", "auprc")
        assert row == [name, *counts, *(number(each[figure]) for figure in names)]


def test_the_pictures_and_sections_of_a_target(of_target):
    target, _, page = of_target
    pictures = {"single_label": 5, "per_base": 5, "multi_label": 4, "regression": 2}
    assert len(page.pictures) == pictures[target]
    assert all("</svg>" in each for each in page.pictures)
    assert ("Reliability" in page.headings) == (target != "regression")
    assert {"Figures", "Learning", "Most wrong", "How the model was made", "The data"} <= set(page.headings)


def test_it_is_named_after_its_data_whose_readme_it_shows(of_target):
    _, _, page = of_target
    assert page.headings[0] == "Sites of chr20 & <more>"
    assert page.headings.count("Sites of chr20 & <more>") == 1
    assert page.table("what", "count") == [["sites", "1,234"]]


def test_it_says_how_the_model_was_made(of_target):
    _, _, page = of_target
    for words in ("somewhere/pretrained", "123,456 params", "3, of which 2 did best", "60 s", "1 × TPU", "jax 0.8"):
        assert words in page.text


def test_the_most_wrong_come_first_with_their_sequences(of_target, folder):
    target, result, page = of_target
    rows = page.table("id")
    found = judged.read(folder / f"{target}-0-0" / judged.FILE, target, workdirs.CLASSES[target])
    if target == "single_label":
        true = found.predictions[np.arange(90), found.labels]
        wrong = [at for at in np.argsort(true) if found.predictions[at].argmax() != found.labels[at]]
        assert [row[0] for row in rows] == [found.ids[at] for at in wrong[:20]]
        assert [row[3] for row in rows] == [number(float(true[at])) for at in wrong[:20]]
        table = (folder / f"{target}-0-data" / "test.tsv").read_text().splitlines()[1:]
        sequence = table[wrong[0]].split("\t")[3]
        assert rows[0][-1] == f"…{sequence[60:140]}…"
        assert rows[0][-2] == workdirs.KINDS[wrong[0] % 2]
        kinds = page.table("kind", "class")
        assert sum(int(row[2]) for row in kinds) == 90
        right = sum(int(row[2]) * float(row[3]) for row in kinds)
        assert right / 90 == pytest.approx(result["accuracy"], abs=1e-4)
    elif target == "regression":
        off = np.abs(found.predictions - found.labels)[:, 0]
        assert [row[0] for row in rows] == [found.ids[at] for at in np.argsort(-off)[:20]]
    elif target == "per_base":
        wrong = (found.predictions.argmax(axis=1) != found.labels).reshape(-1, 3).sum(axis=1)
        assert [int(row[1]) for row in rows] == sorted(wrong, reverse=True)[: len(rows)]
    else:
        assert all(int(row[3]) >= 1 and row[1] != row[2] for row in rows)


def test_it_is_the_same_every_time_and_replaces_the_one_before(two, tmp_path):
    path = tmp_path / "r.html"
    path.write_text("before")
    assert report.write(two[0], output=path, say=pytest.fail) == path
    first = path.read_bytes()
    report.write(two[0], output=path, say=pytest.fail)
    assert path.read_bytes() == first
    assert [each.name for each in tmp_path.iterdir()] == ["r.html"]


def test_models_judged_on_the_same_data_stand_side_by_side(two, tmp_path):
    page = Page(report.write(two[0], against=[two[1]], output=tmp_path / "r.html", say=pytest.fail).read_text())
    results = [json.loads((each / "result.json").read_text()) for each in two]
    names = [each.name for each in two]
    for name, row in zip(NAMES["single_label"], page.table("figure", *names), strict=True):
        for result, cell in zip(results, row[1:], strict=True):
            assert cell.startswith(number(result[name]))
    for name, row in zip(NAMES["single_label"], page.table("figure", names[1]), strict=True):
        off = results[0][name] - results[1][name]
        assert row[1].startswith(("+" if off > 0 else "") + number(off))
    models = page.table("model")
    assert [row[1] for row in models] == [
        "somewhere/pretrained",
        "random params, in the shape of somewhere/pretrained",
    ]
    assert len(page.pictures) == 7


def refusal(workdir: Path, **others) -> str:
    before = sorted(workdir.iterdir()) if workdir.is_dir() else None
    with pytest.raises(InputError) as refused:
        report.write(workdir, **others, say=pytest.fail)
    assert (sorted(workdir.iterdir()) if workdir.is_dir() else None) == before
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_models_judged_on_other_data_are_refused(two, folder):
    other = workdirs.finished(folder, "single_label", seed=2)
    assert "was judged on other data" in refusal(two[0], against=[other])
    assert "predicts regression" in refusal(two[0], against=[workdirs.finished(folder, "regression", seed=2)])
    assert "is the run itself" in refusal(two[0], against=[two[1], two[0]])


def test_what_is_no_finished_run_is_refused(two, tmp_path):
    assert "holds no config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text(to_json(PretrainConfig()))
    assert "belongs to a pretraining run" in refusal(tmp_path)
    for name, words in (("result.json", "has not ended; start the same"), (judged.FILE, "start the same fine-tuning")):
        copy = shutil.copytree(two[0], tmp_path / name)
        (copy / name).unlink()
        assert words in refusal(copy)


def test_damaged_files_are_refused(two, tmp_path):
    copy = shutil.copytree(two[0], tmp_path / "copy")
    path = copy / judged.FILE
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2].rpartition("\t")[0] + "\n")
    assert f"{path}: line " in refusal(copy)
    path.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    assert "gives examples 89, but result.json has 90" in refusal(copy)
    path.write_text(whole)
    (copy / "result.json").write_text("{")
    assert "result.json: cannot be read" in refusal(copy)
    (copy / "result.json").write_text("[]")
    assert "result.json: holds list" in refusal(copy)


def test_an_output_that_is_no_page_is_refused(two, tmp_path):
    assert "ends in .html" in refusal(two[0], output=two[0] / "result.json")
    assert "cannot be written" in refusal(two[0], output=tmp_path / "none" / "r.html")


def test_data_that_have_gone_are_said_and_left_out(folder, tmp_path):
    workdir = workdirs.finished(tmp_path, "single_label")
    shutil.rmtree(tmp_path / "single_label-0-data")
    (workdir / "metrics.jsonl").unlink()
    said: list[str] = []
    page = Page(report.write(workdir, say=said.append).read_text())
    assert len(said) == 1
    assert "the report shows no sequences" in said[0]
    assert page.headings[0] == "Fine-tuned model single_label-0-0"
    assert "Learning" not in page.headings
    assert "sequence" not in page.tables[-2][0]


def test_the_command_writes_it_and_says_where(two, tmp_path, capsys):
    output = tmp_path / "r.html"
    cli.COMMANDS["report"]("dnabert report", [str(two[0]), "--against", str(two[1]), "--output", str(output)])
    assert capsys.readouterr().out == f"{output}\n"
    assert cli._status(lambda: cli.COMMANDS["report"]("dnabert report", [str(tmp_path)])) == 2
