"""Flags: typed values in, one line out when they are wrong."""

from pathlib import Path
from typing import Literal

import pytest

from dnabert_jax import flags
from dnabert_jax.config import FinetuneConfig, PretrainConfig, differences
from dnabert_jax.errors import InputError

CONFIG = PretrainConfig(seed=5)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], []),
        (["--seed", "9"], [("seed", 5, 9)]),
        (["--loop.steps", "7", "--loop.keep", "1"], [("loop.steps", 120_000, 7), ("loop.keep", 3, 1)]),
        (["--loop.save-every=12"], [("loop.save_every", 2_000, 12)]),
        (["--loop.save_every", "12"], [("loop.save_every", 2_000, 12)]),
        (["--data.pack", "False"], [("data.pack", True, False)]),
        (["--data.path", "my shards"], [("data.path", "", "my shards")]),
        (["--optimizer.learning-rate", "1e-3"], [("optimizer.learning_rate", 4e-4, 1e-3)]),
        (["--encoder.compute-dtype", "float32"], [("encoder.compute_dtype", "bfloat16", "float32")]),
        (["--batch-size", "6", "--accumulation", "3"], [("batch_size", 2_000, 6), ("accumulation", 1, 3)]),
    ],
)
def test_override_changes_what_is_named(arguments, expected):
    assert differences(CONFIG, flags.override(CONFIG, arguments, "train demo")) == expected


def test_override_of_the_other_kind():
    changed = flags.override(FinetuneConfig(), ["--freeze-encoder", "True", "--data.train", "a.tsv"], "finetune")
    assert changed.freeze_encoder is True
    assert changed.data.train == "a.tsv"


def test_a_wrong_value_of_a_field_that_may_be_none_is_told_shortly():
    with pytest.raises(InputError) as caught:
        flags.override(FinetuneConfig(), ["--encoder.k", "many"], "finetune")
    message = str(caught.value)
    assert message.startswith("--encoder.k: ")
    assert "many" in message
    assert len(message) < 100


@pytest.mark.parametrize("k", [3, 6])
def test_override_tells_what_was_asked_from_what_was_not(k):
    arguments = ["--encoder.k", str(k), "--encoder.compute-dtype", "float32"]
    encoder = flags.override(FinetuneConfig(), arguments, "finetune").encoder
    assert (encoder.k, encoder.layers, encoder.compute_dtype) == (k, None, "float32")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--loop.stps", "3"], "unknown field --loop.stps; did you mean loop.steps?"),
        (["--loop.stps=3"], "unknown field --loop.stps; did you mean loop.steps?"),
        (["--batchsize", "3"], "unknown field --batchsize; did you mean batch_size?"),
        (["--qqqqqq", "3"], "unknown field --qqqqqq"),
        (["stray"], "unexpected argument 'stray'; expected flags such as --workdir DIR"),
    ],
)
def test_an_unknown_field_gets_the_nearest(arguments, said):
    with pytest.raises(InputError) as caught:
        flags.override(CONFIG, arguments, "train demo")
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--loop.steps", "many"], ["steps", "many"]),
        (["--loop.steps"], ["steps"]),
        (["--loop.steps", "1.5"], ["steps", "1.5"]),
        (["--optimizer.learning-rate", "fast"], ["rate", "fast"]),
        (["--data.pack", "perhaps"], ["pack", "perhaps"]),
        (["--encoder.attention", "flash"], ["attention", "flash", "cudnn", "pallas"]),
        (["--loop.steps", "-1"], ["steps is -1", "more than 0"]),
        (["--seed", "-1"], ["seed is -1"]),
        (["--seed", str(2**63)], ["seed is 9223372036854775808"]),
        (["--optimizer.learning-rate", "inf"], ["learning_rate is inf"]),
        (["--optimizer.learning-rate", "nan"], ["learning_rate is nan"]),
        (["--encoder.k", "99"], ["k is 99", "1 to 12"]),
        (["--batch-size", "3", "--accumulation", "2"], ["batch_size is 3", "accumulation (2)"]),
        (["--row-length", "100"], ["row_length is 100", "encoder.max_length (512)"]),
    ],
)
def test_a_wrong_value_is_told_in_one_line(arguments, names, capfd):
    with pytest.raises(InputError) as caught:
        flags.override(CONFIG, arguments, "train demo")
    message = str(caught.value)
    assert all(name in message for name in names), message
    assert not set("\n│╭╰─") & set(message)
    assert capfd.readouterr() == ("", "")


def _command(*, input: Path, count: int = 3, long: Literal["error", "window"] = "error", names: tuple[str, ...] = ()):
    """Does something.

    Args:
      input: what to read.
      count: how often.
    """
    return input, count, long, names


def test_call_passes_typed_values():
    arguments = ["--input", "a.fa", "--count", "4", "--long", "window", "--names", "x", "y"]
    assert flags.call(_command, arguments, "dnabert do") == (Path("a.fa"), 4, "window", ("x", "y"))
    assert flags.call(_command, ["--input", "a.fa"], "dnabert do") == (Path("a.fa"), 3, "error", ())


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], ["--input"]),
        (["--input", "a", "--count", "many"], ["--count", "many"]),
        (["--input", "a", "--long", "short"], ["--long", "short", "window"]),
        (["--input", "a", "--colour", "blue"], ["--colour"]),
    ],
)
def test_call_with_bad_flags(arguments, names):
    with pytest.raises(InputError) as caught:
        flags.call(_command, arguments, "dnabert do")
    message = str(caught.value)
    assert all(name in message for name in names), message
    assert not set("\n│╭╰─") & set(message)


def test_call_leaves_the_functions_own_errors_alone():
    def fails(*, input: Path) -> None:
        """Fails."""
        raise ValueError(f"about {input}")

    with pytest.raises(ValueError, match="about a") as caught:
        flags.call(fails, ["--input", "a"], "dnabert do")
    assert not isinstance(caught.value, InputError)


def test_help_lists_flags_and_leaves_with_status_0(capsys):
    with pytest.raises(SystemExit) as caught:
        flags.call(_command, ["--help"], "dnabert do")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for each in ("dnabert do", "--input", "what to read", "--count", "how often", "--long"):
        assert each in text
