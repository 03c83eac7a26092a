"""The order of things in a run, with a model of one number: what is stepped, reported, validated, saved, and when."""

import copy
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax.errors import Interrupted, RunStopped
from dnabert_jax.training import loop
from dnabert_jax.training.profile import Profile
from dnabert_jax.training.state import State

STEPS = 10


def batch_of(step: int) -> float:
    """What the batch of a step holds, counted from 0. In binary floating point the order of their sum matters."""
    return 0.1 * (step + 1) ** 2


class Run:
    """A workdir in memory and everything that the loop is handed; `start` is one start of the program in it."""

    def __init__(self, *, report: int, validate: int, save: int) -> None:
        self.every = {"report_every": report, "validate_every": validate, "save_every": save}
        self.events: list[tuple] = []
        self.figures: list[tuple[int, str, dict[str, Any]]] = []
        self.said: list[str] = []
        self.checkpoint: tuple[State, dict[str, Any]] | None = None
        self.received: str | None = None
        self.profiled: range | None = None
        self.folder = ""

    def after_step(self) -> str | None:
        return self.received

    def start(self, *, steps: int = STEPS, stop_at: int | None = None, **changes: Any) -> tuple[State, dict[str, Any]]:
        """Runs as far as it goes, from the last checkpoint where there is one.

        Args:
          steps: of the program.
          stop_at: step during which a signal comes; 0 is before the first.
          changes: fields of the `loop.Program`.
        """
        self.received = "SIGTERM" if stop_at == 0 else None

        def step(state: State, batch: float) -> tuple[State, dict[str, Any]]:
            number = int(state.step)
            assert batch == batch_of(number), "the batch of another step"
            if stop_at == number + 1:
                self.received = "SIGTERM"
            sums = {"loss": jnp.float32(batch) * state.params, "examples": jnp.float32(1)}
            return State(state.step + 1, state.params + jnp.float32(batch), None), sums

        program = loop.Program(
            step=step,
            batches=lambda start: (batch_of(number) for number in range(start, 1000)),
            figures=lambda sums, last, steps: {
                "loss": sums["loss"] / sums["examples"],
                "last": last["loss"],
                "steps": steps,
            },
            validate=lambda state: {"loss": float(state.params)},
            validate_first=True,
            after_validation=lambda step, state, figures: self.events.append(("after validation", step, figures)),
            tokens_per_step=8,
            steps=steps,
            identity={"data": "these"},
            **self.every,
        )
        program = dataclasses.replace(program, **changes)
        state, progress = self.restored()
        # As `Reports` does, for a run that goes on from an earlier step than it had reported.
        self.figures = [each for each in self.figures if progress is not None and each[0] <= int(state.step)]
        surroundings = {"checkpoints": self, "reports": self, "display": self, "stop": self}
        with Profile(self.profiled, self.folder, self.said.append) as profile:
            return loop.run(program, state, progress, **surroundings, profile=profile)

    def restored(self) -> tuple[State, dict[str, Any] | None]:
        if self.checkpoint is None:
            return State(jnp.int32(0), jnp.float32(1), None), None
        return copy.deepcopy(self.checkpoint)

    def named(self, *kinds: str) -> list[tuple]:
        return [event[:2] for event in self.events if event[0] in kinds]

    # Checkpoints
    def save(self, step: int, state: State, progress: dict[str, Any]) -> None:
        assert step == int(state.step)
        self.events.append(("save", step))
        self.checkpoint = state, {**copy.deepcopy(progress), "step": step}

    def wait(self) -> None:
        self.events.append(("wait",))

    # Reports
    def write(self, step: int, split: str, figures: dict[str, Any]) -> None:
        self.events.append((split, step))
        self.figures.append((step, split, without_times(figures)))

    # Display
    def update(self, step: int, figures: dict[str, Any], split: str = "train") -> None:
        self.events.append(("shown", step, split))

    def say(self, line: str) -> None:
        self.said.append(line)


def without_times(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name not in ("step_time_ms", "tokens_per_second")}


def test_reports_then_validates_then_saves():
    run = Run(report=2, validate=4, save=4)
    state, validated = run.start(steps=9)
    assert run.named("train", "validation", "after validation", "save", "wait") == [
        ("validation", 0),
        ("after validation", 0),
        ("train", 2),
        ("train", 4),
        ("validation", 4),
        ("after validation", 4),
        ("save", 4),
        ("train", 6),
        ("train", 8),
        ("validation", 8),
        ("after validation", 8),
        ("save", 8),
        ("train", 9),
        ("validation", 9),
        ("after validation", 9),
        ("save", 9),
        ("wait",),
    ]
    assert int(state.step) == 9
    assert validated == {"loss": float(state.params)}


def test_everything_that_is_reported_is_shown():
    run = Run(report=3, validate=5, save=4)
    run.start()
    shown = [event[1:] for event in run.events if event[0] == "shown"]
    assert shown == [(step, split) for step, split, _ in run.figures]


def test_the_figures_of_a_report_are_of_the_steps_since_the_last():
    run = Run(report=4, validate=0, save=100)
    run.start()
    params, losses = 1.0, []
    for step in range(STEPS):
        losses.append(batch_of(step) * params)
        params += batch_of(step)
    reported = [(step, figures) for step, split, figures in run.figures if split == "train"]
    for (step, figures), window in zip(reported, [losses[:4], losses[4:8], losses[8:]], strict=True):
        assert figures["steps"] == len(window), step
        assert figures["loss"] == pytest.approx(np.mean(window), rel=1e-5), step
        assert figures["last"] == pytest.approx(window[-1], rel=1e-5), step


def test_a_report_says_how_fast_except_after_the_first_step_alone():
    run = Run(report=1, validate=0, save=100)
    rates: dict[int, dict[str, float]] = {}
    run.write = lambda step, split, figures: rates.update({step: figures}) if split == "train" else None
    run.start(steps=3)
    assert not {"step_time_ms", "tokens_per_second"} & set(rates[1])  # it compiles
    for step in (2, 3):
        assert rates[step]["step_time_ms"] > 0
        assert rates[step]["tokens_per_second"] == pytest.approx(8 * 1000 / rates[step]["step_time_ms"])


def test_validates_only_at_the_ends_when_not_asked_to_in_between():
    run = Run(report=100, validate=0, save=3)
    run.start()
    assert run.named("validation") == [("validation", 0), ("validation", STEPS)]


def test_a_run_that_need_not_validate_first_does_not():
    run = Run(report=100, validate=5, save=100)
    run.start(validate_first=False)
    assert run.named("validation") == [("validation", 5), ("validation", STEPS)]


def test_a_run_without_validation_reports_and_saves_all_the_same():
    run = Run(report=5, validate=5, save=5)
    _, validated = run.start(validate=None)
    assert validated == {}
    assert run.named("train", "validation", "save") == [("train", 5), ("save", 5), ("train", 10), ("save", 10)]


def test_the_checkpoint_holds_the_identity_of_the_data_and_the_last_validation():
    run = Run(report=3, validate=4, save=6)
    with pytest.raises(Interrupted):
        run.start(stop_at=7)
    state, progress = run.restored()
    assert progress["identity"] == {"data": "these"}
    at_4 = next(figures for step, split, figures in run.figures if (step, split) == (4, "validation"))
    assert progress["validated"] == at_4
    assert (int(state.step), progress["window_steps"]) == (7, 1)


def test_what_follows_from_a_validation_is_kept_until_the_next():
    run = Run(report=3, validate=4, save=2)
    with pytest.raises(Interrupted):
        run.start(stop_at=5, after_validation=lambda step, state, figures: {"at": step})
    assert run.restored()[1]["kept"] == {"at": 4}
    with pytest.raises(Interrupted):
        run.start(stop_at=7, after_validation=lambda step, state, figures: {"at": step})
    assert run.restored()[1]["kept"] == {"at": 4}


@pytest.mark.parametrize(
    "every", [(3, 4, 5), (4, 0, 2), (1, 1, 1), (100, 100, 100)], ids=lambda x: "-".join(map(str, x))
)
@pytest.mark.parametrize("stop_at", range(STEPS + 1))
def test_stopped_at_any_step_and_resumed_equals_undisturbed(every, stop_at):
    report, validate, save = every
    straight = Run(report=report, validate=validate, save=save)
    state, validated = straight.start()

    run = Run(report=report, validate=validate, save=save)
    if stop_at < STEPS:
        with pytest.raises(Interrupted, match=rf"^SIGTERM: saved step {stop_at};"):
            run.start(stop_at=stop_at)
        assert run.events[-1] == ("wait",)  # nothing is said before it is whole on disk
        assert int(run.restored()[0].step) == stop_at
        found, figures = run.start()
    else:  # a signal during the last step comes too late to stop anything
        found, figures = run.start(stop_at=stop_at)
    assert float(found.params) == float(state.params)
    assert figures == validated
    assert run.figures == straight.figures


@pytest.mark.parametrize("stops", [(1, 2, 3), (2, 5, 9), (4, 4)], ids=lambda x: "-".join(map(str, x)))
def test_stopped_several_times_within_a_window_equals_undisturbed(stops):
    straight = Run(report=7, validate=5, save=100)
    straight.start()
    run = Run(report=7, validate=5, save=100)
    for step in stops:
        at = int(run.restored()[0].step)
        with pytest.raises(Interrupted):
            run.start(stop_at=0 if step == at else step)  # at the step where it is already: before the next one
    run.start()
    assert run.figures == straight.figures


def test_killed_between_saves_goes_on_from_the_last_one():
    straight = Run(report=3, validate=2, save=4)
    straight.start()
    run = Run(report=3, validate=2, save=4)

    def killed(start: int) -> Iterator[float]:
        yield from (batch_of(number) for number in range(start, 7))
        raise MemoryError

    with pytest.raises(MemoryError):
        run.start(batches=killed)
    assert int(run.restored()[0].step) == 4
    run.start()
    assert run.figures == straight.figures


def test_a_longer_run_goes_on_where_the_shorter_ended():
    straight = Run(report=3, validate=6, save=4)
    state, _ = straight.start(steps=10)
    run = Run(report=3, validate=6, save=4)
    run.start(steps=6)
    found, _ = run.start(steps=10)
    assert float(found.params) == float(state.params)
    assert run.figures == straight.figures


def test_a_longer_run_sums_over_the_steps_that_the_shorter_reported_before_their_time():
    straight = Run(report=4, validate=6, save=4)
    straight.start(steps=10)
    run = Run(report=4, validate=6, save=4)
    run.start(steps=6)
    run.start(steps=10)
    assert [each for each in run.figures if each[:2] != (6, "train")] == straight.figures


def test_a_signal_while_resuming_saves_nothing_twice():
    run = Run(report=3, validate=5, save=4)
    with pytest.raises(Interrupted):
        run.start(stop_at=4)
    with pytest.raises(Interrupted, match="saved step 4"):
        run.start(stop_at=0)
    assert run.named("save") == [("save", 4)]


def test_a_complete_run_started_again_does_nothing():
    run = Run(report=3, validate=5, save=4)
    state, validated = run.start()
    before, run.events = copy.deepcopy(run.figures), []

    def no_step(*_):
        raise AssertionError("a step too many")

    found, again = run.start(step=no_step)
    assert run.events == [("wait",)]
    assert float(found.params) == float(state.params)
    assert again == validated
    assert run.figures == before


ENDS = 7


def short_data(start: int) -> Iterator[float]:
    return (batch_of(number) for number in range(start, ENDS))


@pytest.mark.parametrize("every", [(3, 4, 5), (7, 7, 7), (4, 0, 7), (100, 100, 1)], ids=lambda x: "-".join(map(str, x)))
def test_data_that_end_early_end_the_run_as_its_last_step_does(every):
    report, validate, save = every
    shorter = Run(report=report, validate=validate, save=save)
    state, validated = shorter.start(steps=ENDS)

    run = Run(report=report, validate=validate, save=save)
    found, figures = run.start(batches=short_data)
    assert run.said == [f"the data end after step {ENDS}; {STEPS} steps were asked for"]
    assert run.figures == shorter.figures
    assert run.events == shorter.events
    assert float(found.params) == float(state.params)
    assert figures == validated == {"loss": float(found.params)}

    run.start(batches=short_data)  # once more
    assert run.figures == shorter.figures
    assert run.named("save") == shorter.named("save")


def test_a_signal_in_the_last_step_of_data_that_end_early_stops_nothing():
    run = Run(report=3, validate=4, save=5)
    state, _ = run.start(batches=short_data, stop_at=ENDS)
    assert int(state.step) == ENDS
    assert run.events[-2:] == [("save", ENDS), ("wait",)]


def spoiled(at: int, **values: float):
    """A step whose sums at step `at` have these values."""

    def step(state: State, batch: float) -> tuple[State, dict[str, Any]]:
        sums = {"loss": 1.0, "gradient_norm": 1.0} | (values if int(state.step) + 1 == at else {})
        return State(state.step + 1, state.params, None), {name: jnp.float32(value) for name, value in sums.items()}

    return step


def mean(sums: dict[str, float], last: dict[str, float], steps: int) -> dict[str, float]:
    return {"loss": sums["loss"] / steps}


@pytest.mark.parametrize("save", [1, 2, 4, 5, 100])
@pytest.mark.parametrize("report", [1, 3, 5, 100])
def test_a_loss_that_is_no_number_stops_before_anything_of_it_is_saved(report, save):
    run = Run(report=report, validate=4, save=save)
    with pytest.raises(RunStopped, match=r"^step 5: loss is nan; .*last checkpoint"):
        run.start(step=spoiled(5, loss=math.nan), figures=mean)
    assert run.named("save") == [("save", step) for step in range(1, 5) if step % save == 0]
    assert all(step < 5 for step, *_ in run.figures)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gradient_norm": math.inf}, "gradient_norm is inf"),
        ({"loss": -math.inf}, "loss is -inf"),
        ({"gradient_norm": math.nan, "loss": math.nan}, "loss is nan"),
    ],
    ids=["gradient", "infinite loss", "both"],
)
def test_the_message_names_the_step_and_the_figure(values, said):
    run = Run(report=4, validate=0, save=100)
    with pytest.raises(RunStopped, match=rf"^step 6: {said};"):
        run.start(step=spoiled(6, **values), figures=mean)
    assert run.named("save") == []


def test_a_signal_does_not_save_a_loss_that_is_no_number():
    run = Run(report=100, validate=0, save=100)
    step = spoiled(3, loss=math.nan)

    def stopping(state: State, batch: float):
        run.received = "SIGINT" if int(state.step) == 3 else None
        return step(state, batch)

    with pytest.raises(RunStopped, match=r"^step 3: loss is nan"):
        run.start(step=stopping, figures=mean)
    assert run.checkpoint is None


def test_a_validation_that_gives_no_number_stops_before_saving():
    run = Run(report=2, validate=4, save=2)

    def validate(state: State) -> dict[str, Any]:
        return {"auroc": None, "loss": math.nan if int(state.step) == 4 else 1.0}

    with pytest.raises(RunStopped, match=r"^step 4: validation loss is nan"):
        run.start(validate=validate)
    assert run.named("save") == [("save", 2)]


def test_a_failed_save_is_heard_of():
    run = Run(report=2, validate=4, save=4)

    def full() -> None:
        raise RunStopped("saving step 10 failed")

    run.wait = full
    with pytest.raises(RunStopped, match="saving step 10 failed"):
        run.start()


def test_traces_are_of_steps_of_the_run_and_leave_its_figures_alone(tmp_path):
    straight = Run(report=4, validate=5, save=4)
    straight.start()
    run = Run(report=4, validate=5, save=4)
    run.profiled, run.folder = range(3, 7), str(tmp_path)
    with pytest.raises(Interrupted):
        run.start(stop_at=5)
    run.start()
    run.start()  # once more, when all is done
    place = tmp_path / "tensorboard" / "plugins" / "profile"
    assert sorted(each.name for each in place.iterdir()) == ["steps_3_to_4", "steps_5_to_6"]
    assert run.said == [
        f"trace of steps 3 to 4: {place / 'steps_3_to_4'}",
        f"trace of steps 5 to 6: {place / 'steps_5_to_6'}",
        "profile 3:7: this start of the run took none of these steps, so there is no trace",
    ]
    assert run.figures == straight.figures
