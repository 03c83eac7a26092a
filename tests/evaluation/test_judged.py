"""`predictions.tsv` gives back what was judged, digit for digit, and a damaged one is refused by its line."""

import numpy as np
import pytest

from dnabert_jax import evaluation
from dnabert_jax.data.labelled import Examples
from dnabert_jax.errors import InputError
from dnabert_jax.evaluation import judged

CLASSES = {
    "single_label": ("donor site", "na", "10"),
    "multi_label": ("id", "label", 'a "quoted", name'),
    "regression": ("value 1", "value 2", "value 3"),
    "per_base": ("E", "I", "é"),
}


def case(target: str, count: int = 40) -> judged.Judged:
    generator = np.random.default_rng(7)
    predictions = generator.dirichlet(np.ones(3), count).astype(np.float32)
    ids = tuple(f"chr1:{number}-{number + 9}(+)" for number in range(count))
    if target == "multi_label":
        return judged.Judged(ids, generator.integers(0, 2, (count, 3)).astype(np.float32), predictions)
    if target == "regression":
        labels = generator.normal(0, 1e4, (count, 3)).astype(np.float32)
        return judged.Judged(ids, labels, (labels + predictions).astype(np.float32))
    labels = generator.permutation(np.arange(count) % 3)
    if target == "single_label":
        return judged.Judged(ids, labels, predictions)
    # Twice the same name in a row: the second sequence begins where positions do.
    ids = tuple(["a"] * 10 + ["b"] * 10 + ["b"] * 20)
    return judged.Judged(ids, labels, predictions, np.concatenate([np.arange(10), np.arange(10), 3 * np.arange(20)]))


@pytest.mark.parametrize("target", CLASSES)
def test_what_is_read_is_what_was_written(target, tmp_path):
    given, classes = case(target), CLASSES[target]
    judged.write(tmp_path / judged.FILE, target, given, classes)
    found = judged.read(tmp_path / judged.FILE, target, classes)
    assert found.ids == given.ids
    assert found.predictions.dtype == np.float32
    np.testing.assert_array_equal(found.labels, given.labels)
    np.testing.assert_array_equal(found.predictions, given.predictions)
    if target == "per_base":
        np.testing.assert_array_equal(found.positions, given.positions)
    assert evaluation.figures(target, found.labels, found.predictions, classes) == evaluation.figures(
        target, given.labels, given.predictions, classes
    )


def test_the_columns_are_id_label_and_a_probability_for_each_class(tmp_path):
    labels, predictions = np.array([1, 0]), np.array([[0.25, 0.75], [0.1, 0.9]], np.float32)
    judged.write(tmp_path / "p.tsv", "single_label", judged.Judged(("x", "y"), labels, predictions), ("no", "yes"))
    assert (
        tmp_path / "p.tsv"
    ).read_text() == "id\tlabel\tno\tyes\nx\tyes\t0.25\t0.75\ny\tno\t0.100000001\t0.899999976\n"


def test_bases_are_named_by_their_sequence_and_place():
    labels = (np.array([-1, 0, 1], np.int16), np.array([1, -1, -1, 0], np.int16))
    examples = Examples(("a", "b"), (np.zeros(3, np.uint8), np.zeros(4, np.uint8)), labels, ("E", "I"), "per_base")
    found = judged.of(examples, np.array([0, 1, 1, 0]), np.zeros((4, 2)))
    assert found.ids == ("a", "a", "b", "b")
    assert found.positions.tolist() == [1, 2, 0, 3]


def test_bases_of_one_sequence_are_told_from_those_of_the_next():
    assert np.bincount(case("per_base").sequences).tolist() == [10, 10, 20]
    assert case("single_label").sequences.tolist() == list(range(40))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: ["id\tlabel\tno", *lines[1:]], "line 1: the columns are 'id, label, no'"),
        (lambda lines: lines[:1], "no row"),
        (lambda lines: [], "line 1: the columns are ''"),
        (lambda lines: [*lines[:2], lines[2][:-8]], "line 3: 3 columns; expected 4"),
        (lambda lines: [lines[0], "x\tmaybe\t0.5\t0.5"], "line 2: unknown label 'maybe'"),
        (lambda lines: [lines[0], "x\tyes\t0.5\tnan"], "line 2: a prediction that is no finite number"),
        (lambda lines: [lines[0], "x\tyes\t0.5\tO.5"], "line 2: a prediction that is no finite number"),
    ],
)
def test_a_damaged_table_is_refused(change, said, tmp_path):
    path = tmp_path / "p.tsv"
    predictions = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    judged.write(path, "single_label", judged.Judged(("x", "y"), np.array([1, 0]), predictions), ("no", "yes"))
    path.write_text(
        "".join(line + "\n" for line in change(path.read_text().replace("\t0.5\n", "\t0.50000\n").splitlines()))
    )
    with pytest.raises(InputError) as refused:
        judged.read(path, "single_label", ("no", "yes"))
    assert str(refused.value).startswith(str(path))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
