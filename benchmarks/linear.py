"""Logistic regression on what can be read off a sequence without learning: its one-hot bases, or its counts of k-mers.

How strongly the weights are held back, and for counts k and whether both strands are counted, is chosen on the
validation set by Matthews correlation.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.linear_model import LogisticRegression

from dnabert_jax import kmers
from dnabert_jax.evaluation import one_class

Features = Literal["one-hot", "k-mers"]
_Table = np.ndarray | scipy.sparse.csr_matrix

C = tuple(float(each) for each in np.logspace(-4, 1, 11))
"""What is tried for scikit-learn's C, the inverse of the strength of the penalty."""
KS = (3, 4, 5, 6)


class Data(NamedTuple):
    """Sequences with their classes."""

    sequences: Sequence[np.ndarray]
    """uint8[n_i] of base codes each."""
    labels: np.ndarray
    """int32[n]"""


class Trained(NamedTuple):
    """The regression that did best on the validation set."""

    model: LogisticRegression
    features: Callable[[Sequence[np.ndarray]], _Table]
    settings: dict[str, Any]
    mcc: float
    """On the validation set."""

    @property
    def size(self) -> int:
        """The number of weights."""
        return self.model.coef_.size + self.model.intercept_.size

    def probabilities(self, sequences: Sequence[np.ndarray]) -> np.ndarray:
        """The probability of each class, float[n, classes]."""
        return self.model.predict_proba(self.features(sequences))


def train(kind: Features, data: Data, validation: Data) -> Trained:
    """Trains with every setting, and keeps the best; the first among equals, and so the most held back.

    With each kind of features the penalty gets weaker until two values of C in a row have done worse than the best.
    """
    best = None
    for settings, features in _features(kind, max(map(len, data.sequences))):
        table, held_out = features(data.sequences), features(validation.sequences)
        model = LogisticRegression(max_iter=1000, warm_start=True)
        found: list[float] = []
        for c in C:
            model.set_params(C=c).fit(table, data.labels)
            mcc = one_class.mcc(validation.labels, model.predict(held_out))
            if best is None or mcc > best.mcc:
                best = Trained(copy.deepcopy(model), features, {**settings, "C": c}, mcc)
            found.append(mcc)
            if max(found[-2:]) < max(found):
                break
    return best


def one_hot(sequences: Sequence[np.ndarray], length: int) -> np.ndarray:
    """float32[n, 4·length]: four columns a place, all 0 for N and past the end. What is past `length` is left out."""
    table = np.zeros((len(sequences), length, 4), np.float32)
    for row, sequence in zip(table, sequences, strict=True):
        known = np.flatnonzero(sequence[:length] != kmers.N)
        row[known, sequence[known]] = 1
    return table.reshape(len(sequences), -1)


def counts(sequences: Sequence[np.ndarray], k: int, both_strands: bool) -> scipy.sparse.csr_matrix:
    """float32[n, 4**k]: how often each k-mer is there, in vocabulary order; those with an N are left out."""
    rows, columns = [], []
    for number, sequence in enumerate(sequences):
        strands = [sequence, kmers.reverse_complement(sequence)] if both_strands else [sequence]
        found = np.concatenate([kmers.tokenize(strand, k) for strand in strands])
        found = found[found != kmers.UNK] - kmers.FIRST_KMER
        rows.append(np.full(len(found), number))
        columns.append(found)
    places = (np.concatenate(rows), np.concatenate(columns))
    table = scipy.sparse.coo_matrix((np.ones(len(places[0]), np.float32), places), (len(sequences), 4**k))
    return table.tocsr()  # which adds up what is of one place


def _features(kind: Features, length: int) -> Iterator[tuple[dict[str, Any], Callable[[Sequence[np.ndarray]], _Table]]]:
    if kind == "one-hot":
        yield {}, lambda sequences: one_hot(sequences, length)
        return
    for k in KS:
        for both_strands in (False, True):
            settings = {"k": k, "both_strands": both_strands}
            yield settings, lambda sequences, settings=settings: counts(sequences, **settings)
