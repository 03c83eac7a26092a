"""Prediction: every base in a window, every record in its place, and scores that are the model's own."""

import dataclasses
import itertools
import json
import os
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert_jax import kmers, loaded, prediction, sharding, stored
from dnabert_jax.config import FinetuneConfig, MeshConfig, ModelConfig, to_json
from dnabert_jax.data import sequences
from dnabert_jax.data.sequences import Sequence
from dnabert_jax.errors import InputError, RunStopped
from dnabert_jax.model.heads import fine_tuned, initializer
from dnabert_jax.training import state, workdir
from dnabert_jax.training.checkpoints import Checkpoints
from tests import tiny

CONFIG = FinetuneConfig(encoder=tiny.FINETUNED, dropout=0.1)
CLASSES = ("neither", "donor site", "acceptor")
LONGEST = tiny.ENCODER.max_kmers + tiny.ENCODER.k - 1


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A workdir as fine-tuning leaves it, with random params."""
    folder = tmp_path_factory.mktemp("model")
    workdir.write_text(folder / "config.json", to_json(CONFIG))
    workdir.write_json(folder / workdir.CLASSES, list(CLASSES))
    init = initializer(CONFIG.fine_tuned(CLASSES))
    with sharding.use(sharding.make_mesh(MeshConfig(), jax.devices()[:1])) as mesh:
        like = state.parameter_layout(init, jax.random.key(0), mesh)
        params = jax.jit(lambda key: nn.unbox(init(key)), out_shardings=state.shardings(like))
        made = state.State(jnp.asarray(7, jnp.int32), params(jax.random.key(5)), None)
        with Checkpoints(folder / workdir.BEST, 1) as best:
            best.save(7, made, {})
            best.wait()
    return folder


@pytest.fixture(scope="module")
def classifier(model):
    return loaded.load(model, compute_dtype="float32", attention="xla", batch_size=4, say=pytest.fail)


@pytest.fixture
def ready(classifier, monkeypatch):
    """Lets `predict` use the model that is loaded already, and compiled."""
    _use(classifier, monkeypatch)


def _use(model: loaded.Model, monkeypatch) -> None:
    monkeypatch.setattr(
        loaded, "load", lambda source, *, batch_size, say: dataclasses.replace(model, batch_size=batch_size)
    )


@pytest.fixture(scope="module")
def direct(classifier):
    """The probabilities of one sequence by itself, by the model alone, without any padding."""
    network = fine_tuned(CONFIG.fine_tuned(tuple(CLASSES)))
    apply = jax.jit(lambda *inputs: network.apply({"params": classifier.params}, *inputs, deterministic=True))

    def probabilities(bases: np.ndarray) -> np.ndarray:
        tokens = np.array([[kmers.CLS, *kmers.tokenize(bases, tiny.ENCODER.k), kmers.SEP]], np.int32)
        positions = np.arange(tokens.shape[1], dtype=np.int32)[None]
        logits = apply(tokens, np.ones_like(tokens), positions)[0]
        exponents = np.exp(np.asarray(logits, np.float64))
        return exponents / exponents.sum()

    return probabilities


def _records(*lengths: int, seed: int = 0) -> list[Sequence]:
    generator = np.random.default_rng(seed)
    return [
        Sequence(f"record{place}", generator.integers(0, 4, length, dtype=np.uint8))
        for place, length in enumerate(lengths)
    ]


def _rows(path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]


MIXED = _records(40, LONGEST, 3, 17, 40, 3, 17)


@given(st.integers(1, 300), st.integers(1, 70), st.data())
@settings(max_examples=150, deadline=None)
def test_windows_cover_every_base(length, longest, data):
    stride = data.draw(st.integers(1, longest))
    record = Sequence("r", np.zeros(length, np.uint8))
    found = list(prediction.windows(record, longest, stride))
    covered = np.zeros(length, int)
    for start, end in found:
        assert 0 <= start < end <= length
        assert end - start == min(longest, length)
        covered[start:end] += 1
    assert covered.min() >= 1
    starts = [start for start, _ in found]
    assert starts == sorted(set(starts))
    assert starts[:-1] == [stride * place for place in range(len(found) - 1)]
    assert found[-1][1] == length


@pytest.mark.parametrize(
    ("length", "longest", "stride", "expected"),
    [
        (5, 10, 4, [(0, 5)]),
        (10, 10, 4, [(0, 10)]),
        (11, 10, 4, [(0, 10), (1, 11)]),
        (18, 10, 4, [(0, 10), (4, 14), (8, 18)]),
        (20, 10, 10, [(0, 10), (10, 20)]),
    ],
)
def test_windows_by_hand(length, longest, stride, expected):
    assert list(prediction.windows(Sequence("r", np.zeros(length, np.uint8)), longest, stride)) == expected


def test_scores_are_the_models_own(classifier, direct):
    for record, scored in zip(MIXED, prediction.score(classifier, MIXED), strict=True):
        assert (scored.id, scored.start, scored.end) == (record.id, 0, len(record.bases))
        assert scored.values.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(scored.values, direct(record.bases), rtol=1e-4, atol=1e-5)


def test_the_scores_tell_sequences_apart(classifier):
    """Without this the tests that compare scores would show little."""
    scores = np.array([scored.values for scored in prediction.score(classifier, MIXED)])
    assert np.ptp(scores, axis=0).max() > 0.02


@pytest.mark.parametrize("batch_size", [1, 5])
def test_batches_change_nothing(classifier, batch_size):
    expected = list(prediction.score(classifier, MIXED))
    found = list(prediction.score(dataclasses.replace(classifier, batch_size=batch_size), MIXED))
    assert [each[:3] for each in found] == [each[:3] for each in expected]
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a.values, b.values, rtol=1e-4, atol=1e-5)


def test_no_records_no_scores(classifier):
    assert list(prediction.score(classifier, [])) == []


def test_records_are_read_as_they_are_needed(classifier):
    """An endless file gives its scores, and the next ones."""
    records = (record for _ in itertools.count() for record in MIXED)
    scores = prediction.score(dataclasses.replace(classifier, batch_size=2), records)
    assert [each.id for each in itertools.islice(scores, 1000)] == [MIXED[at % len(MIXED)].id for at in range(1000)]


def test_a_record_that_is_too_long(classifier):
    records = _records(10, LONGEST, LONGEST + 1)
    with pytest.raises(InputError) as caught:
        list(prediction.score(classifier, records, source="in.fa"))
    assert str(caught.value).startswith("in.fa: record 'record2' has 65 bases; expected at most 64")
    assert "`--long window`" in str(caught.value)


@pytest.mark.parametrize(("stride", "step"), [(0, 32), (10, 10), (LONGEST, LONGEST)])
def test_windows_are_scored_as_records_of_their_own(classifier, direct, stride, step):
    records = _records(150, 17, LONGEST, 70)
    found = list(prediction.score(classifier, records, long="window", stride=stride))
    expected = [(record.id, *window) for record in records for window in prediction.windows(record, LONGEST, step)]
    assert [each[:3] for each in found] == expected
    by_name = {record.id: record.bases for record in records}
    for name, start, end, _, values in found[:3] + found[-2:]:
        np.testing.assert_allclose(values, direct(by_name[name][start:end]), rtol=1e-4, atol=1e-5)


def test_the_stride_of_the_shortest_model():
    """Half of a window of one base is no stride."""
    encoder = dataclasses.replace(tiny.without_dropout(), k=1, max_length=3)
    config = ModelConfig(encoder, "single_label", ("a", "b"))
    params = nn.unbox(initializer(config)(jax.random.key(0)))
    found = prediction.score(loaded.Model(config, params, "random", 2), _records(3), long="window")
    assert [each[1:3] for each in found] == [(0, 1), (1, 2), (2, 3)]


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "in.fa"
    path.write_text("".join(f">{record.id} some text\n{kmers.decode(record.bases)}\n" for record in MIXED))
    return path


def _check(path, ids, sequences, direct) -> None:
    """Rows as documented, in order, with the model's probabilities and the likeliest class."""
    header, *rows = _rows(path)
    assert header == ["id", "class", *CLASSES]
    assert [row[0] for row in rows] == ids
    for (_, name, *columns), bases in zip(rows, sequences, strict=True):
        expected = direct(bases)
        np.testing.assert_allclose([float(each) for each in columns], expected, atol=2e-5)
        assert name == CLASSES[int(np.argmax([float(each) for each in columns]))]
        assert all(len(each.split(".")[1]) == 6 for each in columns)


def test_fasta_in_rows_out(model, direct, fasta, tmp_path):
    out = tmp_path / "out.tsv"
    assert prediction.predict(model, fasta, out, batch_size=4, say=pytest.fail) == len(MIXED)
    _check(out, [record.id for record in MIXED], [record.bases for record in MIXED], direct)


@pytest.mark.parametrize(("suffix", "delimiter"), [("tsv", "\t"), ("csv", ",")], ids=["tsv", "csv"])
def test_a_table_in_rows_out(ready, model, direct, tmp_path, suffix, delimiter):
    file, out = tmp_path / f"in.{suffix}", tmp_path / "out.tsv"
    lines = [f"{record.id}{delimiter}x{delimiter}{kmers.decode(record.bases).lower()}" for record in MIXED]
    file.write_text("\n".join([delimiter.join(["id", "note", "sequence"]), *lines]) + "\n")
    assert prediction.predict(model, file, out, batch_size=4, say=pytest.fail) == len(MIXED)
    _check(out, [record.id for record in MIXED], [record.bases for record in MIXED], direct)


def test_bed_with_its_fasta_in_rows_out(ready, model, direct, tmp_path):
    genome = _records(500, seed=3)[0].bases
    (tmp_path / "genome.fa").write_text(f">chr1\n{kmers.decode(genome)}\n")
    bed, out = tmp_path / "in.bed", tmp_path / "out.tsv"
    bed.write_text("1\t100\t140\tsecond\t0\t-\n1\t0\t64\n1\t436\t500\tlast\t0\t+\n")
    said = []
    assert prediction.predict(model, bed, out, fasta=tmp_path / "genome.fa", batch_size=4, say=said.append) == 3
    sequences = [kmers.reverse_complement(genome[100:140]), genome[:64], genome[436:]]
    _check(out, ["second", "1:0-64", "last"], sequences, direct)
    assert len(said) == 1
    assert "chr1" in said[0]


def test_windows_in_rows_out(ready, model, direct, tmp_path):
    record = _records(100)[0]
    file, out = tmp_path / "in.fa", tmp_path / "out.tsv"
    file.write_text(f">long\n{kmers.decode(record.bases)}\n>short\nACGTACGT\n")
    assert prediction.predict(model, file, out, long="window", stride=30, batch_size=4, say=pytest.fail) == 4
    header, *rows = _rows(out)
    assert header == ["id", "start", "end", "class", *CLASSES]
    places = [("long", "0", "64"), ("long", "30", "94"), ("long", "36", "100"), ("short", "0", "8")]
    assert [tuple(row[:3]) for row in rows] == places
    np.testing.assert_allclose([float(each) for each in rows[1][4:]], direct(record.bases[30:94]), atol=2e-5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f">a\nACGTACGT\n>b\n{'A' * 65}\n", "record 'b' has 65 bases; expected at most 64"),
        (">a\nACGTACGT\n>b\nAC\n", "record 'b': 2 bases; expected at least 3"),
        (">a\nACGTACGT\n>b\nACQT\n", "'Q'"),
        (">a\nACGTACGT\n>a\nACGT\n", "'a'"),
        ("", "empty file"),
        ("hello\n", "expected FASTA"),
        ("id\tletters\na\tACGT\n", ""),
        ("id\tsequence\na\tACGT\nb\t\n", "line 3"),
    ],
    ids=["too long", "too short", "stray letter", "twice", "empty", "no sequences", "no column", "empty sequence"],
)
@pytest.mark.parametrize("exists", [False, True], ids=["new output", "old output"])
def test_bad_input_leaves_no_output_and_the_old_one(ready, model, tmp_path, text, said, exists):
    file, out = tmp_path / "in.txt", tmp_path / "out.tsv"
    file.write_text(text)
    if exists:
        out.write_text("old\n")
    with pytest.raises(InputError) as caught:
        prediction.predict(model, file, out, batch_size=1, say=lambda line: None)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert said in message
    assert "\n" not in message
    assert sorted(each.name for each in tmp_path.iterdir()) == (["in.txt", "out.tsv"] if exists else ["in.txt"])
    assert not exists or out.read_text() == "old\n"


def test_an_earlier_output_is_replaced(ready, model, fasta, tmp_path):
    out = tmp_path / "out.tsv"
    out.write_text("old\n")
    prediction.predict(model, fasta, out, batch_size=4, say=pytest.fail)
    assert len(_rows(out)) == len(MIXED) + 1


def test_a_file_of_the_model_is_not_replaced(ready, model, fasta):
    config = Path(model) / "config.json"
    before = config.read_bytes()
    with pytest.raises(InputError, match="belongs to the model; expected a file outside it"):
        prediction.predict(model, fasta, config, say=lambda line: None)
    assert config.read_bytes() == before


@pytest.mark.parametrize("alias", [False, True], ids=["by its name", "by a link"])
@pytest.mark.parametrize("role", ["input", "fasta"])
def test_a_file_that_is_read_is_not_replaced(ready, model, fasta, tmp_path, role, alias):
    bed = tmp_path / "in.bed"
    bed.write_text("a\t0\t40\n")
    read = {"input": bed, "fasta": fasta}
    output = read[role]
    if alias:
        output = tmp_path / "link"
        output.symlink_to(read[role])
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    with pytest.raises(InputError, match="is the input; expected another file"):
        prediction.predict(model, read["input"], output, fasta=read["fasta"], batch_size=4, say=pytest.fail)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_an_input_that_breaks_off_is_told_apart_from_the_output(ready, model, fasta, tmp_path, monkeypatch):
    def broken(*_, **__):
        yield Sequence("a", np.zeros(40, np.uint8))
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(sequences, "read", broken)
    with pytest.raises(InputError, match=r"in\.fa: cannot be read to its end .Input/output error"):
        prediction.predict(model, fasta, tmp_path / "out.tsv", batch_size=1, say=pytest.fail)
    assert [each.name for each in tmp_path.iterdir()] == ["in.fa"]


def test_a_disk_that_fills_up_leaves_no_output(ready, model, fasta, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    out = tmp_path / "out.tsv"
    with pytest.raises(RunStopped, match=r"out.tsv: writing failed .No space left on device.; no output was left"):
        prediction.predict(model, fasta, out, batch_size=4, say=pytest.fail)
    assert [each.name for each in tmp_path.iterdir()] == ["in.fa"]


@pytest.mark.parametrize(
    ("output", "said"), [("none/out.tsv", "cannot be written"), ("folder", "is a folder; expected a file")]
)
def test_an_output_that_cannot_be_written(ready, model, fasta, tmp_path, output, said):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=said):
        prediction.predict(model, fasta, tmp_path / output, batch_size=4, say=pytest.fail)
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["folder", "in.fa"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stride": -1}, "stride is -1; expected 0 .half a window. to 64"),
        ({"stride": LONGEST + 1}, "stride is 65; expected 0 .half a window. to 64"),
    ],
)
def test_values_out_of_range(ready, model, fasta, tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        prediction.predict(model, fasta, tmp_path / "out.tsv", long="window", **changes, say=pytest.fail)
    assert [each.name for each in tmp_path.iterdir()] == ["in.fa"]


def test_no_batch(model, fasta, tmp_path):
    with pytest.raises(InputError, match="batch size is 0; expected 1 or more"):
        prediction.predict(model, fasta, tmp_path / "out.tsv", batch_size=0, say=pytest.fail)
    assert [each.name for each in tmp_path.iterdir()] == ["in.fa"]


def _copy(model, folder, *names: str):
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes((model / name).read_bytes())
    return folder


def test_a_folder_that_is_no_model(model, fasta, tmp_path):
    def message(folder) -> str:
        with pytest.raises(InputError) as caught:
            prediction.predict(folder, fasta, tmp_path / "out.tsv", say=pytest.fail)
        assert not (tmp_path / "out.tsv").exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    missing = tmp_path / "missing"
    assert message(missing).startswith(f"{missing}: ")

    pretrained = tmp_path / "pretrained"
    stored.write(pretrained, *tiny.model("masked_lm"))
    assert message(pretrained) == (
        f"{pretrained}: predicts nothing, for it has a masked-LM head only; expected a fine-tuned model"
    )

    unfinished = _copy(model, tmp_path / "unfinished", "config.json")
    assert message(unfinished).startswith(f"{unfinished / 'classes.json'}: missing or damaged")

    without_params = _copy(model, tmp_path / "without", "config.json", "classes.json")
    best = without_params / "best"
    assert message(without_params) == f"{best}: holds no checkpoint; expected one that a run has saved"


@pytest.mark.parametrize("classes", ["", "[", "3", "{}", '"ab"', "[1, 2]", "[]"])
def test_damaged_classes(model, tmp_path, classes):
    folder = _copy(model, tmp_path / "damaged", "config.json", "classes.json")
    (folder / "classes.json").write_text(classes)
    with pytest.raises(InputError, match=r"classes.json: missing or damaged; expected the class names"):
        loaded.load(folder, say=pytest.fail)


@pytest.mark.parametrize("kernel", ["cudnn", "pallas"])
def test_a_model_trained_with_a_fused_kernel_scores_where_there_is_none(kernel, classifier, direct, model, tmp_path):
    trained = shutil.copytree(model, tmp_path / "copy")
    encoder = dataclasses.replace(CONFIG.encoder, attention=kernel)
    workdir.write_text(trained / "config.json", to_json(dataclasses.replace(CONFIG, encoder=encoder, dropout=0.0)))
    found = loaded.load(trained, compute_dtype="float32", say=pytest.fail)
    (record,) = _records(30)
    (scored,) = prediction.score(found, [record])
    np.testing.assert_allclose(scored.values, direct(record.bases), rtol=1e-4, atol=1e-6)


def test_a_config_that_lost_the_shape_of_its_encoder(model, tmp_path):
    damaged = _copy(model, tmp_path / "copy", workdir.CLASSES)
    workdir.write_text(damaged / "config.json", to_json(FinetuneConfig()))
    with pytest.raises(InputError, match=r"^encoder\.k is None; expected "):
        loaded.load(damaged, say=pytest.fail)


def test_other_classes_than_the_params_have(model, tmp_path):
    folder = _copy(model, tmp_path / "other", "config.json")
    (folder / "classes.json").write_text(json.dumps(["a", "b"]))
    (folder / "best").symlink_to(model / "best")
    with pytest.raises(InputError, match=r"param classifier/bias has shape \(3,\); expected \(2,\)"):
        loaded.load(folder, say=pytest.fail)


PIECES = 3


@pytest.fixture(scope="module", params=["single_label", "multi_label", "regression", "per_base"])
def of_a_head(request):
    """A model that was fine-tuned on sequences of up to three pieces."""
    config, params = tiny.model(request.param, ("x", "y", "z"), pieces=PIECES)
    return loaded.Model(config, params, "random", 4)


def test_tables_of_every_head(of_a_head, fasta, tmp_path, monkeypatch):
    _use(of_a_head, monkeypatch)
    head, out = of_a_head.config.head, tmp_path / "out.tsv"
    count = prediction.predict("model", fasta, out, batch_size=4, say=pytest.fail)
    header, *rows = _rows(out)
    assert count == len(rows)
    values = of_a_head.predict([record.bases for record in MIXED])
    if head == "per_base":
        assert header == ["id", "position", "base", "class", "x", "y", "z"]
        places = [(each.id, str(at), base) for each in MIXED for at, base in enumerate(kmers.decode(each.bases))]
        assert [tuple(row[:3]) for row in rows] == places
        assert [row[3] for row in rows] == ["xyz"[each] for of_one in values for each in of_one.argmax(axis=1)]
        values = np.concatenate(values)
    else:
        names = {"single_label": ["class"], "multi_label": ["classes"], "regression": []}[head]
        assert header == ["id", *names, "x", "y", "z"]
        assert [row[0] for row in rows] == [record.id for record in MIXED]
    if head == "single_label":
        assert [row[1] for row in rows] == ["xyz"[each] for each in values.argmax(axis=1)]
    if head == "multi_label":
        named = [";".join(np.array(["x", "y", "z"])[each > 0.5]) for each in values]
        assert [row[1] for row in rows] == named
    np.testing.assert_allclose([[float(each) for each in row[-3:]] for row in rows], values, atol=1e-5)


def test_a_model_of_pieces_reads_so_many_without_a_flag(of_a_head, tmp_path, monkeypatch):
    _use(of_a_head, monkeypatch)
    most = PIECES * tiny.ENCODER.max_kmers + tiny.ENCODER.k - 1
    file, out = tmp_path / "in.fa", tmp_path / "out.tsv"
    (longest,) = _records(most)
    file.write_text(f">whole\n{kmers.decode(longest.bases)}\n")
    prediction.predict("model", file, out, batch_size=4, say=pytest.fail)
    (values,) = of_a_head.predict([longest.bases])
    found = [[float(each) for each in row[-3:]] for row in _rows(out)[1:]]
    np.testing.assert_allclose(found, values.reshape(-1, 3), atol=1e-5)

    file.write_text(f">more\n{kmers.decode(longest.bases)}A\n")
    with pytest.raises(InputError, match=rf"record 'more' has {most + 1} bases; expected at most {most}, the longest"):
        prediction.predict("model", file, out, batch_size=4, say=pytest.fail)


def test_pieces_give_one_row_a_record(classifier, ready, model, direct, tmp_path):
    (record,) = _records(300)
    file, out = tmp_path / "in.fa", tmp_path / "out.tsv"
    file.write_text(f">long\n{kmers.decode(record.bases)}\n>short\nACGTACGT\n")
    assert prediction.predict(model, file, out, long="pieces", batch_size=4, say=pytest.fail) == 2
    header, first, second = _rows(out)
    assert header == ["id", "class", *CLASSES]
    assert (first[0], second[0]) == ("long", "short")
    expected = classifier.predict([record.bases, "ACGTACGT"])
    np.testing.assert_allclose([[float(each) for each in row[2:]] for row in (first, second)], expected, atol=1e-5)
    np.testing.assert_allclose([float(each) for each in second[2:]], direct(kmers.encode("ACGTACGT")), atol=2e-5)


def test_places_side_by_side_are_not_exceeded(fasta, tmp_path, monkeypatch):
    config, params = tiny.model("single_label", ("x", "y"), pieces=2, join="concatenate")
    _use(loaded.Model(config, params, "random", 4), monkeypatch)
    file, out = tmp_path / "long.fa", tmp_path / "out.tsv"
    file.write_text(f">long\n{'ACGT' * 32}\n")
    with pytest.raises(InputError, match=r"long.fa: record 'long' has 128 bases; expected at most 126, .*side by side"):
        prediction.predict("model", file, out, long="pieces", say=pytest.fail)
    assert not out.exists()
    assert prediction.predict("model", file, out, long="window", say=pytest.fail) == 2


def test_bases_have_no_windows(fasta, tmp_path, monkeypatch):
    _use(loaded.Model(*tiny.model("per_base", ("x", "y")), "random", 4), monkeypatch)
    with pytest.raises(InputError, match="--long window gives a base several rows; expected `--long pieces`"):
        prediction.predict("model", fasta, tmp_path / "out.tsv", long="window", say=pytest.fail)
