"""Params taken over from another model: which of them, what is made to fit, and what starts anew, said in words."""

from typing import Any

import jax
import numpy as np

from dnabert_jax.config import EncoderConfig, ModelConfig
from dnabert_jax.errors import InputError
from dnabert_jax.stored import Stored
from dnabert_jax.training import state
from dnabert_jax.training.checkpoints import Say

_MEANING = (
    "k",
    "layers",
    "hidden",
    "heads",
    "intermediate",
    "positions",
    "rotary_base",
    "type_vocabulary",
    "layer_norm_epsilon",
)
"""Fields that make the same params another model. `max_length` is none of them: position tables are made to fit."""


def check_same_encoder(asked: EncoderConfig, source: Stored, name: str) -> None:
    """Raises InputError where the encoder of a run is not the one whose params it is to start from."""
    wrong = [field for field in _MEANING if getattr(asked, field) != getattr(source.config.encoder, field)]
    if wrong:
        field = wrong[0]
        more = f" (and {', '.join(wrong[1:])} differ)" if wrong[1:] else ""
        raise InputError(
            f"encoder.{field} is {getattr(asked, field)}, but the model in {name} has "
            f"{getattr(source.config.encoder, field)}{more}; expected the encoder that is there"
        )


def take_over(source: Stored, name: str, config: ModelConfig, params: state.Params, say: Say) -> state.Params:
    """Params of a run with those of another model in the place of its own, where the two have the same.

    The encoder is always taken. A position table of another length is cut, or goes on with its rows from the first.
    A pooler and a masked-LM head are taken where both models have one, a classifier where it puts out the same things
    from the same places.

    Args:
      source: the other model; its encoder was checked.
      name: of the other model, for people.
      config: of this run's model.
      params: this run's, as it would start without the other; laid out on the mesh.
      say: hears what was taken, made to fit, not taken, and what is new.

    Returns:
      Params laid out as `params`.
    """
    found = {part: tree for part, tree in source.params.items() if part in params}
    if "classifier" in found and (why := _other_outputs(source.config, config)):
        say(f"the classifier of {name} is not taken: {why}")
        del found["classifier"]
    found["encoder"] = _with_positions(found["encoder"], source.config.encoder, config.encoder, say)
    state.check_shapes(name, state.shapes({part: params[part] for part in found}), state.shapes(found))
    say(f"loaded from {name} ({source.origin}): {_inventory(found)}")
    new = {part: tree for part, tree in params.items() if part not in found}
    if new:
        say(f"new: {_inventory(new)}")
    for part in sorted(source.params.keys() - params.keys()):
        say(f"{part} of {name} is not taken: this model has none")
    return {**params, **jax.tree.map(_laid_out, found, {part: params[part] for part in found})}


def _laid_out(array: np.ndarray, like: jax.Array) -> jax.Array:
    """Each process lays what its devices hold; `jax.device_put` would first compare the arrays of all of them."""
    array = np.asarray(array, like.dtype)
    return jax.make_array_from_callback(array.shape, like.sharding, lambda place: array[place])


def _other_outputs(there: ModelConfig, here: ModelConfig) -> str:
    """Why a classifier cannot be used; empty where it can."""
    if there.head != here.head:
        return f"it is one of {there.head}, this is {here.head}"
    if there.classes != here.classes:
        return f"it has {_listed(there.classes)}, the data {_listed(here.classes)}"
    if there.join != here.join or (here.join == "concatenate" and there.pieces != here.pieces):
        return f"it reads {there.pieces} pieces by {there.join}, this one {here.pieces} by {here.join}"
    if there.pool != here.pool:
        return f"it reads the pooled {there.pool}, this one the pooled {here.pool}"
    return ""


def _listed(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:6]) + (", ..." if len(classes) > 6 else "")
    return f"{len(classes)} ({shown})"


def _with_positions(encoder: dict[str, Any], there: EncoderConfig, here: EncoderConfig, say: Say) -> dict[str, Any]:
    if there.max_length == here.max_length or here.positions != "learned":
        return encoder
    table = np.resize(encoder["embeddings"]["position"], (here.max_length, here.hidden))  # repeats or cuts rows
    if here.max_length > there.max_length:
        say(f"positions: {there.max_length} rows became {here.max_length}, repeating them from the first")
    else:
        say(f"positions: the first {here.max_length} of {there.max_length} rows are used")
    return {**encoder, "embeddings": {**encoder["embeddings"], "position": table}}


def _inventory(params: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} ({len(jax.tree.leaves(tree))} arrays, {state.parameter_count(tree):,} params)"
        for name, tree in sorted(params.items())
    )
