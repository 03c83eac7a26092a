"""Large arrays on huge pages, which on Linux a program must ask for before it starts: so this one starts anew.

XLA takes the memory of a step from the system, and gives it back, every time. Handed out in pages of 4 KiB, it costs a
quarter of the time of a step of BERT-base on a CPU (docs/performance.md).
"""

import os
import sys
from pathlib import Path

_VARIABLE, _VALUE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"


def ask() -> None:
    """Starts the running script again, in the same process, with glibc told to take huge pages (2.35 and later).

    Returns where the variable is set, by this or by the user, off Linux, and in a program that is neither a script in
    a file nor `python -m dnabert_jax`.
    """
    if sys.platform != "linux" or _VARIABLE in os.environ:
        return
    program = Path(sys.argv[0])
    is_script = sys.argv[0] in sys.orig_argv[1:] and program.is_file()
    if not is_script and program != Path(__file__).with_name("__main__.py"):  # as `python -m dnabert_jax` names itself
        return
    os.environ[_VARIABLE] = _VALUE
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
