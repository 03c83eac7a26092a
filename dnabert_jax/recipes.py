"""Finding a recipe: a Python file that sets `config`, by its path or by its name in `configs/`."""

import dataclasses
import difflib
import re
import runpy
import traceback
from pathlib import Path
from typing import Any

from dnabert_jax import config as configs
from dnabert_jax.errors import InputError

_PLACES = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")
"""An installed wheel has the recipes inside the package, and strangers beside it; a checkout has them beside it."""


_PARTS = tuple(each for each in vars(configs).values() if dataclasses.is_dataclass(each))
"""Every kind of config that a recipe may build."""


def names() -> list[str]:
    """Names of the recipes that come with the project."""
    return sorted(file.stem for file in _folder().glob("*.py"))


def load(recipe: str, kind: type) -> Any:
    """The config that a recipe sets.

    Args:
      recipe: a name such as `dnabert6`, or the path of a `.py` file.
      kind: PretrainConfig or FinetuneConfig.

    Raises:
      InputError: no such recipe (with the nearest name), it cannot be run, or its config is of the other kind.
    """
    path = Path(recipe) if recipe.endswith(".py") else _folder() / f"{recipe}.py"
    if not path.is_file():
        if recipe.endswith(".py"):
            raise InputError(f"{recipe}: no such recipe file; the recipes by name are {', '.join(names())}")
        near = difflib.get_close_matches(recipe, names(), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"unknown recipe {recipe!r}; {hint}expected one of {', '.join(names())}, or a .py file")
    try:
        config = runpy.run_path(str(path)).get("config")
    except (Exception, SystemExit) as error:  # a recipe is the user's own Python
        raise InputError(f"{path}: {_said(error, path, kind)}") from error
    if not isinstance(config, kind):
        found = type(config).__name__ if config is not None else "nothing"
        raise InputError(f"{path}: sets `config` to {found}; expected a {kind.__name__}")
    return config


def _said(error: BaseException, path: Path, kind: type) -> str:
    """Where in the recipe, and what: an unknown field with the nearest one."""
    if isinstance(error, InputError):
        what = str(error)
    else:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
        if unknown := re.search(r"unexpected keyword argument '(\w+)'", what):
            fields = [name for each in (kind, *_PARTS) for name in each.__dataclass_fields__]
            near = difflib.get_close_matches(unknown[1], fields, n=1, cutoff=0.5)
            what = f"unknown field {unknown[1]}" + (f"; did you mean {near[0]}?" if near else "")
    places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"line {places[-1]}: {what}" if places else what


def _folder() -> Path:
    return next((place for place in _PLACES if place.is_dir()), _PLACES[-1])
