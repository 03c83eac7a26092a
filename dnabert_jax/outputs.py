"""Outputs that are whole or absent: a file or folder gets its name when it is complete, and vanishes otherwise.

Both are written under a hidden name beside their own, so that the last step is a rename; a file for an object store
is written here first, and stored there whole. Clean-ups run on every
exception, and so on Ctrl-C, and on SIGTERM where that raises one, as in the `dnabert` command.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dnabert_jax import places
from dnabert_jax.errors import InputError, RunStopped


@contextmanager
def file(path: Path) -> Iterator[Path]:
    """A file that replaces what is at `path` when the block ends well; where that is a link, what it points to.

    Yields:
      Where to write it; nothing is there yet.

    Raises:
      OSError: it cannot get its name.
    """
    if places.is_remote(path):
        with places.file(path) as temporary:
            yield temporary
        return
    place = Path(os.path.realpath(path))
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, place)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """A folder that replaces the one at `path`, if any, when the block ends well.

    Parents are made too. Where `path` is a link, the link stays and the folder goes where it points. SIGTERM,
    SIGHUP and Ctrl-C wait while the two folders change places, and a process that is killed just then leaves both,
    hidden.

    Yields:
      A new and empty folder.

    Raises:
      InputError: there can be no folder in that place.
      RunStopped: an OSError in the block, or upon the folder's getting its name. What was at `path` is there again.
    """
    place = Path(os.path.realpath(path))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be made ({error.strerror or error}); expected a place that can be written to"
        ) from None
    new, old = temporary / "new", temporary / "old"
    try:
        new.mkdir()
        yield new
        with _signals_held():
            _replace(place, new, old)
    except BrokenPipeError:  # nobody reads the progress that the block shows; files never raise it
        raise
    except OSError as error:
        raise RunStopped(f"{path}: cannot be written ({error.strerror or error}); nothing was changed there") from None
    finally:
        if place.exists() or not old.exists():  # what could not be put back is not thrown away
            shutil.rmtree(temporary, ignore_errors=True)


def _replace(place: Path, new: Path, old: Path) -> None:
    if place.is_dir():
        place.rename(old)
    try:
        new.rename(place)
    except BaseException:
        if old.exists():
            old.rename(place)
        raise


@contextmanager
def _signals_held() -> Iterator[None]:
    """Lets SIGTERM, SIGHUP and SIGINT wait until the block has ended.

    They are caught rather than blocked: a signal that is blocked in this thread comes through another one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before: dict[int, object] = {}
    try:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            before[number] = signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            # None stands for a handler that was not set from Python and cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for number in came:
            signal.raise_signal(number)
