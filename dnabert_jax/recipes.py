"""Finding a recipe: a Python file that sets `config`, by its path or by its name in `configs/`."""

import difflib
import runpy
from pathlib import Path
from typing import Any

from dnabert_jax.errors import InputError

_PLACES = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")
"""An installed wheel has the recipes inside the package, and strangers beside it; a checkout has them beside it."""


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
    except Exception as error:  # a recipe is the user's own Python
        text = str(error).strip().splitlines()
        raise InputError(f"{path}: {text[0] if text else type(error).__name__}") from error
    if not isinstance(config, kind):
        found = type(config).__name__ if config is not None else "nothing"
        raise InputError(f"{path}: sets `config` to {found}; expected a {kind.__name__}")
    return config


def _folder() -> Path:
    return next((place for place in _PLACES if place.is_dir()), _PLACES[-1])
