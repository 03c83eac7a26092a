"""A model as it is kept, in whichever form: the workdir of a run, a converted model, or Hugging Face's.

Everything that takes a model takes all of these forms through `read`. The project's own form for a model without its
run is a folder of two files: `model.json`, a ModelConfig, and `params.safetensors`, the arrays under the names of their
places in the pytree, such as `encoder/layers/mlp/up/kernel`.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np
import safetensors
import safetensors.numpy

from dnabert_jax import hub, outputs, places
from dnabert_jax.config import FinetuneConfig, MeshConfig, ModelConfig, PretrainConfig, from_json, to_json
from dnabert_jax.errors import InputError
from dnabert_jax.model.heads import initializer
from dnabert_jax.sharding import make_mesh, use
from dnabert_jax.training import state, workdir
from dnabert_jax.training.checkpoints import Say, restore_params

MODEL = "model.json"
PARAMS = "params.safetensors"


class Stored(NamedTuple):
    """A model.

    Attributes:
      config: what computing with it takes besides its params.
      params: nested dict of float32 NumPy arrays: `encoder` and, by the head, `mlm_head`, `pooler`, `classifier`.
      origin: what it is and from when, for people.
    """

    config: ModelConfig
    params: dict[str, Any]
    origin: str


def read(source: str | Path, say: Say) -> Stored:
    """Reads a model in any form.

    Args:
      source: workdir of a pretraining or a fine-tuning run (of this one the best epoch), folder of a converted model,
        either also on gs:// or s3://; Hugging Face folder, or, where there is no such folder, the id of a model on
        Hugging Face's hub.
      say: hears of damaged checkpoints that were passed over, and of what was not taken from a Hugging Face model.

    Raises:
      InputError: none of these, damaged, or of other shapes than its config says.
    """
    folder, form = places.place(source), form_of(source)
    if form == "converted":
        return _read_converted(folder)
    if form == "huggingface":
        return Stored(*hub.read(source, say))
    if not (folder / workdir.CONFIG).is_file():
        raise InputError(
            f"{source}: is no model folder: it holds neither {MODEL} nor {workdir.CONFIG}; expected a workdir, a "
            "converted model or a Hugging Face folder"
        )
    run = workdir.read_config(folder, PretrainConfig, FinetuneConfig)
    if isinstance(run, PretrainConfig):
        config, checkpoints = ModelConfig(run.encoder, "masked_lm"), workdir.CHECKPOINTS
    else:
        config, checkpoints = run.fine_tuned(_classes(folder / workdir.CLASSES)), workdir.BEST
    config = _anywhere(config)
    with use(make_mesh(MeshConfig(), jax.local_devices()[:1])) as mesh:
        like = state.parameter_layout(initializer(config), jax.random.key(0), mesh)
        params, step = restore_params(folder / checkpoints, like, say)
        return Stored(config, jax.device_get(params), f"step {step}")


def form_of(source: str | Path) -> Literal["converted", "huggingface", "workdir"]:
    """The form in which the model `source` would be; what is no folder is the hub's, and what is no other a workdir.

    Raises:
      InputError: no name, or a place that may not be looked into.
    """
    if not str(source):
        raise InputError("the model's name is empty; expected a folder or a hub id")
    folder = places.place(source)
    try:
        if (folder / MODEL).is_file():
            return "converted"
        return "huggingface" if hub.is_model(folder) or not folder.exists() else "workdir"
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror}); expected a model's folder or hub id") from None


def write(folder: str | Path, config: ModelConfig, params: dict[str, Any]) -> None:
    """Writes a converted model, whole or not at all, in the place of what is at `folder`.

    Args:
      folder: to write.
      config: of the model.
      params: nested dict of float32 arrays, as `read` gives them.

    Raises:
      InputError, RunStopped: the folder cannot be written.
    """
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in flat.items()}
    with outputs.folder(Path(folder)) as new:
        (new / MODEL).write_text(to_json(config), encoding="utf-8")
        (new / PARAMS).write_bytes(safetensors.numpy.save(arrays))  # `save_file` lets nobody but the owner read it


def _read_converted(folder: Path) -> Stored:
    file = folder / PARAMS
    try:
        config = _anywhere(from_json(ModelConfig, (folder / MODEL).read_text("utf-8"), str(folder / MODEL)))
        load_file = safetensors.numpy.load_file
        arrays = safetensors.numpy.load(file.read_bytes()) if places.is_remote(file) else load_file(file)
    except (OSError, UnicodeDecodeError, safetensors.SafetensorError) as error:
        raise InputError(f"{file}: cannot be read ({error}); expected a whole converted model") from None
    expected = state.shapes(nn.unbox(jax.eval_shape(initializer(config), jax.random.key(0))))
    if config.head == "none" and any(name.startswith("pooler/") for name in arrays):
        hidden = config.encoder.hidden
        expected |= {"pooler/kernel": [hidden, hidden], "pooler/bias": [hidden]}
    state.check_shapes(file, expected, {name: list(array.shape) for name, array in arrays.items()})
    floats = {name: array.astype(np.float32, copy=False) for name, array in arrays.items()}
    return Stored(config, flax.traverse_util.unflatten_dict(floats, sep="/"), "converted model")


def _anywhere(config: ModelConfig) -> ModelConfig:
    """The config without the demand for a fused attention kernel, which the next device may not have."""
    attention = "xla" if config.encoder.attention == "xla" else "auto"
    return dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, attention=attention))


def _classes(file: Path) -> tuple[str, ...]:
    try:
        names = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        names = None
    if not (names and isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise InputError(f"{file}: missing or damaged; expected the class names that fine-tuning wrote")
    return tuple(names)
