"""Where the files of a run lie: in a folder, or under a gs:// or s3:// address on an object store.

`place` turns either into a path with the methods of `pathlib.Path`, by etils' epath for the second. An object store has
no folders, appending, renaming or locks, and what is written there appears at once and whole; so what takes another way
there has it here.
"""

import contextlib
import errno
import functools
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dnabert_jax.errors import InputError

_PACKAGES = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}
"""For each scheme the package that epath reaches it by, and the extra that installs that."""


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is an address with a scheme, `gs://...`, and no place on this machine."""
    return "://" in os.fspath(path)


def place(path: str | os.PathLike) -> Path:
    """The path as something with pathlib's methods: a `pathlib.Path`, or for an address epath's.

    Raises:
      InputError: an address of another scheme than gs:// and s3://, without both slashes or a bucket, whose package is
        not installed, or that cannot be reached with the credentials that are there.
    """
    address = os.fspath(path)
    if not is_remote(path):
        scheme, colon, rest = address.partition(":")
        if colon and scheme in _PACKAGES:  # nobody's folder, and tensorboardX would write to a store there
            raise InputError(f"{address}: neither a folder nor an address; expected {scheme}://{rest.lstrip('/')}")
        return Path(path)
    scheme, _, rest = address.partition("://")
    if scheme not in _PACKAGES:
        raise InputError(f"{address}: {scheme}:// cannot be reached; expected a folder, gs://... or s3://...")
    bucket = rest.partition("/")[0]
    if not bucket:
        raise InputError(f"{address}: names no bucket; expected {scheme}://BUCKET/FOLDER")
    package, extra = _PACKAGES[scheme]
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{address}: takes the package {package}; expected pip install 'dnabert-jax[{extra}]' before")
    _reach(scheme, bucket, address)
    from etils import epath

    return epath.Path(address)


@functools.cache
def _reach(scheme: str, bucket: str, address: str) -> None:
    """Raises InputError where the store does not answer; a bucket that is missing shows when it is written to."""
    # TensorFlow, where it is installed, would take epath's calls, and knows s3:// by a plugin only.
    os.environ.setdefault("EPATH_USE_TF", "false")
    import fsspec

    for protocol in ("s3", "gs", "gcs"):
        # What Orbax's arrays, other processes and other runs write there does not pass through this package.
        fsspec.config.conf.setdefault(protocol, {}).setdefault("use_listings_cache", False)
    try:
        fsspec.filesystem(scheme).ls(address)
    except FileNotFoundError:
        return
    except Exception as error:  # botocore, google-auth and aiohttp each have their own kinds
        raise InputError(
            f"{address}: cannot be reached ({_first_line(error)}); expected credentials for the bucket {bucket}"
        ) from None


def write(path: Path, content: bytes) -> None:
    """Writes a whole object: who reads it finds what was there before, or all of this.

    Raises:
      OSError: it could not be written, with a `strerror` of one line.
    """
    try:
        path.write_bytes(content)
    except Exception as error:
        raise OSError(errno.EIO, _first_line(error)) from None


def read(path: Path) -> bytes:
    """What an object holds; nothing where there is none.

    Raises:
      OSError: it could not be read, with a `strerror` of one line.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except Exception as error:
        raise OSError(errno.EIO, _first_line(error)) from None


class Growing:
    """A file on an object store that is appended to: each time the whole of it is stored anew.

    Args:
      path: of the file; what is there already stays its beginning.

    Raises:
      OSError: as `read`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = read(path)

    def write(self, content: bytes) -> int:
        """Returns the length of `content`, all of which is stored. Raises OSError, as `write`."""
        write(self._path, self._content + content)
        self._content += content
        return len(content)

    def close(self) -> None:
        """Nothing is left to be written."""


@contextlib.contextmanager
def file(path: Path) -> Iterator[Path]:
    """A local file that is stored at `path` when the block ends well.

    Yields:
      Where to write it; nothing is there yet.

    Raises:
      OSError: as `write`.
    """
    with tempfile.TemporaryDirectory(prefix="dnabert-") as folder:
        local = Path(folder) / path.name
        yield local
        write(path, local.read_bytes())


def move(source: Path, target: Path) -> None:
    """Gives a folder on an object store another name: every object is copied within the store, then they are deleted.

    Whoever is interrupted in it can do it again.

    Raises:
      OSError: with a `strerror` of one line.
    """
    import fsspec

    store = fsspec.filesystem(os.fspath(source).partition("://")[0])
    begin, end = (os.fspath(each).partition("://")[2] for each in (source, target))
    try:
        there = store.find(begin)
        store.copy(there, [end + each.removeprefix(begin) for each in there])
        store.rm(there)
    except Exception as error:
        raise OSError(errno.EIO, _first_line(error)) from None


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 200 else line[:197] + "..."
