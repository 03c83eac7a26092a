"""Reading a built genome: any stretch, from any thread, and no wrong bases from a damaged folder."""

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dnabert_jax import kmers
from dnabert_jax.data import build, genome, shards
from dnabert_jax.errors import InputError

LENGTHS = {"a": 1000, "b": 64, "c": 129, "d": 12}
CHUNK = 64
VALIDATION = ("a:101-300", "c")


def _bases():
    rng = np.random.default_rng(5)
    return {name: rng.integers(0, 5, length, dtype=np.uint8) for name, length in LENGTHS.items()}


def _build(folder, bases, **options):
    source = folder / "source.fa"
    source.write_text("".join(f">{name}\n{kmers.decode(each)}\n" for name, each in bases.items()))
    options = {"chunk": CHUNK, "validation": VALIDATION, "overwrite": True, **options}
    build.build([source], folder / "out", say=lambda line: None, **options)
    return folder / "out"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return _build(tmp_path_factory.mktemp("genome"), _bases())


@pytest.fixture
def copy(built, tmp_path):
    return shutil.copytree(built, tmp_path / "copy")


def _expected(split, index):
    contig = split.contigs[index]
    return _bases()[contig.name][contig.start : contig.start + contig.length]


def test_contigs_are_the_pieces_between_the_cuts(built):
    assert shards.open_split(built, "train").contigs == (
        shards.Contig("a", 0, 100),
        shards.Contig("a", 300, 700),
        shards.Contig("b", 0, 64),
        shards.Contig("d", 0, 12),
    )
    assert shards.open_split(built, "validation").contigs == (shards.Contig("a", 100, 200), shards.Contig("c", 0, 129))


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("cache_bytes", [0, 100, 1 << 20])
def test_every_stretch_reads_back_whatever_the_cache(built, split, cache_bytes):
    opened = shards.open_split(built, split, cache_bytes)
    rng = np.random.default_rng(6)
    for index, contig in enumerate(opened.contigs):
        whole = _expected(opened, index)
        np.testing.assert_array_equal(opened.read(index, 0, contig.length), whole)
        for _ in range(40):
            start, end = sorted(rng.integers(0, contig.length + 1, 2).tolist())
            found = opened.read(index, start, end - start)
            assert found.dtype == np.uint8
            np.testing.assert_array_equal(found, whole[start:end])


def test_the_cache_holds_no_more_than_it_may(built):
    opened = shards.open_split(built, "train", 3 * CHUNK)
    for start in range(0, 700, 10):
        opened.read(1, start, 10)
        held = sum(chunk.nbytes for chunk in opened._cache.values())
        assert held == opened._cached_bytes <= 3 * CHUNK
    assert held > 2 * CHUNK


def test_what_was_read_cannot_spoil_the_cache(built):
    opened = shards.open_split(built, "train")
    with pytest.raises(ValueError):
        opened.read(0, 0, 10)[0] = 1


@pytest.mark.parametrize(
    ("contig", "start", "length"), [(4, 0, 1), (-1, 0, 1), (0, -1, 5), (0, 96, 5), (0, 5, -1), (3, 13, 0)]
)
def test_stretches_that_are_not_there(built, contig, start, length):
    with pytest.raises(IndexError):
        shards.open_split(built, "train").read(contig, start, length)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_scan_gives_every_chunk_in_order(built, split, monkeypatch):
    monkeypatch.setattr(shards, "_SCAN_CHUNKS", 3)
    opened = shards.open_split(built, split)
    seen = list(opened.scan())
    for index in range(len(opened.contigs)):
        pieces = [(start, bases) for contig, start, bases in seen if contig == index]
        assert [start for start, _ in pieces] == list(range(0, opened.contigs[index].length, CHUNK))
        np.testing.assert_array_equal(np.concatenate([bases for _, bases in pieces]), _expected(opened, index))
    assert [contig for contig, _, _ in seen] == sorted(contig for contig, _, _ in seen)


def test_threads_read_what_one_thread_reads(built):
    opened = shards.open_split(built, "train", 2 * CHUNK)
    rng = np.random.default_rng(7)
    wanted = []
    for _ in range(600):
        contig = int(rng.integers(len(opened.contigs)))
        start, end = sorted(rng.integers(0, opened.contigs[contig].length + 1, 2).tolist())
        wanted.append((contig, start, end - start))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda place: opened.read(*place), wanted))
    for (contig, start, length), bases in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(bases, _expected(opened, contig)[start : start + length])


def test_a_pickled_split_reads_the_same(built):
    opened = shards.open_split(built, "validation", 1000)
    opened.read(0, 0, 100)
    again = pickle.loads(pickle.dumps(opened))
    assert again.contigs == opened.contigs
    assert again.fingerprint == opened.fingerprint
    np.testing.assert_array_equal(again.read(0, 3, 90), opened.read(0, 3, 90))


def test_the_fingerprint_is_of_the_bases_and_where_they_are(tmp_path):
    def fingerprint(**changes):
        options = {"validation": VALIDATION, "chunk": CHUNK}
        bases = changes.pop("bases", _bases())
        return shards.open_split(_build(tmp_path, bases, **{**options, **changes}), "train").fingerprint

    first = fingerprint()
    changed = _bases()
    changed["b"][10] = (changed["b"][10] + 1) % 5
    renamed = {("z" if name == "b" else name): bases for name, bases in _bases().items()}
    assert fingerprint() == first
    assert fingerprint(chunk=10) == first, "the same bases in other chunks"
    others = [fingerprint(bases=changed), fingerprint(bases=renamed), fingerprint(validation=("a:101-301", "c"))]
    assert len({first, *others}) == 4


def test_which_splits_there_are(built, tmp_path):
    assert shards.has_split(built, "validation")
    only_train = _build(tmp_path, _bases(), validation=())
    assert not shards.has_split(only_train, "validation")
    with pytest.raises(InputError, match=r"no split 'validation'.*--validation"):
        shards.open_split(only_train, "validation")


def _says(path, *parts):
    with pytest.raises(InputError) as caught:
        shards.open_split(path, "train")
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_folders_that_are_no_dataset(tmp_path):
    _says(tmp_path / "none", "no such folder")
    _says(tmp_path, "not a dataset")
    (tmp_path / "metadata.json").write_text("{")
    _says(tmp_path, "not a dataset")
    (tmp_path / "metadata.json").write_text("[1]")
    _says(tmp_path, "not a dataset")
    (tmp_path / "metadata.json").write_text(json.dumps({"format": genome.FORMAT + "000"}))
    _says(tmp_path, "not a dataset")
    for ask in (shards.metadata, lambda path: shards.has_split(path, "train")):
        with pytest.raises(InputError):
            ask(tmp_path)


def test_a_shard_that_is_cut_short_or_missing(copy):
    (shard,) = copy.glob("genome-train*")
    whole = shard.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        shard.write_bytes(whole[:length])
        _says(copy, shard.name, f"has {length} bytes", f"expected {len(whole)} bytes")
    shard.unlink()
    _says(copy, shard.name, "is missing")


def test_a_shard_of_the_right_size_with_wrong_content(copy):
    (shard,) = copy.glob("genome-train*")
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(InputError, match="damaged"):
        shards.open_split(copy, "train").read(0, 0, 10)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_files_of_tfds_that_are_missing_or_broken(copy, name):
    (copy / name).write_text("{")
    _says(copy, "damaged")
    (copy / name).unlink()
    _says(copy, "damaged")
