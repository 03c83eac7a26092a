"""Scanning: every window and every read once, scores and regions as a slow loop finds them, and files that open."""

import itertools
import json

import numpy as np
import pytest

from dnabert_jax import kmers, loaded, scanning
from dnabert_jax.config import FinetuneConfig, ModelConfig, to_json
from dnabert_jax.data import annotation, fasta
from dnabert_jax.data.regions import Region
from dnabert_jax.errors import InputError
from dnabert_jax.inference import predictions
from tests import tiny

LENGTH, WINDOW = 12, 41


def _genome(folder, **records):
    path = folder / "genome.fa"
    path.write_text("".join(f">{name}\n{letters}\n" for name, letters in records.items()))
    return path


def _letters(length, seed=0):
    return kmers.decode(tiny.dna(length, seed=seed)[0])


def _score(bases):
    """Something that the bases decide: the share of G and C, and which comes first."""
    return float(np.isin(bases, (kmers.G, kmers.C)).mean()) * 0.8 + 0.02 * int(bases[0])


@pytest.fixture(scope="module")
def model():
    return loaded.Model(*tiny.model("single_label", ("other", "promoter")), "random", 4)


@pytest.fixture
def asked(model, monkeypatch):
    """Puts `_score` in the place of a model's, and collects what it is asked for."""
    seen = []

    def predict(config, params, sequences, *, batch_size):
        for tag, bases in sequences:
            seen.append(bases)
            yield tag, np.array([1 - _score(bases), _score(bases)], np.float32)

    monkeypatch.setattr(predictions, "predict", predict)
    monkeypatch.setattr(scanning, "_BLOCK", 100)
    monkeypatch.setattr(loaded, "load", lambda *_, **__: model)
    return seen


def _slow_windows(letters, start, end, grid, strand, reduce):
    """{start of a window: its score}, each window by itself."""
    found = {}
    for at in range(start, end - grid.window + 1, grid.stride):
        values = []
        for offset in range(0, grid.window - grid.length + 1, grid.step):
            read = kmers.encode(letters[at + offset : at + offset + grid.length])
            values.append(_score(kmers.reverse_complement(read) if strand == "-" else read))
        stop = at + (grid.reads - 1) * grid.step + grid.length
        if "N" not in letters.upper()[at : at + grid.window]:
            found[at] = reduce(values)
        assert stop <= at + grid.window
    return found


@pytest.mark.parametrize(
    ("stride", "step", "score"), [(10, 5, "max"), (10, 10, "mean"), (4, 1, "max"), (40, 8, "mean"), (41, 41, "max")]
)
def test_windows_are_those_of_a_slow_loop_and_each_read_is_computed_once(stride, step, score, asked, model, tmp_path):
    letters = {
        "a": _letters(333, 1) + "NNN" + _letters(60, 2) + "N" + _letters(30, 3) + "N" + _letters(250, 4),
        "b": "N" * 130 + _letters(150, 5) + "n" * 220,
        "short": _letters(WINDOW - 1, 6),
    }
    grid = scanning.Grid(LENGTH, WINDOW, stride, step)
    territory = [Region("a", 7, 330), Region("a", 331, 640), Region("b", 0, 500), Region("short", 0, WINDOW - 1)]
    found, heard = {}, []
    with fasta.IndexedFasta(_genome(tmp_path, **letters)) as genome:
        for each in scanning.scores(model, genome, territory, grid, "+-", 1, score, heard.append):
            for number, values in enumerate(each.values.T):
                key = each.record, each.start + number * stride
                assert key not in found
                found[key] = values
    done = [each.bases for each in heard]
    assert done == sorted(done)
    assert 0.6 * heard[-1].total < done[-1] <= heard[-1].total == 323 + 309 + 500 + WINDOW - 1
    for column, strand in enumerate("+-"):
        expected = {
            (region.name, at): value
            for region in territory
            for at, value in _slow_windows(
                letters[region.name], region.start, region.end, grid, strand, max if score == "max" else np.mean
            ).items()
        }
        assert list(found) == list(expected)
        np.testing.assert_allclose([value[column] for value in found.values()], list(expected.values()), rtol=1e-5)
    reads = {
        (region.name, start + offset)
        for region in territory
        for start in _slow_windows(letters[region.name], region.start, region.end, grid, "+", max)
        for offset in range(0, WINDOW - LENGTH + 1, step)
    }
    assert len(asked) == 2 * len(reads)


def _slow_regions(tiles, threshold):
    """[start, end, score] of runs of tiles, {(start, end): score}, one tile after another."""
    found = []
    for (start, end), value in sorted(tiles.items()):
        if value < threshold:
            continue
        if found and found[-1][1] == start:
            found[-1][1:] = [end, max(found[-1][2], value)]
        else:
            found.append([start, end, value])
    return found


def _tiles(path):
    header, *rows = path.read_text().splitlines()
    assert header.startswith("track type=bedGraph name=")
    parted = [row.split("\t") for row in rows]
    return [(record, int(start), int(end), float(value)) for record, start, end, value in parted]


@pytest.fixture
def run(tmp_path, asked):
    genome = _genome(tmp_path, chr1=_letters(900, 7) + "N" + _letters(400, 8), chr2=_letters(300, 9))

    def start(**options):
        options = {"length": LENGTH, "window": WINDOW, "stride": 10, "step": 5, "threshold": 0.62, **options}
        return scanning.scan("model", genome, tmp_path / "found", say=pytest.fail, **options)

    start.folder, start.genome = tmp_path, genome
    return start


def test_files(run):
    summary = run()
    rows = list(annotation.bed(run.folder / "found.bed"))
    assert [row.name for row in rows] == [f"region_{number}" for number in range(1, len(rows) + 1)]
    assert [(row.record, row.start, row.strand) for row in rows] == sorted(
        (row.record, row.start, row.strand) for row in rows
    )
    for strand, name in (("+", "plus"), ("-", "minus")):
        tiles = _tiles(run.folder / f"found.{name}.bedgraph")
        assert tiles == sorted(tiles)
        for (record, _, end, _), (after, start, _, _) in itertools.pairwise(tiles):
            assert record != after or end <= start
        assert {end - start for _, start, end, _ in tiles} == {10}
        expected = [
            (record, *region)
            for record in ("chr1", "chr2")
            for region in _slow_regions({(s, e): v for r, s, e, v in tiles if r == record}, 0.62)
        ]
        here = [call for call in summary.called if call.strand == strand]
        assert [(call.record, call.start, call.end) for call in here] == [each[:3] for each in expected]
        np.testing.assert_allclose([call.score for call in here], [each[3] for each in expected], atol=1e-4)
        assert len(here) > 5
    assert summary.windows == sum(len(_tiles(run.folder / f"found.{name}.bedgraph")) for name in ("plus", "minus"))
    lines = (run.folder / "found.bed").read_text().splitlines()
    assert [int(line.split("\t")[4]) for line in lines] == [round(1000 * call.score) for call in summary.called]
    made = json.loads((run.folder / "found.json").read_text())
    assert (made["class"], made["called"], made["figures"]) == ("promoter", len(rows), None)


def test_a_tile_is_the_centre_of_its_window(run):
    run(named=["chr2:101-300"], strand="+")
    tiles = _tiles(run.folder / "found.plus.bedgraph")
    assert tiles[0][:3] == ("chr2", 100 + 20 - 5, 100 + 20 + 5)
    assert not (run.folder / "found.minus.bedgraph").exists()
    letters = "".join(run.genome.read_text().split(">chr2\n")[1].split())
    expected = _slow_windows(letters, 100, 300, scanning.Grid(LENGTH, WINDOW, 10, 5), "+", max)
    np.testing.assert_allclose([tile[3] for tile in tiles], list(expected.values()), atol=1e-4)


def test_regions_that_overlap_are_scanned_once_and_another_class_may_be_asked_for(run):
    whole = run(named=["chr2"])
    assert run(named=["chr2:150-300", "chr2:1-200"]).called == whole.called
    assert run(named=["chr2"], cls="other").called != whole.called


def test_against_tss_of_bed_and_gtf(run):
    call = next(call for call in run().called if call.record == "chr2")
    inside = (call.start + call.end) // 2
    bed, gtf = run.folder / "tss.bed", run.folder / "tss.gtf"
    bed.write_text(f"2\t{inside}\t{inside + 1}\tx\t0\t{call.strand}\n2\t5\t6\ty\t0\t+\n")
    first, last = (inside + 1, inside + 9) if call.strand == "+" else (inside - 9, inside + 1)
    gtf.write_text(f'2\t.\texon\t{first}\t{last}\t.\t{call.strand}\t.\tgene_id "a"; transcript_id "a";\n')
    said = []
    options = {"length": LENGTH, "window": WINDOW, "stride": 10, "step": 5, "threshold": 0.62, "say": said.append}
    for source, elsewhere in ((bed, 1), (gtf, 0)):
        summary = scanning.scan("model", run.genome, run.folder / "found", tss=source, **options)
        figures = json.loads((run.folder / "found.json").read_text())["figures"]
        assert figures == summary.counts.figures()
        assert (figures["tss"], figures["tss_elsewhere"], figures["tss_found"]) == (1, elsewhere, 1.0)
        near = [
            each
            for each in summary.called
            if (each.record, each.strand) == ("chr2", call.strand) and each.end - each.start <= 300
        ]
        assert figures["true_positives"] == len(near)  # all of a record of 300 bases is within 500
        assert "precision" in str(summary)
    assert said[0].endswith(f"is taken to be record chr2 of {run.genome}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window is 0; expected 1 base or more"),
        ({"length": 42}, "length is 42; expected 1 to 41"),
        ({"length": 2}, "length is 2; expected 3 to 64 bases, what model reads"),
        ({"stride": 42}, "stride is 42; expected 1 to 41"),
        ({"step": 3}, "step is 3; expected a divisor of the stride, 10"),
        ({"threshold": 0.0}, "threshold is 0.0; expected more than 0"),
        ({"cls": "enhancer"}, "class is 'enhancer'; expected one of other, promoter"),
        ({"named": ["chr1:880-920"]}, "genome.fa: no window of 41 bases without N"),
        ({"named": ["chr3"]}, "no record 'chr3'"),
        ({"tss": "found.bed"}, "found.bed: cannot be read"),
    ],
)
def test_wrong_input_leaves_nothing(run, options, message):
    with pytest.raises(InputError, match=message):
        run(**options)
    assert sorted(each.name for each in run.folder.iterdir()) in (["genome.fa"], ["genome.fa", "genome.fa.fai"])


def test_a_failure_on_the_way_leaves_nothing(run, monkeypatch):
    def broken(*_, **__):
        raise MemoryError

    monkeypatch.setattr(scanning.calls, "count", broken)
    (run.folder / "tss.bed").write_text("2\t100\t101\tx\t0\t+\n")
    with pytest.raises(MemoryError):
        scanning.scan(
            "model", run.genome, run.folder / "x", length=LENGTH, window=WINDOW, stride=10, step=5,
            tss=run.folder / "tss.bed", say=str,
        )  # fmt: skip
    assert not list(run.folder.glob("*x.*"))


def test_heads_that_give_no_class(tmp_path, monkeypatch):
    genome = _genome(tmp_path, a=_letters(100))
    for head in ("per_base", "regression"):
        model = loaded.Model(ModelConfig(tiny.ENCODER, head, ("x", "y")), {}, "without params")
        monkeypatch.setattr(loaded, "load", lambda *_, model=model, **__: model)
        with pytest.raises(InputError, match="m: gives no probability of a class to a sequence"):
            scanning.scan("m", genome, tmp_path / "x", length=LENGTH, window=WINDOW)


def test_the_length_of_the_training_examples(tmp_path):
    rows = [f"{_letters(20, seed)}\t{seed % 2}" for seed in range(4)]
    (tmp_path / "train.tsv").write_text("sequence\tlabel\n" + "\n".join(rows) + "\n")
    config = FinetuneConfig(encoder=tiny.FINETUNED)
    object.__setattr__(config.data, "train", str(tmp_path / "train.tsv"))
    (tmp_path / "config.json").write_text(to_json(config))
    said = []
    assert scanning._trained_length(tmp_path, said.append) == 20
    assert said == ["the model reads 20 bases at once, the length of its training examples"]
    with open(tmp_path / "train.tsv", "a") as file:
        file.write("ACGTACGT\t0\n")
    with pytest.raises(InputError, match=r"train.tsv: has examples of 8 to 20 bases; expected --length"):
        scanning._trained_length(tmp_path, said.append)
    (tmp_path / "train.tsv").unlink()
    with pytest.raises(InputError, match=r"train.tsv: its training examples cannot be read any more; expected --len"):
        scanning._trained_length(tmp_path, said.append)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(InputError, match="does not say how long its training examples were; expected --length"):
        scanning._trained_length(tmp_path, said.append)


def test_with_a_real_model(model, tmp_path, monkeypatch):
    monkeypatch.setattr(loaded, "load", lambda *_, **__: model)
    letters = _letters(200, 11)
    genome = _genome(tmp_path, a=letters)
    summary = scanning.scan(
        "m", genome, tmp_path / "x", length=30, window=50, stride=20, step=10, strand="-", say=pytest.fail
    )
    tiles = _tiles(tmp_path / "x.minus.bedgraph")
    assert summary.windows == len(tiles) == 8
    reads = [kmers.reverse_complement(kmers.encode(letters[at : at + 30])) for at in range(0, 171, 10)]
    probabilities = model.predict(reads)[:, 1]
    np.testing.assert_allclose(
        [tile[3] for tile in tiles], [probabilities[at : at + 3].max() for at in range(0, 16, 2)], atol=1e-4
    )


def test_the_folder_of_the_output_is_made(run):
    (run.folder / "file").touch()
    options = {"length": LENGTH, "window": WINDOW, "stride": 10, "step": 5}
    with pytest.raises(InputError, match=r"file/calls: cannot be made \(.*\); expected a folder to write in"):
        scanning.scan("model", run.genome, run.folder / "file" / "calls" / "x", **options)
    scanning.scan("model", run.genome, run.folder / "new" / "calls", **options)
    assert (run.folder / "new" / "calls.bed").is_file()
