"""Labels written out and read back, whatever they are."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnabert_jax.data import labels

NAMES = st.text("abcXYZ0123456789 +-", min_size=1, max_size=6).map(str.strip).filter(bool)
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def parse(target, texts, lengths=None, classes=None):
    lengths = lengths or [10] * len(texts)
    fields = [labels.Field(f"file: line {i + 2}", *each) for i, each in enumerate(zip(texts, lengths, strict=True))]
    return labels.parse(target, fields, classes, "file")


def normal(name):
    try:
        return str(int(name))
    except ValueError:
        return name


@SETTINGS
@given(st.lists(NAMES, min_size=2, max_size=20).filter(lambda names: len(set(map(normal, names))) > 1))
def test_single_label(names):
    found, classes = parse("single_label", names)
    assert [classes[number] for number in found] == [normal(name) for name in names]
    assert sorted(classes) == sorted(set(map(normal, names)))


@SETTINGS
@given(st.lists(st.lists(NAMES, max_size=4), min_size=1, max_size=20).filter(any))
def test_multi_label(rows):
    found, classes = parse("multi_label", [";".join(names) for names in rows])
    assert found.shape == (len(rows), len(classes))
    for row, names in zip(found, rows, strict=True):
        assert {name for name, value in zip(classes, row) if value == 1} == set(map(normal, names))
        assert set(row) <= {0, 1}


@SETTINGS
@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.tuples(*[NUMBERS] * width), min_size=1, max_size=10)))
def test_regression(rows):
    width = len(rows[0])
    names = tuple(f"n{i}" for i in range(width))
    found, classes = parse("regression", [";".join(map(str, row)) for row in rows], classes=names)
    assert classes == names
    np.testing.assert_array_equal(found, np.array(rows, np.float32))


@SETTINGS
@given(st.lists(st.text("EIx.é0", min_size=1, max_size=30), min_size=1, max_size=10))
def test_per_base(texts):
    names = tuple("EIx0é")
    if set("".join(texts)) == {"."}:
        texts = [*texts, "E"]
    found, classes = parse("per_base", texts, [len(each) for each in texts], names)
    assert classes == names
    assert ["".join(names[number] if number >= 0 else "." for number in each) for each in found] == texts
