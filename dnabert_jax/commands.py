"""What each `dnabert` subcommand takes and does. Every function's signature and docstring are its flags and its help.

Imports of the heavy parts are inside, so that `dnabert --help` and bad flags answer at once.
"""

import sys


def say(line: str) -> None:
    """A note to the user, on standard error, where it mixes with no output."""
    print(line, file=sys.stderr, flush=True)
