"""Where a command puts what it computed: not over what it reads, not into the model, and whole or not at all."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from dnabert_jax import outputs
from dnabert_jax.errors import InputError, RunStopped


def check_place(output: Path, *, inputs: tuple[str | Path, ...], model: str | Path) -> None:
    """Keeps a command from replacing what it reads.

    Args:
      output: file to be written.
      inputs: files that are read; an empty name is none.
      model: folder or hub id of the model that is used.

    Raises:
      InputError: the output is one of the inputs, or a file in the model's folder.
    """
    for each in inputs:
        if each and output.exists() and Path(each).exists() and output.samefile(each):
            raise InputError(f"{output}: is the input; expected another file to write")
    if output.is_file() and Path(model).resolve() in output.resolve().parents:
        raise InputError(f"{output}: belongs to the model; expected a file outside it, or a new one")


@contextmanager
def text(path: Path) -> Iterator[TextIO]:
    """A text file that gets its name when the block ends well; an OSError of the block is one of writing.

    Pipes and devices, `/dev/stdout` among them, are written to as they are.

    Raises:
      InputError: a folder, or a place that cannot be written to.
      RunStopped: the disk is full, or writing failed for another reason.
    """
    with _failures(path), contextlib.nullcontext(path) if _is_stream(path) else outputs.file(path) as place:
        try:
            file = open(place, "w", encoding="utf-8", newline="")  # noqa: SIM115 - the block below closes it
        except OSError as error:
            raise _unwritable(path, error) from None
        with file:
            yield file


@contextmanager
def binary(path: Path) -> Iterator[Path]:
    """As `text`, for a file that the block writes by its temporary name: an empty file that is there already.

    Raises:
      InputError: as `text`, and for a pipe, which cannot be written to in any order.
      RunStopped: as `text`.
    """
    with _failures(path), outputs.file(path) as place:
        if _is_stream(path):
            raise InputError(f"{path}: is a pipe or a device; expected a file")
        try:
            place.touch()
        except OSError as error:
            raise _unwritable(path, error) from None
        yield place


def _is_stream(path: Path) -> bool:
    # Under /dev lies memory for files, too, and /dev/stdout may be redirected to a file.
    device = path.parts[:2] == ("/", "dev") and path.parts[2:3] != ("shm",)
    return device or (path.exists() and not path.is_file())


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected a file to write")
    try:
        yield
    except OSError as error:
        raise RunStopped(f"{path}: writing failed ({error.strerror or error}); no output was left") from None


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be written ({error.strerror})")
