"""The convolutional networks that DNABERT is compared with: of SpliceFinder's shape, and of DeepBind's.

Both read one-hot bases (N, and what fills shorter sequences up, is all zeros) and have one convolution. They are
trained alike: with Adam, until the validation set has not got better for a while, and the params of the best epoch are
taken. What the papers chose for other data, such as the learning rate, `tuned` chooses on the validation set, so that
the peers are as good as their shapes allow.
"""

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnabert_jax import kmers
from dnabert_jax.evaluation import one_class

Say = Callable[[str], None]

_COMPLEMENT = np.array([kmers.T, kmers.A, kmers.G, kmers.C])
_ROWS = 512
"""Sequences that are judged at once."""


class SpliceFinder(nn.Module):
    """Wang et al. (2019, doi 10.1186/s12859-019-3306-3): 50 filters of width 9, dense 100, dropout, softmax."""

    classes: int
    dropout: float = 0.3

    @nn.compact
    def __call__(self, bases: jax.Array, deterministic: bool) -> jax.Array:
        """uint8[batch, length] of base codes to logits, float32[batch, classes]."""
        x = nn.relu(nn.Conv(50, (9,), name="conv")(_one_hot(bases)))
        x = nn.relu(nn.Dense(100, name="hidden")(x.reshape(len(x), -1)))
        return nn.Dense(self.classes, name="out")(nn.Dropout(self.dropout)(x, deterministic=deterministic))


class DeepBind(nn.Module):
    """Alipanahi et al. (2015, doi 10.1038/nbt.3300): 16 motifs of width 24, the best match of each, dense 32.

    `strands` 2 takes the best match on either strand, as DeepBind does with double-stranded DNA.
    """

    classes: int
    dropout: float = 0.5
    strands: int = 1

    @nn.compact
    def __call__(self, bases: jax.Array, deterministic: bool) -> jax.Array:
        """uint8[batch, length] of base codes to logits, float32[batch, classes]."""
        motifs = nn.Conv(16, (24,), name="conv")
        x = _one_hot(bases)
        best = motifs(x).max(axis=1)
        if self.strands == 2:
            best = jnp.maximum(best, motifs(_other_strand(x)).max(axis=1))
        x = nn.relu(nn.Dense(32, name="hidden")(nn.relu(best)))
        return nn.Dense(self.classes, name="out")(nn.Dropout(self.dropout)(x, deterministic=deterministic))


@dataclass(frozen=True)
class Settings:
    """A network, and how it is trained."""

    shape: Literal["SpliceFinder", "DeepBind"]
    learning_rate: float
    dropout: float
    both_strands: bool = False
    """DeepBind: take the best match on either strand. SpliceFinder, which has no such means: read each training
    sequence from either strand with probability one half."""
    batch_size: int = 64
    epochs: int = 60
    """At most."""
    patience: int = 8
    """Epochs without a better one after which training stops."""

    def network(self, classes: int) -> nn.Module:
        """What is trained."""
        if self.shape == "SpliceFinder":
            return SpliceFinder(classes, self.dropout)
        return DeepBind(classes, self.dropout, 2 if self.both_strands else 1)


START = {
    "SpliceFinder": Settings("SpliceFinder", learning_rate=1e-3, dropout=0.3),
    "DeepBind": Settings("DeepBind", learning_rate=1e-2, dropout=0.5),
}
"""Where tuning begins; the rates of dropout are the papers'."""

TRIED = {
    "SpliceFinder": {"learning_rate": (1e-3, 3e-4, 3e-3), "both_strands": (False, True)},
    "DeepBind": {"learning_rate": (1e-2, 3e-3, 3e-2), "both_strands": (False, True), "dropout": (0.5, 0.0)},
}
"""What tuning tries: field by field, the values of one with the best of those before it."""


class Data(NamedTuple):
    """Sequences with their classes."""

    bases: np.ndarray
    """uint8[n, length] of base codes; shorter sequences end in N."""
    labels: np.ndarray
    """int32[n], 0..classes-1."""


class Trained(NamedTuple):
    """A network after training."""

    network: nn.Module
    params: Any
    """Those of the best epoch."""
    mcc: float
    """On the validation set."""
    best_epoch: int
    epochs: int

    @property
    def size(self) -> int:
        """The number of params."""
        return sum(x.size for x in jax.tree.leaves(self.params))

    def probabilities(self, bases: np.ndarray) -> np.ndarray:
        """uint8[n, length] of base codes to the probability of each class, float32[n, classes]."""
        return _probabilities(_predictor(self.network), self.params, bases)


def padded(sequences: tuple[np.ndarray, ...], length: int) -> np.ndarray:
    """Sequences of base codes as uint8[n, length], filled up with N."""
    bases = np.full((len(sequences), length), kmers.N, np.uint8)
    for row, sequence in zip(bases, sequences, strict=True):
        row[: len(sequence)] = sequence
    return bases


def tuned(shape: str, data: Data, validation: Data, classes: int, say: Say) -> Settings:
    """The settings among those of `TRIED` with which a shape does best on the validation set.

    Args:
      shape: a key of `TRIED`.
      data, validation: as `train` takes them.
      classes: how many there are.
      say: hears of every trial.
    """
    best, trained = START[shape], {}
    for name, values in TRIED[shape].items():
        tried = [dataclasses.replace(best, **{name: value}) for value in values]
        for settings in tried:
            if settings not in trained:
                found = trained[settings] = train(settings, data, validation, classes, seed=0)
                what = f"learning rate {settings.learning_rate:g}, dropout {settings.dropout:g}"
                strands = ", both strands" if settings.both_strands else ""
                say(
                    f"{shape}, {what}{strands}: validation MCC {found.mcc:.4f}, epoch {found.best_epoch}/{found.epochs}"
                )
        best = max(tried, key=lambda settings: trained[settings].mcc)
    return best


def train(settings: Settings, data: Data, validation: Data, classes: int, seed: int) -> Trained:
    """Trains until the validation set gets no better.

    Args:
      settings: what, and how.
      data, validation: sequences of one length.
      classes: how many there are.
      seed: of the params, the order, the strands and dropout.

    Returns:
      The network of the epoch with the highest Matthews correlation on `validation`; the first among equals.
    """
    network = settings.network(classes)
    either_strand = settings.both_strands and settings.shape == "SpliceFinder"
    optimizer = optax.adam(settings.learning_rate)
    params_key, step_key = jax.random.split(jax.random.key(seed))
    params = jax.jit(network.init, static_argnums=2)(params_key, data.bases[:1], True)["params"]
    state = optimizer.init(params)
    bases, labels = jnp.asarray(data.bases), jnp.asarray(data.labels)

    @jax.jit
    def step(params, state, rows, turned, key):
        def loss(params):
            read = bases[rows]
            if either_strand:
                read = jnp.where(turned[:, None], _reverse_complement(read), read)
            logits = network.apply({"params": params}, read, False, rngs={"dropout": key})
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    predict = _predictor(network)
    generator = np.random.default_rng(seed)
    keys = (jax.random.fold_in(step_key, number) for number in itertools.count())
    best = Trained(network, params, -np.inf, 0, 0)
    for epoch in range(1, settings.epochs + 1):
        for rows in _batches(len(labels), settings.batch_size, generator):
            params, state = step(params, state, rows, generator.random(len(rows)) < 0.5, next(keys))
        predicted = _probabilities(predict, params, validation.bases).argmax(axis=1)
        mcc = one_class.mcc(validation.labels, predicted)
        if mcc > best.mcc:
            best = Trained(network, params, mcc, epoch, epoch)
        elif epoch - best.best_epoch >= settings.patience:
            break
    return best._replace(params=jax.device_get(best.params), epochs=epoch)


def _predictor(network: nn.Module) -> Callable[[Any, jax.Array], jax.Array]:
    return jax.jit(lambda params, bases: jax.nn.softmax(network.apply({"params": params}, bases, True)))


def _probabilities(predict: Callable[[Any, jax.Array], jax.Array], params: Any, bases: np.ndarray) -> np.ndarray:
    found = []
    for start in range(0, len(bases), _ROWS):
        rows = bases[start : start + _ROWS]
        filled = np.pad(rows, [(0, _ROWS - len(rows)), (0, 0)])  # one shape, compiled once
        found.append(np.asarray(predict(params, filled))[: len(rows)])
    return np.concatenate(found)


def _batches(examples: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """An epoch in random order, int[batches, size]; the last batch is filled up with the first examples."""
    order = generator.permutation(examples)
    return np.resize(order, (-(-examples // size), size))


def _one_hot(bases: jax.Array) -> jax.Array:
    return jax.nn.one_hot(bases, 4)


def _other_strand(one_hot: jax.Array) -> jax.Array:
    return one_hot[:, ::-1, _COMPLEMENT]


def _reverse_complement(bases: jax.Array) -> jax.Array:
    flipped = bases[:, ::-1]
    return jnp.where(flipped == kmers.N, flipped, flipped ^ 1)
