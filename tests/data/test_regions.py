"""Regions as users write them, and which names are the same chromosome."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert_jax.data import regions
from dnabert_jax.data.regions import Region
from dnabert_jax.errors import InputError


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("chr20", Region("chr20")),
        (" 20 ", Region("20")),
        ("chr20:1-5000000", Region("chr20", 0, 5_000_000)),
        ("chr20:1-5,000,000", Region("chr20", 0, 5_000_000)),
        ("chr20:7-7", Region("chr20", 6, 7)),
        ("HLA-A*01:01:10-20", Region("HLA-A*01:01", 9, 20)),
        ("scaffold-1", Region("scaffold-1")),
    ],
)
def test_parse(text, region):
    assert regions.parse(text) == region


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ":",
        ":1-5",
        "20:",
        "20:5",
        "20:5-",
        "20:-5",
        "20:a-b",
        "20:0-5",
        "20:6-5",
        "20:1-2-3",
        "20:,-,",
        "20:1.5-2",
    ],
)
def test_parse_refuses(text):
    with pytest.raises(InputError, match="expected NAME"):
        regions.parse(text)


@given(st.from_regex(r"[A-Za-z0-9_.]{1,8}", fullmatch=True), st.integers(0, 10**9), st.integers(1, 10**9))
def test_parse_reads_what_str_writes(name, start, size):
    region = Region(name, start, start + size)
    assert regions.parse(str(region)) == region
    assert regions.parse(str(Region(name))) == Region(name)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("20", "chr20", True),
        ("chr20", "Chr20", True),
        ("X", "chrX", True),
        ("chrM", "MT", True),
        ("M", "chrMT", True),
        ("2", "20", False),
        ("chr2", "chr20", False),
        ("chr", "", False),
        ("chr1", "chrchr1", False),
        ("X", "Y", False),
    ],
)
def test_same_record(a, b, same):
    assert regions.same_record(a, b) is same
    assert regions.same_record(b, a) is same


def test_match_name():
    assert regions.match_name("20", ["2", "20", "chr20"]) == "20"
    assert regions.match_name("chr20", ["2", "20"]) == "20"
    assert regions.match_name("chrM", ("MT",)) == "MT"
    assert regions.match_name("21", ["2", "20"]) is None
    assert regions.match_name("21", []) is None
    with pytest.raises(InputError, match="'20' could be 'chr20' or 'Chr20'"):
        regions.match_name("20", ["chr20", "Chr20"])


def test_resolve():
    said = []
    found = regions.resolve(["chr20:11-30", "X", "chr20:41-50"], {"20": 100, "X": 7}, said.append)
    assert found == [Region("20", 10, 30), Region("X", 0, 7), Region("20", 40, 50)]
    assert said == ["chr20 is taken to be record 20"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr21", "no record 'chr21'; there are '20', 'X'"),
        ("20:90-101", "ends past the 100 bases of record 20"),
        ("20:5", "is no range"),
    ],
)
def test_resolve_refuses(text, message):
    with pytest.raises(InputError, match=message):
        regions.resolve([text], {"20": 100, "X": 7}, print)


def test_resolve_names_only_a_few_records():
    with pytest.raises(InputError, match="there are 's0', 's1', 's2', 's3', 's4' and 995 more"):
        regions.resolve(["x"], {f"s{i}": 1 for i in range(1000)}, print)


bounds = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted)


@given(bounds, bounds, st.booleans())
def test_overlaps_is_a_shared_base(a, b, open_end):
    region = Region("20", a[0], None if open_end else a[1])
    inside = set(range(a[0], 100 if open_end else a[1]))
    assert regions.overlaps(region, "20", *b) == bool(inside & set(range(*b)))
    assert not regions.overlaps(region, "chr20", *b)


def test_note_goes_to_stderr(capsys):
    regions.note("20 is taken to be chr20")
    assert capsys.readouterr() == ("", "20 is taken to be chr20\n")
