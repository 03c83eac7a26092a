"""The ways in which a run ends early without being a defect; `dnabert_jax.cli` turns each into one line."""


class InputError(ValueError):
    """What the user gave is wrong: a file, a flag, a recipe or a workdir. Exit status 2.

    The message is one line that names the file, the line or record, what is wrong and what is expected.
    """


class RunStopped(RuntimeError):
    """A run that began well could not go on, such as a loss that is no number or a full disk. Exit status 1."""


class Interrupted(Exception):
    """The run was asked to stop, has saved, and can be started again. Exit status 75."""
