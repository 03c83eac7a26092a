"""Prediction: every base in a window, every record in its place, and scores that are the model's own."""

import dataclasses
import json
import math
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert_jax import kmers, prediction, sharding
from dnabert_jax.config import FinetuneConfig, MeshConfig, PretrainConfig, to_json
from dnabert_jax.data.sequences import Sequence
from dnabert_jax.errors import InputError, RunStopped
from dnabert_jax.model.heads import fine_tuned
from dnabert_jax.training import finetune, state, workdir
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
    workdir.write_json(folder / finetune.CLASSES, list(CLASSES))
    init = finetune.initializer(CONFIG, tuple(CLASSES))
    with sharding.use(sharding.make_mesh(MeshConfig(), jax.devices()[:1])) as mesh:
        like = state.parameter_layout(init, jax.random.key(0), mesh)
        params = jax.jit(lambda key: nn.unbox(init(key)), out_shardings=state.shardings(like))
        made = state.State(jnp.asarray(7, jnp.int32), params(jax.random.key(5)), None)
        with Checkpoints(folder / finetune.BEST, 1) as best:
            best.save(7, made, {})
            best.wait()
    return folder


@pytest.fixture(scope="module")
def classifier(model):
    return prediction.load(model, pytest.fail)


@pytest.fixture
def loaded(classifier, monkeypatch):
    """Lets `predict` use the model that is loaded already, and compiled."""
    monkeypatch.setattr(prediction, "load", lambda model, say: classifier)


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


def test_loading_reads_classes_and_params(classifier):
    assert classifier.classes == CLASSES
    assert classifier.config == CONFIG
    assert classifier.longest == LONGEST == 64
    assert {leaf.dtype for leaf in jax.tree.leaves(classifier.params)} == {jnp.dtype("float32")}


def test_scores_are_the_models_own(classifier, direct):
    for record, scored in zip(MIXED, prediction.score(classifier, MIXED, batch_size=4), strict=True):
        assert (scored.id, scored.start, scored.end) == (record.id, 0, len(record.bases))
        assert scored.probabilities.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(scored.probabilities, direct(record.bases), rtol=1e-4, atol=1e-5)


def test_the_scores_tell_sequences_apart(classifier):
    """Without this the tests that compare scores would show little."""
    scores = np.array([scored.probabilities for scored in prediction.score(classifier, MIXED, batch_size=4)])
    assert np.ptp(scores, axis=0).max() > 0.02


@pytest.mark.parametrize("batch_size", [1, 5])
def test_batches_change_nothing(classifier, batch_size):
    expected = list(prediction.score(classifier, MIXED, batch_size=4))
    found = list(prediction.score(classifier, MIXED, batch_size=batch_size))
    assert [each[:3] for each in found] == [each[:3] for each in expected]
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a.probabilities, b.probabilities, rtol=1e-4, atol=1e-5)


def test_no_records_no_scores(classifier):
    assert list(prediction.score(classifier, [])) == []


def test_records_are_read_a_batch_at_a_time(classifier):
    read = []

    def records():
        for record in MIXED:
            read.append(record.id)
            yield record

    scores = prediction.score(classifier, records(), batch_size=2)
    next(scores)
    assert len(read) == 2


def test_a_record_that_is_too_long(classifier):
    records = _records(10, LONGEST, LONGEST + 1)
    with pytest.raises(InputError) as caught:
        list(prediction.score(classifier, records, source="in.fa", batch_size=4))
    assert str(caught.value).startswith("in.fa: record 'record2' has 65 bases; expected at most 64")
    assert "`--long window`" in str(caught.value)


@pytest.mark.parametrize(("stride", "step"), [(0, 32), (10, 10), (LONGEST, LONGEST)])
def test_windows_are_scored_as_records_of_their_own(classifier, direct, stride, step):
    records = _records(150, 17, LONGEST, 70)
    found = list(prediction.score(classifier, records, long="window", stride=stride, batch_size=4))
    expected = [(record.id, *window) for record in records for window in prediction.windows(record, LONGEST, step)]
    assert [each[:3] for each in found] == expected
    by_name = {record.id: record.bases for record in records}
    for name, start, end, probabilities in found[:3] + found[-2:]:
        np.testing.assert_allclose(probabilities, direct(by_name[name][start:end]), rtol=1e-4, atol=1e-5)


def test_the_stride_of_the_shortest_model():
    """Half of a window of one base is no stride."""
    encoder = dataclasses.replace(tiny.FINETUNED, k=1, max_length=3)
    shortest = SimpleNamespace(
        config=FinetuneConfig(encoder=encoder),
        longest=1,
        params=None,
        probabilities=lambda params, rows: np.full((len(rows["tokens"]), 2), 0.5, np.float32),
    )
    found = prediction.score(shortest, _records(3), long="window", batch_size=2)
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
def test_a_table_in_rows_out(loaded, model, direct, tmp_path, suffix, delimiter):
    file, out = tmp_path / f"in.{suffix}", tmp_path / "out.tsv"
    lines = [f"{record.id}{delimiter}x{delimiter}{kmers.decode(record.bases).lower()}" for record in MIXED]
    file.write_text("\n".join([delimiter.join(["id", "note", "sequence"]), *lines]) + "\n")
    assert prediction.predict(model, file, out, batch_size=4, say=pytest.fail) == len(MIXED)
    _check(out, [record.id for record in MIXED], [record.bases for record in MIXED], direct)


def test_bed_with_its_fasta_in_rows_out(loaded, model, direct, tmp_path):
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


def test_windows_in_rows_out(loaded, model, direct, tmp_path):
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
def test_bad_input_leaves_no_output_and_the_old_one(loaded, model, tmp_path, text, said, exists):
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


def test_an_earlier_output_is_replaced(loaded, model, fasta, tmp_path):
    out = tmp_path / "out.tsv"
    out.write_text("old\n")
    prediction.predict(model, fasta, out, batch_size=4, say=pytest.fail)
    assert len(_rows(out)) == len(MIXED) + 1


def test_a_file_of_the_model_is_not_replaced(loaded, model, fasta):
    config = Path(model) / "config.json"
    before = config.read_bytes()
    with pytest.raises(InputError, match="belongs to the model; expected a file outside it"):
        prediction.predict(model, fasta, config, say=lambda line: None)
    assert config.read_bytes() == before


def test_a_pipe_is_written_to_as_it_is(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with prediction._whole_or_absent(pipe) as file:
            file.write("rows")
        assert os.read(reader, 100) == b"rows"
        assert pipe.is_fifo()
    finally:
        os.close(reader)


@pytest.mark.parametrize("alias", [False, True], ids=["by its name", "by a link"])
@pytest.mark.parametrize("role", ["input", "fasta"])
def test_a_file_that_is_read_is_not_replaced(loaded, model, fasta, tmp_path, role, alias):
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


def test_an_input_that_breaks_off_is_told_apart_from_the_output(loaded, model, fasta, tmp_path, monkeypatch):
    def broken(*_, **__):
        yield Sequence("a", np.zeros(40, np.uint8))
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(prediction.sequences, "read", broken)
    with pytest.raises(InputError, match=r"in\.fa: cannot be read to its end .Input/output error"):
        prediction.predict(model, fasta, tmp_path / "out.tsv", batch_size=1, say=pytest.fail)
    assert [each.name for each in tmp_path.iterdir()] == ["in.fa"]


def test_a_disk_that_fills_up_leaves_no_output(loaded, model, fasta, tmp_path, monkeypatch):
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
def test_an_output_that_cannot_be_written(loaded, model, fasta, tmp_path, output, said):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=said):
        prediction.predict(model, fasta, tmp_path / output, batch_size=4, say=pytest.fail)
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["folder", "in.fa"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_size": 0}, "batch size is 0; expected 1 or more"),
        ({"stride": -1}, "stride is -1; expected 0 .half a window. to 64"),
        ({"stride": LONGEST + 1}, "stride is 65; expected 0 .half a window. to 64"),
    ],
)
def test_values_out_of_range(loaded, model, fasta, tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        prediction.predict(model, fasta, tmp_path / "out.tsv", long="window", **changes, say=pytest.fail)
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
    assert message(missing) == f"{missing}: holds no config.json; expected the workdir of a fine-tuning run"

    pretraining = tmp_path / "pretraining"
    pretraining.mkdir()
    (pretraining / "config.json").write_text(to_json(PretrainConfig()))
    assert message(pretraining).startswith(f"{pretraining}: belongs to a pretraining run; expected the workdir of")

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
        prediction.load(folder, pytest.fail)


@pytest.mark.parametrize("kernel", ["cudnn", "pallas"])
def test_a_model_trained_with_a_fused_kernel_scores_where_there_is_none(kernel, classifier, direct, model, tmp_path):
    trained = shutil.copytree(model, tmp_path / "copy")
    encoder = dataclasses.replace(CONFIG.encoder, attention=kernel)
    workdir.write_text(trained / "config.json", to_json(dataclasses.replace(CONFIG, encoder=encoder, dropout=0.0)))
    loaded = prediction.load(trained, pytest.fail)
    (record,) = _records(30)
    (found,) = prediction.score(loaded, [record])
    np.testing.assert_allclose(found.probabilities, direct(record.bases), rtol=1e-4, atol=1e-6)


def test_a_config_that_lost_the_shape_of_its_encoder(model, tmp_path):
    damaged = _copy(model, tmp_path / "copy", finetune.CLASSES)
    workdir.write_text(damaged / "config.json", to_json(FinetuneConfig()))
    with pytest.raises(InputError, match=r"^encoder\.k is None; expected "):
        prediction.load(damaged, pytest.fail)


def test_other_classes_than_the_params_have(model, tmp_path):
    folder = _copy(model, tmp_path / "other", "config.json")
    (folder / "classes.json").write_text(json.dumps(["a", "b"]))
    (folder / "best").symlink_to(model / "best")
    with pytest.raises(InputError, match=r"param classifier/bias has shape \(3,\) in the checkpoint; expected \(2,\)"):
        prediction.load(folder, pytest.fail)


def test_few_shapes_are_compiled(classifier):
    """Rows of many lengths share programs: at most one for every bucket of lengths."""
    seen = set()

    def probabilities(params, rows):
        seen.add(rows["tokens"].shape)
        return np.full((len(rows["tokens"]), 3), 1 / 3, np.float32)

    counting = dataclasses.replace(classifier, probabilities=probabilities)
    list(prediction.score(counting, _records(*range(3, 60)), batch_size=5))
    assert len(seen) <= math.ceil(tiny.ENCODER.max_length / prediction._BUCKET)
