"""Timing steps: one after another or several kinds of them in turn, and what comes of the times."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Counts(NamedTuple):
    """What one step did.

    Attributes:
      tokens: that went through the model, padding included.
      useful_tokens: of these, that are not padding.
      flops: of the model on useful tokens, as `flops` counts them.
      input_wait_s: seconds in which the device waited for the host's data.
    """

    tokens: int
    useful_tokens: int
    flops: float
    input_wait_s: float


Say = Callable[[str], None]


@dataclass
class Timing:
    """Steps of one kind.

    Attributes:
      seconds: that each step took.
      counts: what each did.
      joules: that all of them took together; NaN where nothing measures it.
    """

    seconds: list[float] = field(default_factory=list)
    counts: list[Counts] = field(default_factory=list)
    joules: float = 0.0

    @property
    def median_ms(self) -> float:
        return self._percentile_ms(50)

    @property
    def p10_ms(self) -> float:
        return self._percentile_ms(10)

    @property
    def p90_ms(self) -> float:
        return self._percentile_ms(90)

    def _percentile_ms(self, percent: float) -> float:
        return 1000 * float(np.percentile(self.seconds, percent))

    @property
    def tokens_per_second(self) -> float:
        return sum(each.tokens for each in self.counts) / sum(self.seconds)

    @property
    def useful_tokens_per_second(self) -> float:
        return sum(each.useful_tokens for each in self.counts) / sum(self.seconds)

    @property
    def model_flops_per_second(self) -> float:
        return sum(each.flops for each in self.counts) / sum(self.seconds)

    @property
    def input_wait_share(self) -> float:
        """Of the time, that the device waited for the host's data."""
        return sum(each.input_wait_s for each in self.counts) / sum(self.seconds)


TURN = 5
"""Timed steps of a turn, where there are several kinds."""


def in_turn(
    steps: Mapping[str, Callable[[], Counts]],
    count: int,
    warmup: int,
    say: Say,
    joules: Callable[[], float | None] = lambda: None,
) -> dict[str, Timing]:
    """Times steps of several kinds in turn; the order is turned round after each round.

    So what drifts, such as the clock of a machine that is shared or gets hot, meets all kinds alike. A turn is `TURN`
    steps after one that is not timed, which takes up what the other kind left: caches that hold its arrays, memory that
    went back to the system. No step of a run meets that but its first. (A step of BERT-base took twice its time right
    after one of PyTorch, on a virtual machine whose host took the free memory away.)

    Args:
      steps: a kind of step under each name; a call runs one and waits until the device has done it.
      count: timed steps of each kind.
      warmup: steps of each kind before those, which are not timed.
      say: hears what has been done, after each round.
      joules: energy that the machine has used so far; None where it is not known.
    """
    for step in steps.values():
        for _ in range(warmup):
            step()
    timings = {name: Timing() for name in steps}
    names = list(steps)
    for done in range(0, count, TURN):
        for name in names:
            if len(names) > 1:
                steps[name]()
            for _ in range(min(TURN, count - done)):
                _time(steps[name], timings[name], joules)
        names.reverse()
        say(f"{min(done + TURN, count)} of {count} steps")
    return timings


def _time(step: Callable[[], Counts], timing: Timing, joules: Callable[[], float | None]) -> None:
    before = joules()
    began = time.perf_counter()
    counts = step()
    timing.seconds.append(time.perf_counter() - began)
    timing.counts.append(counts)
    after = joules()
    timing.joules += math.nan if None in (before, after) else after - before
