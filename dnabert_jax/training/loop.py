"""The training loop that pretraining and fine-tuning share: step, report, validate, save, stop.

What differs between them is a `Program`. The loop owns the order of things, which is what makes a resumed run equal an
uninterrupted one: report, then validate, then save; figures that were summed since the last report are saved with the
state.
"""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import jax

from dnabert_jax.errors import InputError, Interrupted, RunStopped
from dnabert_jax.training.checkpoints import Checkpoints
from dnabert_jax.training.profile import Profile
from dnabert_jax.training.progress import Display
from dnabert_jax.training.reports import Reports
from dnabert_jax.training.signals import StopSignals
from dnabert_jax.training.state import State

Figures = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """A training run, apart from its state.

    Attributes:
      step: (state, batch on devices) → (state, sums); donates the state.
      batches: the batches of steps n, n + 1, ..., on devices; closed at the end.
      figures: (sums since the last report, the last step's sums, steps) → figures to report.
      validate: state → figures, or None where there is nothing to validate on.
      validate_first: whether a new run validates before its first step.
      after_validation: (step, state, figures) → JSON that is saved as `kept` in the progress of the checkpoints that
        follow; what a run does with the result, such as keeping the best.
      tokens_per_step: tokens of a batch, padding included.
      steps: optimiser steps in all.
      report_every, validate_every, save_every: in steps; validate_every 0 is at the end only.
      identity: JSON that must be equal for a resumed run to read the same data in the same order.
    """

    step: Callable[[State, Any], tuple[State, dict[str, jax.Array]]]
    batches: Callable[[int], Generator[Any, None, None]]
    figures: Callable[[dict[str, float], dict[str, float], int], Figures]
    validate: Callable[[State], Figures] | None
    validate_first: bool
    after_validation: Callable[[int, State, Figures], Any]
    tokens_per_step: int
    steps: int
    report_every: int
    validate_every: int
    save_every: int
    identity: dict[str, Any]


def check_identity(where: str, saved: dict[str, Any], found: dict[str, Any]) -> None:
    """Raises InputError when a run is resumed on data other than it began with."""
    changed = [name for name in found if saved.get(name) != found[name]]
    if changed:
        listed = ", ".join(f"{name} ({saved.get(name)} → {found[name]})" for name in changed)
        raise InputError(f"{where}: not the data that this run began with: {listed}; expected the same data")


class _Window:
    """Sums since the last report, kept on the devices until somebody needs them."""

    def __init__(self, sums: dict[str, float] | None = None, steps: int = 0) -> None:
        self.sums = Counter(sums or {})
        self.steps = steps
        self.last: dict[str, float] = {}
        self._pending: list[tuple[int, dict[str, jax.Array]]] = []

    def add(self, step: int, sums: dict[str, jax.Array]) -> None:
        self._pending.append((step, sums))
        self.steps += 1
        if len(self._pending) > 2:  # bounds how far the host runs ahead of the devices
            jax.block_until_ready(self._pending[-3][1])

    def settle(self) -> None:
        """Brings the sums to the host. Raises RunStopped at the first that is no finite number."""
        for step, sums in jax.device_get(self._pending):
            self.last = {name: float(value) for name, value in sums.items()}
            _check_finite(step, "", self.last)
            self.sums.update(self.last)
        self._pending.clear()


def _check_finite(step: int, split: str, figures: Figures) -> None:
    """Raises RunStopped when a figure is no finite number; None is a figure that is not defined."""
    wrong = [name for name, value in figures.items() if value is not None and not math.isfinite(value)]
    if wrong:
        name = "loss" if "loss" in wrong else wrong[0]
        raise RunStopped(
            f"step {step}: {split}{name} is {figures[name]}; stopped without saving, so the last checkpoint stays "
            "good; try a lower learning rate, or float32"
        )


class _Clock:
    """Seconds of training, without what compiling, validating and saving take."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._began, self._paused = time.perf_counter(), 0.0
        self.steps, self.tokens = 0, 0

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._paused += time.perf_counter() - began

    def count(self, tokens: int) -> None:
        self.steps += 1
        self.tokens += tokens

    def rates(self) -> Figures:
        """`step_time_ms` and `tokens_per_second` since `restart`; nothing when no step was counted."""
        seconds = time.perf_counter() - self._began - self._paused
        if not self.steps:
            return {}
        return {"step_time_ms": 1000 * seconds / self.steps, "tokens_per_second": self.tokens / seconds}


def run(
    program: Program,
    state: State,
    progress: dict[str, Any] | None,
    *,
    checkpoints: Checkpoints,
    reports: Reports,
    display: Display,
    stop: StopSignals,
    profile: Profile,
) -> tuple[State, Figures]:
    """Runs to `program.steps`.

    Args:
      program: what to run.
      state: at step 0, or as restored.
      progress: what the checkpoint held beside the state; None for a new run.
      checkpoints, reports, display, stop, profile: open; the caller closes them.

    Returns:
      The last state, and the figures of the last validation (empty without one).

    Raises:
      Interrupted: a signal came; the state is saved.
      RunStopped: a loss, a gradient or a figure of a validation is no finite number, or saving failed.
    """
    resumed = progress is not None
    progress = progress or {}
    done = int(state.step)
    saved = done if resumed else None
    window = _Window(progress.get("window"), progress.get("window_steps", 0))
    validated: Figures = progress.get("validated", {})
    kept: Any = progress.get("kept")
    clock = _Clock()

    @contextlib.contextmanager
    def aside() -> Iterator[None]:
        """Neither a device nor the clock of training is at work inside."""
        window.settle()
        with clock.paused():
            yield

    def validate() -> None:
        nonlocal validated, kept
        if program.validate is None:
            return
        with aside():
            validated = program.validate(state)
            _check_finite(done, "validation ", validated)
            reports.write(done, "validation", validated)
            display.update(done, validated, split="validation")
            kept = program.after_validation(done, state, validated)

    def save() -> None:
        nonlocal saved
        with aside():
            summed = {"window": dict(window.sums), "window_steps": window.steps}
            found = {"validated": validated, "kept": kept}
            checkpoints.save(done, state, {"identity": program.identity, **found, **summed})
        saved = done

    if program.validate_first and not resumed:
        validate()
    with contextlib.closing(program.batches(done)) as batches:

        def following() -> Any:
            """The batch of the next step; None when there is no such step or the data end before it."""
            return next(batches, None) if done < program.steps else None

        batch, asked = following(), None
        while batch is not None and not (asked := stop.after_step()):
            with profile.step(done, aside):
                state, sums = program.step(state, batch)
                done += 1
                batch = following()
                window.add(done, sums)
            if done == int(progress.get("step", 0)) + 1:
                window.settle()
                clock.restart()  # the first step compiles
            else:
                clock.count(program.tokens_per_step)
            last = batch is None
            if last or done % program.report_every == 0:
                window.settle()
                figures = program.figures(window.sums, window.last, window.steps) | clock.rates()
                reports.write(done, "train", figures)
                display.update(done, figures)
                clock.restart()
            if done % program.report_every == 0:
                window = _Window()  # a last report before its time leaves the sums to a run that goes on
            if last or (program.validate_every and done % program.validate_every == 0):
                validate()
            if last or done % program.save_every == 0:
                save()
    if batch is not None and saved != done:
        save()
    checkpoints.wait()
    if batch is not None:
        raise Interrupted(f"{asked}: saved step {done}; start again with the same command to go on from there")
    if done < program.steps:
        display.say(f"the data end after step {done}; {program.steps} steps were asked for")
    return state, validated
