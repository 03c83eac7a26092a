"""The shapes of batches: few where there is little to compute, finer ones where padding would cost more than compiling.

A program is compiled for each shape, rows × tokens of a row. So the first batches share coarse shapes. The tokens that
were computed only because no closer shape was there are added up, and once compiling would have cost as many, the shape
that would have saved them is compiled too. Short streams pay for few programs, and long ones for little padding. All of
it follows from the lengths, the model and the machine, and never from a clock, so that the same stream has the same
batches again.
"""

import math
import os
from typing import NamedTuple

from dnabert_jax.config import EncoderConfig

_COARSE, _LONG = 64, 512
"""Coarse rows are a multiple of the first, and of the second where they are longer than that."""

_CPU_TOKENS = 512
"""Tokens of a batch for each core. Larger batches fall out of a CPU's caches: at 768 hidden units on two cores, 16 rows
of 512 took 1.3 times as much time a token as 2. Accelerators take as many as they are given."""

_CPU_STEP = 16
"""Rows that are worth a program of their own are a multiple of so many tokens on a CPU, and coarse elsewhere, where
kernels work on tiles of 64 or 128 tokens."""

_PALLAS_STEP = 128
"""Of rows for the attention kernel `pallas` where it is asked for by name, which takes no others."""

_CPU_COMPILES, _COMPILES = 0.5, 3.0
"""Seconds that compiling a program takes, on a CPU and elsewhere, about."""

_CPU_RATE, _RATE = 1e11, 2e14
"""Floating-point operations per second, of a core and of an accelerator, about."""


class Shape(NamedTuple):
    """Of a batch."""

    rows: int
    length: int
    """Tokens of each row."""

    def per_row(self, left: int) -> float:
        """Tokens to compute for each row that is used, where so many rows are left."""
        return self.rows * self.length / min(self.rows, left)


class Shapes:
    """Chooses the shape of one batch after another.

    Args:
      max_length: tokens of the longest row.
      tokens: in a batch, at most, unless a single row has more.
      step: fine rows are a multiple of so many tokens.
      cost: tokens that could be computed in the time that compiling takes.
    """

    def __init__(self, *, max_length: int, tokens: int, step: int, cost: float) -> None:
        self.max_length, self.tokens, self.step, self.cost = max_length, tokens, step, cost
        self._lost: dict[Shape, float] = {}  # by shapes that are compiled, since each was last found too large

    def choose(self, length: int, left: int) -> Shape:
        """The shape of the next batch.

        Args:
          length: tokens of a row of its longest bucket.
          left: rows that are left to compute, none of them of a longer bucket.
        """
        closest = self._closest(length, left, self.step)
        fitting = [shape for shape in self._lost if shape.length >= closest.length and self._is_full(shape, left)]
        if not fitting:
            step = max(_COARSE, self.step) if closest.length <= _LONG else _LONG
            return self._compiled(self._closest(closest.length, left, step))
        best = min(fitting, key=lambda shape: shape.per_row(left))
        self._lost[best] += max(best.per_row(left) - closest.per_row(left), 0) * min(best.rows, left)
        if self._lost[best] < self.cost:
            return best
        self._lost[best] = 0.0
        return self._compiled(closest)

    def bucket(self, length: int) -> int:
        """Which fine rows a row of so many tokens belongs to, in the order of their lengths."""
        return math.ceil(length / self.step)

    def _closest(self, length: int, left: int, step: int) -> Shape:
        """Full, or with a power of two of rows where fewer are left."""
        length = min(step * math.ceil(length / step), self.max_length)
        return Shape(min(self._rows(length), 2 ** math.ceil(math.log2(left))), length)

    def _rows(self, length: int) -> int:
        return max(self.tokens // length, 1)

    def _is_full(self, shape: Shape, left: int) -> bool:
        """Whether it takes all that is left, or as much as any of its length. Row by row would be slow."""
        return shape.rows >= min(left, self._rows(shape.length))

    def _compiled(self, shape: Shape) -> Shape:
        self._lost.setdefault(shape, 0.0)
        return shape


def shapes(encoder: EncoderConfig, batch_size: int, platform: str) -> Shapes:
    """The shapes for an encoder on a kind of device.

    Args:
      encoder: what computes the rows.
      batch_size: rows of the longest that may be computed at once; of shorter ones as many more as have no more tokens.
      platform: `cpu`, `gpu` or `tpu`.
    """
    tokens, step, seconds, rate = batch_size * encoder.max_length, _COARSE, _COMPILES, _RATE
    if platform == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        tokens, step, seconds, rate = min(tokens, _CPU_TOKENS * cores), _CPU_STEP, _CPU_COMPILES, _CPU_RATE * cores
    if encoder.attention == "pallas":
        step = _PALLAS_STEP
    per_token = 2 * encoder.layers * encoder.hidden * (4 * encoder.hidden + 2 * encoder.intermediate)
    return Shapes(max_length=encoder.max_length, tokens=tokens, step=step, cost=seconds * rate / per_token)
