"""The command line: exit statuses, one line on standard error, and nothing left behind by a command that fails."""

import os
import signal
import subprocess
import sys

import jax
import pytest

from dnabert_jax import cli
from dnabert_jax.errors import InputError, Interrupted, RunStopped
from dnabert_jax.training.signals import StopSignals


def _run(*arguments: str) -> int:
    return cli._status(lambda: cli._dispatch("dnabert", cli.COMMANDS, list(arguments)))


def _failed(capsys, *arguments: str) -> str:
    """The one line that a command with status 2 says."""
    assert _run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err[len("error: ") : -1]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_every_command(arguments, capsys):
    assert _run(*arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("usage: dnabert COMMAND ...\n")
    for command in ("build", "train", "finetune", "predict", "embed", "convert", "task"):
        assert any(line.startswith(f"  {command} ") for line in out.splitlines())


def test_help_of_the_tasks(capsys):
    assert _run("task", "--help") == 0
    assert "usage: dnabert task COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        (["build", "--help"], ["--fasta", "--out", "--validation", "--min-length"]),
        (["task", "splice", "--help"], ["--fasta", "--gtf", "--out", "--window"]),
        (["factors", "--help"], ["--peaks", "--out", "--recipe", "--init", "--negatives"]),
        (["task", "tfbs", "--help"], ["--peaks", "--fasta", "--negatives", "--exclude", "--train.recipe"]),
        (["predict", "--help"], ["--model", "--input", "--output", "--long"]),
        (["embed", "--help"], ["--model", "--input", "--output", "--pool", "--pieces"]),
        (["train", "--help"], ["--workdir", "--loop.steps", "--data.path", "--encoder.k"]),
        (["train", "demo", "--help"], ["--workdir", "--loop.steps", "--data.path", "--encoder.k"]),
        (["finetune", "--help"], ["--init", "--data.train", "--freeze-encoder"]),
    ],
)
def test_help_of_a_command_lists_its_flags(arguments, flags, capsys):
    with pytest.raises(SystemExit) as caught:
        _run(*arguments)
    assert caught.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    for flag in flags:
        assert flag in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["biuld"],
            [
                "dnabert: unknown command 'biuld'",
                "expected one of build, train, finetune, plan, predict, embed, ",
            ],
        ),
        (["task", "histones"], ["dnabert task: unknown command 'histones'", "splice", "tfbs"]),
        (["train"], ["dnabert train: no recipe", "demo"]),
        (["train", "--loop.steps", "3"], ["dnabert train: no recipe"]),
        (["train", "demoo"], ["unknown recipe 'demoo'", "did you mean demo?"]),
        (["train", "splice"], ["splice.py", "FinetuneConfig", "expected a PretrainConfig"]),
        (["finetune", "demo"], ["demo.py", "PretrainConfig", "expected a FinetuneConfig"]),
        (["train", "demo", "--loop.stps", "3"], ["unknown field --loop.stps", "did you mean loop.steps?"]),
        (["train", "demo", "--loop.steps", "many"], ["--loop.steps", "'many'"]),
        (["train", "demo", "--loop.steps", "0"], ["steps is 0", "expected more than 0"]),
        (["train", "demo", "--encoder.k", "13"], ["k is 13", "1 to 12"]),
        (["train", "demo", "stray"], ["unexpected argument 'stray'"]),
        (["train", "demo"], ["data.path is empty", "dnabert build"]),
        (["finetune", "splice"], ["data.train is empty", "--data.train"]),
        (["finetune", "splice", "--data.train", "a.tsv"], ["data.validation is empty", "--data.validation"]),
        (["build"], ["--fasta", "--out"]),
        (["build", "--fasta", "--out", "o"], ["--fasta names no file"]),
        (["build", "--fasta", "a", "--out", "o", "--min-length", "many"], ["--min-length", "'many'"]),
        (["build", "--fasta", "a", "--out", "o", "--colour", "blue"], ["--colour"]),
        (["predict", "--model", "m"], ["--input", "--output"]),
        (["predict", "--model", "m", "--input", "i", "--output", "o", "--long", "cut"], ["--long", "'cut'", "window"]),
        (["embed", "--model", "m", "--input", "i", "--output", "o.csv"], ["o.csv", ".npz or .parquet"]),
        (["embed", "--model", "m", "--input", "i", "--output", "o.npz", "--pool", "max"], ["--pool", "'max'", "cls"]),
    ],
)
def test_bad_flags_are_one_line_and_leave_nothing(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = _failed(capsys, *arguments)
    for each in said:
        assert each in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["build", "--fasta", "none.fa", "--out", "out"],
        ["build", "--fasta", "empty.fa", "--out", "out"],
        ["build", "--fasta", "text.fa", "--out", "out"],
        ["train", "demo", "--workdir", "out", "--data.path", "none"],
        ["train", "demo", "--workdir", "out", "--data.path", "folder"],
        ["finetune", "demo_splice", "--workdir", "out", "--data.train", "none", "--data.validation", "none"],
        [
            "finetune",
            "demo_splice",
            "--workdir",
            "out",
            "--init",
            "none",
            "--data.train",
            "a",
            "--data.validation",
            "b",
        ],
        ["predict", "--model", "none", "--input", "text.fa", "--output", "out"],
        ["predict", "--model", "folder", "--input", "text.fa", "--output", "out"],
        ["embed", "--model", "folder", "--input", "text.fa", "--output", "out.npz"],
        ["task", "splice", "--fasta", "none.fa", "--gtf", "none.gtf", "--out", "out"],
    ],
    ids=lambda arguments: " ".join(arguments[:5]).replace("/", "_"),
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, capsys, tmp_path, monkeypatch):
    (tmp_path / "empty.fa").touch()
    (tmp_path / "text.fa").write_text("no FASTA\n")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    _failed(capsys, *arguments)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_recipe_of_ones_own_and_its_overrides(tmp_path, monkeypatch):
    from dnabert_jax.training import pretrain

    file = tmp_path / "mine.py"
    file.write_text("from dnabert_jax.config import PretrainConfig\nconfig = PretrainConfig(seed=3)\n")
    ran = []
    monkeypatch.setattr(pretrain, "run", lambda config, say: ran.append(config))
    assert _run("train", str(file), "--loop.steps", "9", "--workdir", "w") == 0
    assert (ran[0].seed, ran[0].loop.steps, ran[0].workdir) == (3, 9, "w")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("a.fa: wrong"), 2, "error: a.fa: wrong\n"),
        (RunStopped("the disk is full"), 1, "error: the disk is full\n"),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate\n1 bytes"),
            1,
            "error: the memory of the device is too small; lower batch_size, or raise accumulation in pretraining\n",
        ),
        (Interrupted("SIGTERM: saved step 3"), 75, "stopped by SIGTERM: saved step 3\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
    ids=["input", "stopped", "out of memory", "interrupted and saved", "interrupted"],
)
def test_each_end_has_its_status_and_line(error, status, line, capsys):
    def run():
        raise error

    assert cli._status(run) == status
    assert capsys.readouterr() == ("", line)


@pytest.fixture
def default_termination():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("default_termination")
def test_a_request_to_terminate_unwinds_and_has_its_status_and_line(capsys):
    cleaned = []

    def run():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)  # a second one does not disturb the clean-up
            cleaned.append(True)

    assert cli._status(run) == 143
    assert capsys.readouterr() == ("", "terminated\n")
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.usefixtures("default_termination")
def test_training_takes_the_request_to_terminate_over(capsys):
    def run():
        with StopSignals() as stop:
            signal.raise_signal(signal.SIGTERM)
        raise Interrupted(stop.received)

    assert cli._status(run) == 75
    assert capsys.readouterr() == ("", "stopped by SIGTERM\n")


@pytest.mark.parametrize("kind", [ZeroDivisionError, RuntimeError, jax.errors.JaxRuntimeError])
def test_a_defect_is_not_hidden(kind):
    def run():
        raise kind("a defect")

    with pytest.raises(kind):
        cli._status(run)


def test_every_command_is_documented():
    for name, command in {**cli.COMMANDS, **cli.TASKS}.items():
        assert command.__doc__.strip().splitlines()[0].endswith("."), name


def test_the_program_itself():
    """What the shell sees, for once by a process of its own."""
    command = [sys.executable, "-m", "dnabert_jax", "train", "demoo"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: unknown recipe 'demoo'; did you mean demo?")
    assert done.stderr.count("\n") == 1


def test_output_that_nobody_reads_ends_quietly():
    """As in `dnabert --help | head -0`: no traceback, and the status that a shell gives a broken pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "dnabert_jax", "--help"]
    with open(writer, "w") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 141
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["train", "finetune"])
def test_the_scripts_are_the_commands(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "nonesuch"])
    with pytest.raises(SystemExit) as caught:
        cli.script(name)
    assert caught.value.code == 2
    assert "unknown recipe 'nonesuch'" in capsys.readouterr().err


def test_sigterm_in_a_callback_that_lets_no_exception_out_ends_the_program_all_the_same():
    program = """if True:
        import gc, os, signal, sys, time
        from dnabert_jax import cli

        def collect(phase, _):
            gc.callbacks.remove(collect)
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000):  # in which Python calls the handler
                pass

        def run():
            gc.callbacks.append(collect)
            gc.collect()
            print("goes on", flush=True)
            time.sleep(60)

        cli._quieten()
        sys.exit(cli._status(run))
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (143, "goes on\n", "terminated\n")
