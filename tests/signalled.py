"""`python -m tests.signalled STEP PROCESS COMMAND ...`: the `dnabert` command, of which one process gets SIGTERM.

The signal comes while process PROCESS takes step STEP of its training.
"""

import os
import signal
import sys

from dnabert_jax import cli, hosts
from tests.training import runs


def main() -> None:
    number, process = int(sys.argv[1]), int(sys.argv[2])
    del sys.argv[1:3]

    def change(take, _):
        def changed(current, batch):
            if hosts.index() == process and int(current.step) + 1 == number:
                os.kill(os.getpid(), signal.SIGTERM)
            return take(current, batch)

        return changed

    with runs.steps_changed(change):
        cli.main()


if __name__ == "__main__":
    main()
