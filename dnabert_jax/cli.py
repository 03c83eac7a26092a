"""The `dnabert` command: a table of subcommands, and what becomes of an error.

Exit status 0 is success, 1 a run that could not go on, 2 bad input or bad flags, 75 a run that was asked to stop, has
saved, and can be started again. Each of them but 0 comes with one line on standard error.
"""

import logging
import os
import sys
from collections.abc import Callable

from dnabert_jax import commands, flags, recipes
from dnabert_jax.commands import say
from dnabert_jax.errors import InputError, Interrupted, RunStopped

Arguments = list[str]

INTERRUPTED = 75
"""EX_TEMPFAIL: try again later."""


def _train(program: str, arguments: Arguments) -> None:
    """Pretrains from a recipe: RECIPE --workdir DIR --data.path DIR [--field.sub value]."""
    from dnabert_jax.config import PretrainConfig

    config = _config(program, arguments, PretrainConfig)
    from dnabert_jax.training import pretrain

    pretrain.run(config, say)


def _finetune(program: str, arguments: Arguments) -> None:
    """Fine-tunes from a recipe: RECIPE --workdir DIR --init DIR --data.train FILE ... [--field.sub value]."""
    from dnabert_jax.config import FinetuneConfig

    config = _config(program, arguments, FinetuneConfig)
    from dnabert_jax.training import finetune

    finetune.run(config, say)


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


Command = Callable[[str, Arguments], None]

TASKS: dict[str, Command] = {
    "splice": _function(commands.splice),
}

COMMANDS: dict[str, Command] = {
    "build": _function(commands.build),
    "train": _train,
    "finetune": _finetune,
    "predict": _function(commands.predict),
    "task": _task,
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


def _status(run: Callable[[], None]) -> int:
    """Runs a program and says in one line what went wrong, if something did."""
    try:
        run()
        sys.stdout.flush()  # where nobody reads any more, it shows here and not at exit
    except InputError as error:
        say(f"error: {error}")
        return 2
    except RunStopped as error:
        say(f"error: {error}")
        return 1
    except Interrupted as error:
        say(f"stopped by {error}")
        return INTERRUPTED
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _quieten() -> None:
    """Keeps the chatter of XLA and Orbax off the screen; it is no part of the interface."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # When a save fails, Orbax logs what it raises, and each of the writes that it gives up finds its loop closed.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    shown = sys.unraisablehook
    sys.unraisablehook = lambda found: None if str(found.exc_value) == "Event loop is closed" else shown(found)


def main() -> None:
    """Entry point of `dnabert`."""
    _quieten()
    sys.exit(_status(lambda: _dispatch("dnabert", COMMANDS, sys.argv[1:])))


def script(name: str) -> None:
    """Entry point of `train.py` and `finetune.py`, the same programs as `dnabert train` and `dnabert finetune`."""
    _quieten()
    sys.exit(_status(lambda: COMMANDS[name](f"{name}.py", sys.argv[1:])))
