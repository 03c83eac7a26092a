"""Counts of right and wrong calls against a slow loop, and the most probable false positives first."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert_jax import loaded
from dnabert_jax.config import ModelConfig
from dnabert_jax.inference import predictions
from dnabert_jax.rounds import scoring
from dnabert_jax.rounds.borders import Asked, Border
from dnabert_jax.rounds.scoring import Counts
from tests import tiny

CLASSES = ("acceptor", "donor", "neither")
MODEL = loaded.Model(ModelConfig(tiny.ENCODER, "single_label", CLASSES), {}, "without params")

_labels = st.frozensets(st.sampled_from(["donor", "acceptor"]))
_probabilities = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
_asked = st.lists(st.tuples(_labels, st.booleans(), _probabilities, st.booleans()), max_size=30)


def _slowly(rows, most):
    counts = dict.fromkeys(
        ("borders", "sites", "found", "other_kind", "false_positives", "non_canonical", "non_canonical_found"), 0
    )
    wrong = []
    for at, (labels, canonical, values, known) in enumerate(rows):
        called = CLASSES[values.index(max(values))]
        if labels and not canonical:
            counts["non_canonical"] += 1
            counts["non_canonical_found"] += called in labels
        else:
            counts["borders"] += 1
            counts["sites"] += bool(labels)
            counts["found"] += called in labels
            counts["other_kind"] += bool(labels) and called != "neither" and called not in labels
            counts["false_positives"] += not labels and called != "neither"
            if not labels and called != "neither" and not known:
                wrong.append((-max(values), at, called))
    return counts, [(at, called, -value) for value, at, called in sorted(wrong)[:most]]


@settings(max_examples=80, deadline=None)
@given(rows=_asked, most=st.integers(1, 6))
def test_counts_are_those_of_a_slow_loop(rows, most):
    asked = [
        (Asked(Border("1", at, "+"), labels, canonical or not labels), np.array(values, np.float32))
        for at, (labels, canonical, values, _) in enumerate(rows)
    ]
    known = {Border("1", at, "+") for at, row in enumerate(rows) if row[3]}
    heard = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictions, "predict", lambda config, params, asked, *, batch_size: iter(asked))
        counts, found = scoring.score(MODEL, asked, known=known, most=most, progress=heard.append)
    expected, wrong = _slowly(rows, most)
    assert counts == Counts(**expected)
    assert [(each.border.position, each.called, each.probability) for each in found] == wrong
    assert heard == [each.border for each, _ in asked]


def test_shares():
    counts = Counts(borders=100, sites=20, found=15, other_kind=2, false_positives=3)
    assert counts.precision == 0.75
    assert counts.recall == 0.75
    assert counts.missed == 5
    assert Counts().precision is None
    assert Counts().recall is None
