"""The command line as typed values: tyro reads it, and what tyro complains about becomes one line."""

import contextlib
import io
import re
from collections.abc import Callable
from typing import Any

import tyro

from dnabert_jax import config as configs
from dnabert_jax.errors import InputError


def call(function: Callable[..., Any], arguments: list[str], program: str) -> Any:
    """Calls `function` with its typed parameters read from flags; `--help` comes from its signature and docstring.

    Raises:
      InputError: an unknown flag, a missing one, or a value of the wrong type.
    """
    bound = _parse(lambda: tyro.cli(_Deferred.of(function), args=arguments, prog=program))
    return bound()


def override(config: Any, arguments: list[str], program: str) -> Any:
    """A config with single fields changed by flags such as `--loop.steps 100`.

    Raises:
      InputError: an unknown field (with the nearest one), or a value that the field cannot take.
    """
    kind = type(config)
    changed, unknown = _parse(
        lambda: tyro.cli(
            kind,
            default=config,
            args=arguments,
            prog=program,
            return_unknown_args=True,
            config=(tyro.conf.FlagConversionOff,),
        )
    )
    if unknown:
        name = unknown[0].split("=")[0]
        if not name.startswith("-"):
            raise InputError(f"unexpected argument {unknown[0]!r}; expected flags such as --workdir DIR")
        hint = configs.nearest_field(config, name.lstrip("-").replace("-", "_"))
        raise InputError(f"unknown field {name}{hint}")
    return changed


def known(kind: type, arguments: list[str], program: str) -> tuple[Any, list[str]]:
    """A dataclass of this kind from those flags that are its fields, and the other arguments as they came.

    Raises:
      InputError: a field without a default is missing, or a value that a field cannot take.
    """
    return _parse(lambda: tyro.cli(kind, args=arguments, prog=program, return_unknown_args=True))


class _Deferred:
    """Wraps a function so that tyro parses its arguments without calling it, which keeps its own errors its own."""

    @staticmethod
    def of(function: Callable[..., Any]) -> Callable[..., Callable[[], Any]]:
        import functools

        @functools.wraps(function)
        def bind(*args: Any, **keywords: Any) -> Callable[[], Any]:
            return functools.partial(function, *args, **keywords)

        return bind


def _parse(parse: Callable[[], Any]) -> Any:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parse()
    except SystemExit as exit:
        if not exit.code:  # --help
            raise
        raise InputError(_one_line(said.getvalue())) from None


def _one_line(text: str) -> str:
    """tyro's boxed message without its box, its title, and its advice to read on."""
    lines = [line.strip("│╭╮╰╯─ \t") for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()]
    if len(lines) > 1 and text.lstrip().startswith("╭"):
        lines = lines[1:]
    joined = re.sub(r"\s+", " ", " ".join(line for line in lines if "--help" not in line)).strip()
    joined = re.split(r" ?(?:Got errors:|Argument helptext:|For full helptext)", joined)[0]
    return re.sub(r"^Error parsing ", "", joined) or "the command line cannot be read"
