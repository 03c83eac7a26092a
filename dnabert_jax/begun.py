"""Folders of long work that is done in many steps: it goes on with the options with which it was begun, or not at all.

The options are a dataclass, kept in `options.json` in the folder.
"""

import os
from pathlib import Path
from typing import Any

from dnabert_jax.config import differences, from_json, to_json
from dnabert_jax.errors import InputError
from dnabert_jax.training import workdir

OPTIONS = "options.json"


def claim(out: Path, options: Any) -> None:
    """Writes the options of a first start, or holds those of this one against them once a step was begun.

    Args:
      out: the folder, which exists; each step is a folder in it.
      options: frozen dataclass of all that the steps follow from.

    Raises:
      InputError: the folder was begun with other options, or holds other files.
    """
    file = out / OPTIONS
    if not file.exists():
        others = sorted(each.name for each in out.iterdir() if not each.name.startswith("."))
        if others:
            raise InputError(f"{out}: holds {others[0]} but no {OPTIONS}; expected an empty or new folder")
    elif any(each.is_dir() for each in out.iterdir()):
        try:
            before = from_json(type(options), file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: cannot be read ({error}); expected what the first start wrote") from None
        changed = [f"{name} ({old!r} → {new!r})" for name, old, new in differences(before, options)]
        if changed:
            raise InputError(
                f"{out}: begun with other options: {', '.join(changed)}; expected the same, or another folder"
            )
        return
    workdir.write_text(file, to_json(options))


def absolute(path: str | Path) -> str:
    """A path that means the same from everywhere; what is no file stays, such as the id of a model on a hub."""
    return os.path.abspath(path) if path and os.path.exists(path) else str(path)
