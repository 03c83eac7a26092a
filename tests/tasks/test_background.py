"""GC-matched windows: as many as asked for of each GC content and split, where they may be, and no base twice."""

import sys
from collections import Counter

import numpy as np
import pytest

from dnabert_jax import embedded, kmers
from dnabert_jax.data.fasta import IndexedFasta
from dnabert_jax.tasks import background, splits
from dnabert_jax.tasks.excluded import Excluded


@pytest.fixture
def genome(tmp_path):
    """Two records of random bases, a stretch of N in the first."""
    rng = np.random.default_rng(1)
    letters = {name: "".join(rng.choice(list("ACGT"), length)) for name, length in (("a", 40_000), ("b", 9_000))}
    letters["a"] = letters["a"][:5_000] + "N" * 2_000 + letters["a"][7_000:]
    (tmp_path / "genome.fa").write_text("".join(f">{name}\n{bases}\n" for name, bases in letters.items()))
    with IndexedFasta(tmp_path / "genome.fa") as found:
        yield found


def territories(genome):
    lengths = {name: genome.length(name) for name in genome.names}
    return splits.by_region(["a:20001-30000"], ["b"], lengths, print)


def test_gc_count():
    assert background.gc_count(np.stack([kmers.encode("ACGTN"), kmers.encode("GGCCC")])).tolist() == [2, 5]


def test_as_many_as_wanted_where_they_may_be(genome):
    owners, excluded = territories(genome), Excluded.of([("a", 1_000, 4_000), ("b", 100, 4_000)])
    wanted = np.zeros((3, 21), np.int64)
    wanted[0, 8:13], wanted[1, 10], wanted[2, 9:12] = 20, 30, 7
    found, missing = background.gc_matched(genome, genome.names, owners, excluded, wanted, np.random.default_rng(3))
    assert missing == 0
    assert Counter((each.split, int(background.gc_count(each.bases))) for each in found) == {
        (split, gc): wanted[split, gc] for split, gc in np.argwhere(wanted)
    }
    used = {name: np.zeros(genome.length(name), int) for name in genome.names}
    for each in found:
        window = slice(each.start, each.start + 20)
        assert (each.bases == genome.fetch(each.record, each.start, each.start + 20)).all()
        assert (each.bases != kmers.N).all()
        inside = each.start >= 20_000 and each.start + 20 <= 30_000
        assert each.split == (2 if each.record == "b" else int(inside))
        used[each.record][window] += 1
    for record, start, end in (("a", 1_000, 4_000), ("b", 100, 4_000), ("a", 5_000, 7_000)):
        assert not used[record][start:end].any()
    assert max(counts.max() for counts in used.values()) == 1


def test_they_come_from_all_over(genome):
    wanted = np.zeros((3, 21), np.int64)
    wanted[0, 10] = 4
    with IndexedFasta(embedded.FASTA) as large:
        owners = splits.by_region([], [], {"20": large.length("20")}, print)
        found, _ = background.gc_matched(large, ["20"], owners, Excluded.of([]), 50 * wanted, np.random.default_rng(0))
        tenths = Counter(each.start * 10 // large.length("20") for each in found)
    assert len(found) == 200
    assert len(tenths) == 10


def test_what_there_is_not_is_counted(genome):
    wanted = np.zeros((3, 21), np.int64)
    wanted[0, 20], wanted[2, 10] = 5, 10_000
    found, missing = background.gc_matched(
        genome, ["b"], territories(genome), Excluded.of([]), wanted, np.random.default_rng(0)
    )
    assert {each.record for each in found} == {"b"}
    windows = genome.fetch("b", 0, 9_000)
    possible = [
        sum(background.gc_count(windows[phase : phase + (9_000 - phase) // 20 * 20].reshape(-1, 20)) == 10)
        for phase in range(20)
    ]
    assert len(found) in possible
    assert len(found) + missing == 10_005


def test_a_record_shorter_than_a_window(genome):
    wanted = np.zeros((3, 9_501), np.int64)
    wanted[2, 4_700] = 1
    owners = territories(genome)
    found, missing = background.gc_matched(genome, ["b"], owners, Excluded.of([]), wanted, np.random.default_rng(0))
    assert (found, missing) == ([], 1)


def test_the_seed_decides(genome):
    wanted = np.zeros((3, 21), np.int64)
    wanted[0, 10] = 20

    def starts(seed):
        rng = np.random.default_rng(seed)
        found, _ = background.gc_matched(genome, genome.names, territories(genome), Excluded.of([]), wanted, rng)
        return [(each.record, each.start) for each in found]

    first = starts(4)
    assert starts(4) == first
    assert starts(5) != first


def test_what_is_to_be_looked_at_grows_little_with_the_genome(genome, monkeypatch):
    monkeypatch.setattr(background, "_STRETCH", 100)
    found = background._stretches(genome, genome.names, 20, np.random.default_rng(0))
    for name in genome.names:
        starts = [start for each in found if each.record == name for start in each.starts]
        assert starts == list(range(starts[0], genome.length(name) - 19, 20))
        assert starts[0] < 20
    assert max(sys.getsizeof(each.starts) for each in found) == sys.getsizeof(range(5))
