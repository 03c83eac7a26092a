"""What the commands tell the user beside their output."""

import sys


def say(line: str) -> None:
    """A note to the user, on standard error, where it mixes with no output."""
    print(line, file=sys.stderr, flush=True)
