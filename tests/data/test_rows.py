"""Rows, unpacked again, hold exactly the segments of their epoch, each tokenised as it would be alone."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dnabert_jax import kmers
from dnabert_jax.config import DataConfig
from dnabert_jax.data.rows import Rows
from dnabert_jax.data.segments import Sampler
from tests.data.memory_split import MemorySplit, random_bases

K, MAX_KMERS, ROW_LENGTH, SEED = 4, 62, 64, 3
CONFIGS = {
    "cut": DataConfig(),
    "sample": DataConfig(method="sample"),
    "both strands": DataConfig(reverse_complement=True),
    "some unknown": DataConfig(max_unknown=0.2),
    "one a row": DataConfig(pack=False),
    "sample, some unknown, both strands": DataConfig(method="sample", max_unknown=0.2, reverse_complement=True),
}
each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=[name.replace(" ", "-") for name in CONFIGS])


def _split():
    scattered = random_bases(1, 900)
    scattered[np.random.default_rng(2).random(900) < 0.15] = kmers.N
    return MemorySplit([random_bases(0, 5_000, [(0, 60), (2_000, 2_090)]), scattered, random_bases(3, 80)])


def _rows(config, split=None, row_length=ROW_LENGTH, seed=SEED):
    return Rows(split or _split(), config, k=K, max_kmers=MAX_KMERS, row_length=row_length, seed=seed)


def _unpack(batch):
    """The segments of each row, as token lists, with checks of how they lie in it."""
    found = []
    for tokens, segment_ids, positions in zip(batch["tokens"], batch["segment_ids"], batch["positions"], strict=True):
        row = []
        assert not tokens[segment_ids == 0].any()
        assert not positions[segment_ids == 0].any()
        used = segment_ids[segment_ids > 0]
        assert (np.diff(used) >= 0).all()
        for number in np.unique(used):
            places = np.flatnonzero(segment_ids == number)
            np.testing.assert_array_equal(places, np.arange(places[0], places[-1] + 1))
            np.testing.assert_array_equal(positions[places], np.arange(len(places)))
            assert tokens[places[0]] == kmers.CLS
            assert tokens[places[-1]] == kmers.SEP
            inside = tokens[places[1:-1]]
            assert ((inside >= kmers.FIRST_KMER) | (inside == kmers.UNK)).all()
            row.append(tuple(inside.tolist()))
        found.append(row)
    return found


def _expected(split, config, epoch):
    """Tokens of the usable segments of an epoch, one segment after another."""
    segments = Sampler(split, config, K, MAX_KMERS, SEED).epoch(epoch)
    for contig, start, count, flipped, usable in zip(
        segments.contig, segments.start, segments.kmers, segments.flipped, segments.usable, strict=True
    ):
        bases = split.read(int(contig), int(start), int(count) + K - 1)
        letters = kmers.decode(bases)
        if flipped:
            letters = letters[::-1].translate(str.maketrans("ATCG", "TAGC"))
        if usable:
            yield tuple(kmers.tokenize(kmers.encode(letters), K).tolist())


@each_config
@pytest.mark.parametrize("row_length", [ROW_LENGTH, 200])
def test_the_rows_of_an_epoch_hold_exactly_its_segments(config, row_length):
    split = _split()
    rows = _rows(config, split, row_length)
    for epoch in (0, 2):
        batch = rows.take(np.arange(rows.per_epoch) + epoch * rows.per_epoch)
        for value in batch.values():
            assert value.shape == (rows.per_epoch, row_length)
            assert value.dtype == np.int32
        unpacked = _unpack(batch)
        assert Counter(segment for row in unpacked for segment in row) == Counter(_expected(split, config, epoch))
        if not config.pack:
            assert max(map(len, unpacked)) == 1


@each_config
def test_a_row_is_the_same_alone_and_among_others(config):
    rows = _rows(config)
    numbers = np.arange(2 * rows.per_epoch + 3)
    whole = rows.take(numbers)
    shuffled = np.random.default_rng(0).permutation(numbers)
    again = _rows(config).take(shuffled)
    for name, value in whole.items():
        np.testing.assert_array_equal(again[name], value[shuffled])
        for number in (0, rows.per_epoch - 1, rows.per_epoch, numbers[-1]):
            np.testing.assert_array_equal(_rows(config).take(np.array([number]))[name][0], value[number])


def test_threads_take_the_same_rows():
    rows = _rows(CONFIGS["both strands"])
    expected = _rows(CONFIGS["both strands"])
    numbers = [np.arange(start, start + 7) for start in range(0, 5 * rows.per_epoch, 7)]
    with ThreadPoolExecutor(4) as pool:
        for these, batch in zip(numbers, pool.map(rows.take, numbers), strict=True):
            for name, value in expected.take(these).items():
                np.testing.assert_array_equal(batch[name], value)


def test_the_order_of_rows_changes_with_epoch_and_seed():
    rows = _rows(DataConfig())
    numbers = np.arange(rows.per_epoch)
    first = rows.take(numbers)["tokens"]
    assert not np.array_equal(first, rows.take(numbers + rows.per_epoch)["tokens"])
    assert not np.array_equal(first[:20], _rows(DataConfig(), seed=SEED + 1).take(numbers[:20])["tokens"])


def test_rows_of_the_paper_are_full():
    split = MemorySplit([random_bases(4, 1_000_000)], chunk=65_536)
    rows = Rows(split, DataConfig(), k=6, max_kmers=510, row_length=512, seed=0)
    batch = rows.take(np.arange(rows.per_epoch))
    assert (batch["segment_ids"] > 0).mean() >= 0.97


def test_unpacked_rows_of_the_paper_are_three_quarters_full():
    split = MemorySplit([random_bases(4, 1_000_000)], chunk=65_536)
    rows = Rows(split, DataConfig(pack=False), k=6, max_kmers=510, row_length=512, seed=0)
    batch = rows.take(np.arange(rows.per_epoch))
    assert abs((batch["segment_ids"] > 0).mean() - 0.75) < 0.02


def test_no_rows_make_an_empty_batch():
    assert _rows(DataConfig()).take(np.zeros(0, int))["tokens"].shape == (0, ROW_LENGTH)
