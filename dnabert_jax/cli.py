"""The `dnabert` command: a table of subcommands, and what becomes of an error.

Exit status 0 is success, 1 a run that could not go on, 2 bad input or bad flags, 75 a training run that was asked to
stop, has saved, and can be started again. Any other command that is asked to stop leaves no half-written output and
ends with 130 upon Ctrl-C and 143 upon SIGTERM; so does training until it has its config, and when asked twice it ends
with 130. 69 is a process of several whose run ended because another one is gone. Each of them but 0 comes with one line
on standard error. 141, without a line, is standard output that nobody reads any more, as in `dnabert --help | head -1`.
"""

import inspect
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dnabert_jax import errors, flags, hosts, huge_pages, lost, recipes
from dnabert_jax.commands import bench, factors, genome, models, plan, promoter, report, rounds, scan, splice, tfbs
from dnabert_jax.commands.notes import say
from dnabert_jax.errors import InputError, Interrupted, RunStopped

if TYPE_CHECKING:
    from dnabert_jax.config import FinetuneConfig, PretrainConfig

Arguments = list[str]

INTERRUPTED = 75
"""EX_TEMPFAIL: try again later."""


def _train(program: str, arguments: Arguments) -> None:
    """Pretrains from a recipe: RECIPE --workdir DIR --data.path DIR [--field.sub value]."""
    from dnabert_jax.config import PretrainConfig

    config = _config(program, arguments, PretrainConfig)
    huge_pages.ask()
    _join(config)
    from dnabert_jax.training import pretrain

    pretrain.run(config, say)


def _finetune(program: str, arguments: Arguments) -> None:
    """Fine-tunes from a recipe: RECIPE --workdir DIR --init DIR --data.train FILE ... [--field.sub value]."""
    from dnabert_jax.config import FinetuneConfig

    config = _config(program, arguments, FinetuneConfig)
    huge_pages.ask()
    _join(config)
    from dnabert_jax.training import finetune

    finetune.run(config, say)


def _join(config: "PretrainConfig | FinetuneConfig") -> None:
    """Joins the processes of the run, of which only the first prints: Gloo, which connects CPUs, would on all."""
    hosts.join(config.hosts)
    if not hosts.is_first():
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _config(program: str, arguments: Arguments, kind: type):
    if not arguments or arguments[0].startswith("-"):
        if arguments[:1] in (["-h"], ["--help"]):
            flags.override(kind(), ["--help"], f"{program} RECIPE")
        raise InputError(
            f"{program}: no recipe; expected `{program} RECIPE --workdir DIR`, RECIPE being a .py file or one of "
            f"{', '.join(recipes.names())}"
        )
    config = recipes.load(arguments[0], kind)
    return flags.override(config, arguments[1:], f"{program} {arguments[0]}")


def _function(function: Callable[..., None]) -> Callable[[str, Arguments], None]:
    def command(program: str, arguments: Arguments) -> None:
        flags.call(function, arguments, program)

    command.__doc__ = function.__doc__
    return command


def _task(program: str, arguments: Arguments) -> None:
    """Makes the dataset of a task from a genome and its annotation."""
    _dispatch(program, TASKS, arguments)


def _bench(program: str, arguments: Arguments) -> None:
    """Measures how fast this machine trains and predicts; `compare A.json B.json` sets two results side by side."""
    if arguments[:1] == ["compare"]:
        flags.call(bench.compare, arguments[1:], f"{program} compare")
    else:
        flags.call(bench.bench, arguments, program)


Command = Callable[[str, Arguments], None]

TASKS: dict[str, Command] = {
    "promoter": _function(promoter.promoter),
    "splice": _function(splice.splice),
    "tfbs": _function(tfbs.tfbs),
}

COMMANDS: dict[str, Command] = {
    "build": _function(genome.build),
    "train": _train,
    "finetune": _finetune,
    "plan": plan.plan,
    "predict": _function(models.predict),
    "embed": _function(models.embed),
    "convert": _function(models.convert),
    "report": _function(report.report),
    "scan": _function(scan.scan),
    "task": _task,
    "factors": _function(factors.factors),
    "rounds": _function(rounds.rounds),
    "bench": _bench,
}


def _dispatch(program: str, table: dict[str, Command], arguments: Arguments) -> None:
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        width = max(map(len, table))
        print(f"usage: {program} COMMAND ...\n")
        for command, function in table.items():
            print(f"  {command:{width}}  {function.__doc__.strip().splitlines()[0]}")
        print(f"\n`{program} COMMAND --help` lists the flags of one.")
        return
    if name not in table:
        raise InputError(f"{program}: unknown command {name!r}; expected one of {', '.join(table)}")
    table[name](f"{program} {name}", arguments[1:])


class _Terminated(BaseException):
    """SIGTERM came. Like KeyboardInterrupt, it is no Exception, so that nothing on its way takes it for a failure."""

    status = 143

    def __init__(self, again: Callable[[], None]) -> None:
        super().__init__("terminated")
        self.again = again
        """To be called where the exception met code that lets none out, such as a callback of the garbage collector."""


_AGAIN_S = 0.1
"""After which a SIGTERM that ended nothing is sent once more."""


@contextmanager
def _termination_unwinds() -> Iterator[None]:
    """Lets the first SIGTERM end the block by an exception, so that outputs are cleaned up, and ignores later ones.

    Training puts its own handler in the place of this one while it runs.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield  # somebody else has decided what SIGTERM does
        return

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise _Terminated(again)

    def again() -> None:
        signal.signal(signal.SIGTERM, stop)
        later = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal.SIGTERM))
        later.daemon = True
        later.start()

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _tell(line: str, error: Exception) -> None:
    """Says the line of an error, unless another process of the run says it."""
    if not hosts.is_told(error):
        say(line if hosts.is_first() else f"{hosts.name()}: {line}")


def _status(run: Callable[[], None]) -> int:
    """Runs a program and says in one line what went wrong, if something did."""
    try:
        with _termination_unwinds():
            run()
        sys.stdout.flush()  # where nobody reads any more, it shows here and not at exit
    except (InputError, RunStopped) as error:
        _tell(f"error: {error}", error)
        return errors.status(error)
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):  # what JAX raises begins with the status of XLA
            raise
        say("error: the memory of the device is too small; lower batch_size, or raise accumulation in pretraining")
        return 1
    except Interrupted as error:
        _tell(f"stopped by {error}", error)
        return INTERRUPTED
    except KeyboardInterrupt:
        say("interrupted")
        lost.tell("interrupted", 130)  # where it came before the program itself could
        return 130
    except _Terminated:
        say("terminated")
        lost.tell("terminated", _Terminated.status)
        return _Terminated.status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _quieten() -> None:
    """Keeps the chatter of XLA and Orbax off the screen; it is no part of the interface."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # When a save fails, Orbax logs what it raises; of the writes that it gives up, some end in an exception that nobody
    # asks for, which asyncio logs, and others are dropped half-way or find their loop closed, which Python prints.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    shown = sys.unraisablehook

    def others(found: "sys.UnraisableHookArgs") -> None:
        if isinstance(found.exc_value, _Terminated):
            found.exc_value.again()
        elif not inspect.iscoroutine(found.object) and str(found.exc_value) != "Event loop is closed":
            shown(found)

    sys.unraisablehook = others


def _end_with(run: Callable[[], None]) -> None:
    """Runs a program and ends the process, at once where it must not wait for other processes of its run."""
    status = 1
    try:
        status = _status(run)
    except Exception:
        if hosts.count() == 1:
            raise
        traceback.print_exc()
    lost.leave(status)
    sys.exit(status)


def main() -> None:
    """Entry point of `dnabert`."""
    _quieten()
    _end_with(lambda: _dispatch("dnabert", COMMANDS, sys.argv[1:]))


def script(name: str) -> None:
    """Entry point of `train.py` and `finetune.py`, the same programs as `dnabert train` and `dnabert finetune`."""
    _quieten()
    _end_with(lambda: COMMANDS[name](f"{name}.py", sys.argv[1:]))
