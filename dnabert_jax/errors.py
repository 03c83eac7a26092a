"""The ways in which a run ends early without being a defect; `dnabert_jax.cli` turns each into one line."""


class InputError(ValueError):
    """What the user gave is wrong: a file, a flag, a recipe or a workdir. Exit status 2.

    The message is one line that names the file, the line or record, what is wrong and what is expected.
    """


class RunStopped(RuntimeError):
    """A run that began well could not go on, such as a loss that is no number or a full disk. Exit status 1."""


class Interrupted(Exception):
    """The run was asked to stop, has saved, and can be started again. Exit status 75."""


def status(error: BaseException) -> int:
    """The exit status of a program that this ends."""
    kinds = {InputError: 2, RunStopped: 1, Interrupted: 75, KeyboardInterrupt: 130}
    return next((number for kind, number in kinds.items() if isinstance(error, kind)), getattr(error, "status", 1))


def line(error: BaseException) -> str:
    """What is said of it, in a line."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
