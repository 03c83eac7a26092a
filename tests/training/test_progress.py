import io
import re

import numpy as np
import pytest

from dnabert_jax.training.progress import display

FIGURES = {
    "useful_share": 0.98,
    "loss": 5.25,
    "masked_accuracy": np.float32(0.125),
    "bits_per_base": 1.9,
    "learning_rate": 4e-4,
    "gradient_norm": 0.75,
    "tokens_per_second": 12345.6,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def text(self):
        """What was written, without the codes that move the cursor and set colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


class Clock:
    seconds = 100.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "40")
    return Terminal()


def test_a_report_is_one_line_with_the_figures_in_a_fixed_order():
    out = io.StringIO()
    with display(100, stream=out) as shown:
        shown.update(10, FIGURES)
    assert out.getvalue() == (
        "step 10/100  train  loss 5.2500  masked_accuracy 12.5%  bits_per_base 1.9000  learning_rate 4.00e-04  "
        "gradient_norm 0.7500  tokens_per_second 12,346  useful_share 98.0%\n"
    )


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("loss", 2.0, "2.0000"),
        ("loss", 12.25, "12.25"),
        ("gradient_norm", 0.000123456, "1.23e-04"),
        ("gradient_norm", float("inf"), "inf"),
        ("unplaced_tokens", 0.0, "0"),
        ("masked_tokens", 654.0, "654"),
        ("examples", 5, "5"),
        ("tokens_per_second", 1234567.8, "1,234,568"),
        ("accuracy", 0.98765, "98.8%"),
        ("mcc", -0.5, "-0.5000"),
        ("note", "text", "text"),
    ],
)
def test_each_figure_has_the_digits_that_matter(name, value, shown):
    out = io.StringIO()
    with display(10, stream=out) as board:
        board.update(1, {name: value})
    assert out.getvalue() == f"step 1/10  train  {name} {shown}\n"


def test_updates_without_figures_print_nothing_and_missing_ones_are_left_out():
    out = io.StringIO()
    with display(100, stream=out) as shown:
        shown.update(1)
        shown.update(2, {})
        shown.update(3, {"loss": None, "per_class": {"donor": 1}})
        shown.update(4, {"loss": float("nan"), "bits_per_base": None, "left_out": 0})
        shown.update(4, {"accuracy": 1.0}, "validation")
    assert out.getvalue().splitlines()[0].startswith("step 4/100  train  loss nan  left_out 0  ETA ")
    assert out.getvalue().splitlines()[1] == "step 4/100  validation  accuracy 100.0%"


def test_the_time_left_follows_the_pace_since_the_first_step():
    out, clock = io.StringIO(), Clock()
    with display(1000, 500, stream=out, now=clock) as shown:
        clock.seconds += 300  # compiling
        shown.update(501, {"loss": 1})
        clock.seconds += 20
        shown.update(511, {"loss": 1})
        clock.seconds += 20 * 489
        shown.update(1000, {"loss": 1})
    first, second, last = out.getvalue().splitlines()
    assert "ETA" not in first
    assert second.endswith("ETA 0:16:18")  # 489 steps of 2 seconds
    assert last.endswith("ETA 0:00:00")


def test_days_are_told_apart_from_hours():
    out, clock = io.StringIO(), Clock()
    with display(120_000, stream=out, now=clock) as shown:
        shown.update(1)
        clock.seconds += 18
        shown.update(2, {"loss": 1})
    assert out.getvalue().endswith("ETA 24d 23:59:24\n")


def test_what_is_said_stands_as_it_is():
    out = io.StringIO()
    with display(10, stream=out) as shown:
        shown.say("checkpoint [bold]1[/bold] saved")
    assert out.getvalue() == "checkpoint [bold]1[/bold] saved\n"


def test_no_codes_reach_a_dumb_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    with display(10, stream=out) as shown:
        shown.update(1, FIGURES)
    assert "\x1b" not in out.getvalue()


def test_the_terminal_shows_every_figure_and_keeps_those_that_are_missing_later(terminal):
    with display(1000, 100, title="pretraining", stream=terminal) as shown:
        shown.say("resumed from [step] 100")
        shown.update(100, {"bits_per_base": 1.875}, "validation")
        shown.update(200, FIGURES)
        shown.update(300, {"loss": 4.125, "bits_per_base": None})
        shown.update(301)
    assert "resumed from [step] 100" in terminal.text()
    last = terminal.text().split("figure")[-1]
    rows = {words[0]: words[1:] for line in last.splitlines() if (words := line.split())}
    assert rows["loss"] == ["4.1250"]
    assert rows["masked_accuracy"] == ["12.5%"]
    assert rows["bits_per_base"] == ["1.9000", "1.8750"]
    assert rows["tokens_per_second"] == ["12,346"]
    assert "step 301/1000" in last
    assert "ETA" in last


def test_the_terminal_copes_with_a_run_that_reports_nothing(terminal):
    with display(10, stream=terminal) as shown:
        shown.update(10)
    assert "step 10/10" in terminal.text()


def test_an_error_inside_comes_through(terminal):
    with pytest.raises(ValueError, match="mine"), display(10, stream=terminal):
        raise ValueError("mine")


def test_a_reader_that_goes_away_does_not_end_the_run():
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    with display(10, stream=Gone()) as shown:
        shown.update(1, {"loss": 1.0})
        shown.update(2, {"loss": 1.0})
