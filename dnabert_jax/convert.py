"""A model from any form into Hugging Face's, or into the project's own form for a model without its run."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax

from dnabert_jax import hub, places, stored
from dnabert_jax.errors import InputError

Form = Literal["huggingface", "flax"]

_REPLACEABLE = {*hub.FILES, stored.MODEL, stored.PARAMS}


def convert(
    source: str | Path,
    target: str | Path,
    form: Form,
    *,
    strict: bool = True,
    permute: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None],
) -> str:
    """Writes a model in another form.

    Args:
      source: whatever `stored.read` takes.
      target: folder to write.
      form: `huggingface`, or `flax` for the project's own, as `stored.write` writes it.
      strict, permute: as `hub.read` has them.
      overwrite: replace a model that this function wrote to `target`.
      say: hears what the user should know, in one line each.

    Returns:
      What was written, in one line.

    Raises:
      InputError: no model at `source`, one that has not that form, or something at `target` that is not replaced.
      RunStopped: the folder cannot be written.
    """
    if places.is_remote(target):
        raise InputError(f"{target}: models are written to local folders only; expected one, to be copied from there")
    target = Path(target)
    _require_free(target, overwrite)
    if stored.form_of(source) == "huggingface":
        model = stored.Stored(*hub.read(source, say, strict=strict, permute=permute))
    else:
        model = stored.read(source, say)
    if form == "huggingface":
        hub.write(target, model.config, model.params)
        for note in hub.caveats(model.config, model.params):
            say(f"{target}: {note}")
    else:
        stored.write(target, model.config, model.params)
    leaves = jax.tree.leaves(model.params)
    return (
        f"{target}: {_NAMES[form]}, head {model.config.head}, k = {model.config.encoder.k}, "
        f"{sum(leaf.size for leaf in leaves):,} params, from {source} ({model.origin})"
    )


_NAMES = {"huggingface": "a Hugging Face model", "flax": "a converted model"}


def _require_free(target: Path, overwrite: bool) -> None:
    try:
        found = sorted(each.name for each in target.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{target}: {error.strerror}; expected a new folder to write the model to") from None
    if not found:
        return
    if not overwrite:
        raise InputError(f"{target}: is not empty; expected a new folder, or --overwrite to replace a model there")
    others = [name for name in found if name not in _REPLACEABLE]
    if others:
        raise InputError(f"{target}: holds {others[0]}, which no conversion wrote; expected a new folder")
