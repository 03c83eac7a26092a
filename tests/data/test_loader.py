"""Batches: the same whatever the start, the threads and the number of processes; and nothing left running behind."""

import dataclasses
import itertools
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dnabert_jax import embedded, kmers
from dnabert_jax.config import DataConfig, EncoderConfig, PretrainConfig
from dnabert_jax.data import build, loader, shards
from dnabert_jax.data.labelled import Examples
from dnabert_jax.data.rows import Rows
from dnabert_jax.errors import InputError
from tests.data.memory_split import MemorySplit, random_bases

CONFIG = PretrainConfig(
    batch_size=12,
    row_length=64,
    seed=4,
    encoder=EncoderConfig(k=4, layers=1, hidden=8, heads=1, intermediate=8, max_length=64),
    data=DataConfig(path="somewhere", reverse_complement=True),
)
METHODS = ("cut", "sample")


def _split(length=6_000):
    return MemorySplit([random_bases(0, length, [(100, 150)]), random_bases(1, 300)])


def _with(**changes):
    return dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, **changes))


def _take(batches, count):
    taken = list(itertools.islice(batches, count))
    batches.close()
    return taken


def _assert_equal(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            np.testing.assert_array_equal(value, b[name])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("start", [1, 7, 31])
def test_a_batch_is_the_same_whatever_the_start(method, start):
    config = _with(method=method)
    whole = _take(loader.Pretraining(_split(), config).batches(), start + 20)
    _assert_equal(_take(loader.Pretraining(_split(), config).batches(start), 20), whole[start:])


def test_a_batch_far_into_the_run_needs_none_before_it():
    (batch,) = _take(loader.Pretraining(_split(), CONFIG).batches(10**12), 1)
    assert (batch["segment_ids"] > 0).any()


ROWS = np.array([1, 2, 3, 7, 11])
"""As a process may hold them, of batches of 12."""


def _only(rows, batches):
    return [{name: value[rows] for name, value in batch.items()} for batch in batches]


def test_some_rows_of_a_batch_are_those_of_the_whole_one():
    whole = _take(loader.Pretraining(_split(), CONFIG).batches(2), 15)
    _assert_equal(_take(loader.Pretraining(_split(), CONFIG).batches(2, ROWS), 15), _only(ROWS, whole))


def test_some_rows_of_held_out_batches_are_those_of_the_whole_ones():
    options = {"batch_size": 12, "count": 40}  # the last of which has 4 rows that are not empty
    whole = loader.evaluation_batches(_split(), CONFIG, **options)
    _assert_equal(loader.evaluation_batches(_split(), CONFIG, **options, rows=ROWS), _only(ROWS, whole))
    last = loader.evaluation_batches(_split(), CONFIG, **options, rows=np.array([10, 11]))[-1]
    assert not last["segment_ids"].any()


def test_an_epoch_shows_each_of_its_rows_once():
    pipeline = loader.Pretraining(_split(), CONFIG)
    per_epoch = pipeline.identity["rows_per_epoch"]
    rows = Rows(_split(), CONFIG.data, k=4, max_kmers=62, row_length=64, seed=CONFIG.seed)
    assert rows.per_epoch == per_epoch
    tokens = np.concatenate([batch["tokens"] for batch in _take(pipeline.batches(), 3 * per_epoch // 12 + 1)])
    for epoch in range(3):
        numbers = np.arange(per_epoch) + epoch * per_epoch
        np.testing.assert_array_equal(tokens[numbers], rows.take(numbers)["tokens"])


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_epochs_end_the_input_without_the_incomplete_batch(epochs):
    endless = loader.Pretraining(_split(), CONFIG)
    pipeline = loader.Pretraining(_split(), _with(epochs=epochs))
    batches = list(pipeline.batches())
    assert len(batches) == epochs * pipeline.identity["rows_per_epoch"] // 12
    _assert_equal(batches, _take(endless.batches(), len(batches)))
    _assert_equal(list(pipeline.batches(3)), batches[3:])
    assert list(pipeline.batches(len(batches) + 5)) == []


def test_epochs_too_short_for_a_batch_are_refused():
    with pytest.raises(InputError, match=r"somewhere: 6 rows in all \(data.epochs is 1\), less than a batch of 12"):
        loader.Pretraining(MemorySplit([random_bases(0, 6 * 65)]), _with(epochs=1, full_share=1.0))


def test_identity_tells_bases_and_seeds_apart():
    identity = loader.Pretraining(_split(), CONFIG).identity
    assert identity == loader.Pretraining(_split(), CONFIG).identity
    assert identity != loader.Pretraining(_split(), dataclasses.replace(CONFIG, seed=5)).identity
    assert identity != loader.Pretraining(MemorySplit([random_bases(2, 6_000)]), CONFIG).identity
    assert identity != loader.Pretraining(_split(), _with(pack=False)).identity


def test_evaluation_rows_are_the_same_each_time_whatever_the_seed():
    batches = loader.evaluation_batches(_split(), CONFIG, batch_size=8, count=24)
    other = dataclasses.replace(_with(method="sample", reverse_complement=False, epochs=2), seed=99)
    _assert_equal(batches, loader.evaluation_batches(_split(), other, batch_size=8, count=24))
    assert [batch["tokens"].shape for batch in batches] == [(8, 64)] * 3


def test_evaluation_reads_the_bases_as_they_are_and_fills_the_last_batch_with_empty_rows():
    bases = random_bases(3, 1_000)
    batches = loader.evaluation_batches(MemorySplit([bases]), CONFIG, batch_size=11, count=1100)
    rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    assert len(rows["tokens"]) % 11 == 0
    used = rows["segment_ids"].any(axis=1)
    assert 0 < used.sum() < len(used) < used.sum() + 11
    assert used[: used.sum()].all()
    assert not any(value[~used].any() for value in rows.values())
    text, covered = kmers.decode(bases), 0
    for tokens, segment_ids in zip(rows["tokens"], rows["segment_ids"], strict=True):
        for number in range(1, segment_ids.max() + 1):
            letters = kmers.decode(kmers.detokenize(tokens[segment_ids == number][1:-1], 4))
            assert letters in text
            covered += len(letters)
    assert covered == 1_000


def _examples(count=10):
    sequences = tuple(random_bases(seed, 5 + 2 * seed) for seed in range(count))
    labels = np.arange(count, dtype=np.int32) % 3
    return Examples(tuple(f"line {i + 2}" for i in range(count)), sequences, labels, ("a", "b", "c"))


def _read_labelled(**options):
    return list(loader.labelled_batches(_examples(), **{"batch_size": 4, "k": 3, "length": 32, **options}))


@pytest.mark.parametrize("target", ["single_label", "per_base"])
def test_some_rows_of_labelled_batches_are_those_of_the_whole_ones(target):
    examples = _examples()
    if target == "per_base":
        labels = tuple(np.arange(len(bases), dtype=np.int32) % 3 for bases in examples.sequences)
        examples = dataclasses.replace(examples, labels=labels, target="per_base")
    options = {"batch_size": 4, "k": 3, "length": 32, "shuffle": True, "reverse_complement": True}
    whole = list(loader.labelled_batches(examples, **options))
    rows = np.array([1, 3])
    _assert_equal(list(loader.labelled_batches(examples, **options, rows=rows)), _only(rows, whole))


def _sequences(batches):
    """Letters of each row that weighs something."""
    letters = []
    for batch in batches:
        for tokens, segment_ids, weight in zip(batch["tokens"], batch["segment_ids"], batch["weights"], strict=True):
            if weight:
                letters.append(kmers.decode(kmers.detokenize(tokens[segment_ids == 1][1:-1], 3)))
    return letters


def test_labelled_batches_are_in_file_order_and_filled_up():
    batches = _read_labelled()
    assert _sequences(batches) == [kmers.decode(bases) for bases in _examples().sequences]
    weights = np.concatenate([batch["weights"] for batch in batches])
    labels = np.concatenate([batch["labels"] for batch in batches])
    np.testing.assert_array_equal(weights, [1] * 10 + [0] * 2)
    np.testing.assert_array_equal(labels[:10], _examples().labels)
    assert weights.dtype == np.float32
    assert labels.dtype == np.int32
    for batch in batches:
        assert batch["tokens"].shape == batch["segment_ids"].shape == batch["positions"].shape == (4, 32)
        assert (batch["segment_ids"] > 0).any(axis=1).all()


def test_shuffled_labelled_batches_hold_each_example_once_with_its_label():
    label_of = dict(zip((kmers.decode(bases) for bases in _examples().sequences), _examples().labels, strict=True))
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        batches = _read_labelled(shuffle=True, seed=seed, epoch=epoch)
        found = _sequences(batches)
        assert sorted(found) == sorted(label_of)
        labels = np.concatenate([batch["labels"] for batch in batches])[:10]
        np.testing.assert_array_equal(labels, [label_of[letters] for letters in found])
        orders.append(tuple(found))
    assert len(set(orders)) == 3
    _assert_equal(
        _read_labelled(shuffle=True, seed=1, epoch=2, start_batch=1), _read_labelled(shuffle=True, seed=1, epoch=2)[1:]
    )


def test_labelled_sequences_are_read_from_either_strand():
    plain = _sequences(_read_labelled())
    other = [kmers.decode(kmers.reverse_complement(kmers.encode(letters))) for letters in plain]
    seen = [_sequences(_read_labelled(reverse_complement=True, epoch=epoch)) for epoch in range(30)]
    for one, flipped, found in zip(plain, other, zip(*seen), strict=True):
        assert set(found) == {one, flipped}


def test_sequence_batch_lays_each_sequence_in_its_row():
    batch = loader.sequence_batch([kmers.encode("ACGTN"), kmers.encode("TTT")], k=3, length=8)
    acg, cgt = kmers.tokenize(kmers.encode("ACGT"), 3)
    np.testing.assert_array_equal(
        batch["tokens"],
        [
            [kmers.CLS, acg, cgt, kmers.UNK, kmers.SEP, 0, 0, 0],
            [kmers.CLS, *kmers.tokenize(kmers.encode("TTT"), 3), kmers.SEP, 0, 0, 0, 0, 0],
        ],
    )
    np.testing.assert_array_equal(batch["segment_ids"], [[1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(batch["positions"], [[0, 1, 2, 3, 4, 0, 0, 0], [0, 1, 2, 0, 0, 0, 0, 0]])


def test_sequences_in_pieces():
    sequences = [random_bases(0, 14, [(5, 6)]), random_bases(1, 9), random_bases(2, 3)]
    batch = loader.sequence_batch(sequences, k=3, length=7, pieces=3)
    for row, bases in enumerate(sequences):
        tokens = kmers.tokenize(bases, 3)
        for piece in range(3):
            alone = tokens[5 * piece : 5 * piece + 5]
            expected = [kmers.CLS, *alone, kmers.SEP] if alone.size else []
            filler = [0] * (7 - len(expected))
            assert batch["tokens"][row, piece].tolist() == [*expected, *filler]
            assert batch["segment_ids"][row, piece].tolist() == [1] * len(expected) + filler
            assert batch["positions"][row, piece].tolist() == [*range(len(expected)), *filler]
    assert all(value.shape == (3, 3, 7) and value.dtype == np.int32 for value in batch.values())


def test_one_piece_is_the_row_of_several():
    sequences = [random_bases(0, 7), random_bases(1, 5)]
    one = loader.sequence_batch(sequences, k=3, length=7)
    several = loader.sequence_batch(sequences, k=3, length=7, pieces=2)
    for name, value in one.items():
        np.testing.assert_array_equal(several[name][:, 0], value)
        assert not several[name][:, 1].any()


def test_labelled_batches_in_pieces():
    examples = _examples()
    batches = list(loader.labelled_batches(examples, batch_size=4, k=3, length=9, pieces=3))
    assert [batch["tokens"].shape for batch in batches] == [(4, 3, 9)] * 3
    for number, bases in enumerate(examples.sequences):
        rows = batches[number // 4]
        pieces, is_there = rows["tokens"][number % 4], rows["segment_ids"][number % 4] > 0
        tokens = np.concatenate([piece[at][1:-1] for piece, at in zip(pieces, is_there, strict=True)])
        np.testing.assert_array_equal(tokens, kmers.tokenize(bases, 3))
        assert rows["labels"][number % 4] == examples.labels[number]


def test_rows_of_labels_keep_to_their_sequences():
    labels = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    examples = dataclasses.replace(_examples(), labels=labels, target="regression")
    plain = np.concatenate(
        [batch["labels"] for batch in loader.labelled_batches(examples, batch_size=5, k=3, length=32)]
    )
    np.testing.assert_array_equal(plain, labels)
    assert plain.dtype == np.float32


@pytest.mark.parametrize(("length", "pieces"), [(32, 1), (9, 3)])
def test_labels_of_bases_turn_with_their_sequence(length, pieces):
    """Each base is labelled with its own code or not at all, so what the tokens say must be what the labels say."""
    generator = np.random.default_rng(1)
    sequences = _examples().sequences
    of_bases = tuple(np.where(generator.random(len(each)) < 0.7, each.astype(np.int16), -1) for each in sequences)
    examples = dataclasses.replace(_examples(), labels=of_bases, classes=tuple("ATCG"), target="per_base")
    seen = set()
    for epoch in range(3):
        options = {"batch_size": 4, "k": 3, "length": length, "pieces": pieces, "epoch": epoch}
        for batch in loader.labelled_batches(examples, shuffle=True, reverse_complement=True, **options):
            assert batch["labels"].shape == (4, pieces * (length - 2) + 2)
            assert batch["labels"].dtype == np.int32
            rows = zip(batch["tokens"], batch["segment_ids"], batch["labels"], strict=True)
            for tokens, segment_ids, labels in rows:
                inside = (segment_ids > 0) & (tokens != kmers.CLS) & (tokens != kmers.SEP)
                bases = kmers.detokenize(tokens[inside], 3).astype(int)
                number = next(n for n, each in enumerate(sequences) if len(each) == len(bases))
                flipped = (bases != sequences[number]).any()
                code = np.where(bases < 4, bases ^ 1, bases) if flipped else bases
                found = labels[: len(bases)]
                expected = of_bases[number][::-1] if flipped else of_bases[number]
                np.testing.assert_array_equal(found, expected)
                np.testing.assert_array_equal(found[found >= 0], code[found >= 0])
                assert (labels[len(bases) :] == -1).all()
                seen.add(bool(flipped))
    assert seen == {True, False}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Real DNA on disk."""
    folder = tmp_path_factory.mktemp("genome") / "slice"
    build.build([embedded.FASTA], folder, validation=["20:1-100000"], say=lambda line: None)
    return folder


def test_shards_on_disk_give_the_batches_of_the_same_bases_in_memory(built):
    split = shards.open_split(built, "validation")
    (contig,) = split.contigs
    memory = MemorySplit([split.read(0, 0, contig.length)])
    on_disk = _take(loader.Pretraining(split, CONFIG).batches(5), 10)
    _assert_equal(on_disk, _take(loader.Pretraining(memory, CONFIG).batches(5), 10))


def test_resuming_on_real_dna_goes_on_as_if_never_stopped(built):
    config = dataclasses.replace(PretrainConfig(batch_size=64), data=DataConfig(path=str(built)))
    whole = _take(loader.Pretraining(shards.open_split(built, "train"), config).batches(), 6)
    rest = loader.Pretraining(shards.open_split(built, "train"), config).batches(4)
    _assert_equal(_take(rest, 2), whole[4:])
    assert np.mean([(batch["segment_ids"] > 0).mean() for batch in whole]) >= 0.97


def test_closing_ends_the_threads():
    before = threading.active_count()
    several = [loader.Pretraining(_split(), CONFIG).batches(start) for start in range(3)]
    for batches in several:
        next(batches)
        batches.close()
    deadline = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.slow
def test_a_program_that_leaves_batches_unread_ends():
    program = """
        from dnabert_jax.config import DataConfig, PretrainConfig
        from dnabert_jax.data import loader
        from tests.data.memory_split import MemorySplit, random_bases
        config = PretrainConfig(batch_size=4, data=DataConfig(path="somewhere"))
        batches = loader.Pretraining(MemorySplit([random_bases(0, 20_000)]), config).batches()
        print(next(batches)["tokens"].shape)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "(4, 512)"), done.stderr
    assert "Traceback" not in done.stderr
