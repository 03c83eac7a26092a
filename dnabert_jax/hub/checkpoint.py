"""A Hugging Face folder as a model of ours, and a model of ours as a Hugging Face folder.

Every tensor of a checkpoint is accounted for. What one may lack or have beyond its architecture, and is read anyway:

- LayerNorm's `gamma` and `beta`, and names without the prefix `bert.`, are old names of the same tensors;
- `position_ids` and `token_type_ids` are no weights;
- a decoder of the masked LM that equals the word embeddings, or its bias, is a copy of what is there already; one that
  differs from them is untied, and kept;
- a pooler in front of which no head stands (DNABERT's own masked LMs have one) is passed over, and said;
- a bare `BertModel` may lack its pooler.

Anything else that is left over or missing is an error that names all of it, unless the caller is not strict. Then what
is left over is passed over, and a model whose head is not complete is read as the bare encoder; both are said.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import flax.traverse_util
import numpy as np
import safetensors.numpy

from dnabert_jax import outputs
from dnabert_jax.config import ModelConfig
from dnabert_jax.errors import InputError
from dnabert_jax.hub import bert_config, files, names, vocabulary
from dnabert_jax.hub.files import Say
from dnabert_jax.hub.names import Tensors

Params = dict[str, Any]

FILES = (files.CONFIG, files.SAFETENSORS, files.VOCABULARY, *vocabulary.SETTINGS)
"""What `write` writes."""

_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
_OLD_ENDINGS = {".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"}
_DECODER_BIAS = "cls.predictions.decoder.bias"
_LENIENT = "strict=False, or `dnabert convert` with --lenient"


def read(
    source: str | Path, say: Say, *, strict: bool = True, permute: bool = False
) -> tuple[ModelConfig, Params, str]:
    """Reads a model in Hugging Face's form.

    Args:
      source: folder with `config.json` and `model.safetensors` or `pytorch_model.bin`, or the id of one on the hub.
      say: hears what was passed over, converted or assumed.
      strict: whether tensors that are left over or missing are an error.
      permute: put a vocabulary with DNABERT's tokens in another order into DNABERT's order.

    Returns:
      The model's config, its params (a nested dict of float32 NumPy arrays) and its architecture.

    Raises:
      InputError: no such model, not BERT's, another vocabulary than DNABERT's, damaged, or of other shapes than its
        config says.
    """
    folder = files.locate(source)
    file = folder / files.CONFIG
    values = files.read_json(file)
    encoder = bert_config.read_encoder(values, str(file))
    order = vocabulary.order(folder, encoder.k, say, permute=permute)
    tensors = _without_copies(_renamed(files.read_tensors(folder, say), folder), folder, say, strict)
    if encoder.layers > len(tensors):
        raise InputError(f"{file}: num_hidden_layers is {encoder.layers}; expected the number that the weights have")
    architecture = bert_config.read_architecture(values, tensors, str(file))
    if architecture == "BertForMaskedLM":
        encoder = dataclasses.replace(encoder, tied_decoder=names.DECODER not in tensors)
    config = bert_config.read_model(values, encoder, architecture, tensors.get(names.CLASSIFIER), str(file))
    entries = names.table(config, pooler=any(name in tensors for name in names.POOLER))
    missing = [entry for entry in entries if entry.name not in tensors]
    if missing:
        _refuse_missing(missing, architecture, folder, say, strict)
        config, architecture = ModelConfig(encoder), "BertModel"
        entries = names.table(config, pooler=all(name in tensors for name in names.POOLER))
    _account_for([name for name in tensors if name not in {each.name for each in entries}], config, folder, say, strict)
    _check_shapes(tensors, entries, folder)
    if order is not None:
        for name in {names.WORD_EMBEDDINGS, names.MLM_BIAS, names.DECODER} & set(tensors):
            tensors[name] = tensors[name][order]
    return config, names.to_ours(tensors, entries), architecture


def _renamed(tensors: Tensors, folder: Path) -> Tensors:
    """The tensors under today's names, with the prefix, and without those that are no weights."""
    found: Tensors = {}
    for theirs, tensor in tensors.items():
        if theirs.endswith(_BUFFERS):
            continue
        name = theirs
        for old, new in _OLD_ENDINGS.items():
            if name.endswith(old):
                name = name.removesuffix(old) + new
        if name.startswith(("embeddings.", "encoder.", "pooler.")):
            name = f"bert.{name}"
        if name in found:
            raise InputError(f"{folder}: has the tensor {name} under two names, one of them {theirs}; expected one")
        found[name] = tensor
    return found


def _without_copies(tensors: Tensors, folder: Path, say: Say, strict: bool) -> Tensors:
    """The tensors without those that a masked LM has twice: a tied decoder, and its bias."""
    found = dict(tensors)
    if names.DECODER in found:
        if names.WORD_EMBEDDINGS not in found:
            found[names.WORD_EMBEDDINGS] = found[names.DECODER]
        if _same_bits(found[names.WORD_EMBEDDINGS], found[names.DECODER]):
            del found[names.DECODER]
    bias = found.pop(_DECODER_BIAS, None)
    if bias is not None and not _same_bits(found.setdefault(names.MLM_BIAS, bias), bias):
        if strict:
            raise InputError(
                f"{folder}: tensor {_DECODER_BIAS} is not the same as {names.MLM_BIAS}; expected one bias ({_LENIENT} "
                f"takes {names.MLM_BIAS} for both)"
            )
        say(f"{folder}: {_DECODER_BIAS} is not the same as {names.MLM_BIAS}, which is taken for both")
    return found


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _refuse_missing(missing: list[names.Entry], architecture: str, folder: Path, say: Say, strict: bool) -> None:
    """Raises for missing tensors, unless they are only those of a head and may be."""
    listed = ", ".join(entry.name for entry in missing)
    if any(entry.path[0] == "encoder" for entry in missing):
        raise InputError(f"{folder}: lacks tensors of {architecture}: {listed}")
    if strict:
        raise InputError(
            f"{folder}: lacks tensors of {architecture}: {listed} ({_LENIENT} reads it as the bare encoder)"
        )
    say(f"{folder}: lacks {listed}, and is read as the bare encoder")


def _account_for(left: list[str], config: ModelConfig, folder: Path, say: Say, strict: bool) -> None:
    """Says what is passed over, and raises for what may not be."""
    pooler = [name for name in left if name in names.POOLER]
    if pooler and config.head in ("masked_lm", "per_base"):
        say(f"{folder}: the pooler ({', '.join(pooler)}) is passed over; nothing here reads it")
        left = [name for name in left if name not in pooler]
    if not left:
        return
    if strict:
        raise InputError(f"{folder}: holds tensors that are not the model's: {', '.join(left)} ({_LENIENT} drops them)")
    say(f"{folder}: tensors that are not the model's are passed over: {', '.join(left)}")


def _check_shapes(tensors: Tensors, entries: list[names.Entry], folder: Path) -> None:
    for entry in entries:
        tensor = tensors[entry.name]
        if tensor.shape != entry.shape:
            raise InputError(
                f"{folder}: tensor {entry.name} has shape {tensor.shape}; expected {entry.shape}, as the config says"
            )
        if tensor.dtype != np.float32:
            raise InputError(f"{folder}: tensor {entry.name} holds {tensor.dtype}; expected floating-point numbers")


def write(folder: str | Path, config: ModelConfig, params: Params) -> None:
    """Writes a model in Hugging Face's form, whole or not at all, in the place of what is at `folder`.

    A bare encoder has a pooler only if its params have; without one it loads as
    `BertModel.from_pretrained(folder, add_pooling_layer=False)`.

    Args:
      folder: to write: `config.json`, `model.safetensors`, `vocab.txt` and the settings of the tokenizer.
      config: the model's. How it is computed (`compute_dtype` and the like) has no place there and is not kept.
      params: nested dict of float32 arrays.

    Raises:
      InputError: a model that transformers' BERT cannot compute, or params of other shapes than the config says.
      RunStopped: the folder cannot be written.
    """
    values = bert_config.write(config, str(folder))
    entries = names.table(config, pooler="pooler" in params)
    expected = {"/".join(entry.path): entry.whole for entry in entries}
    found = {name: np.shape(leaf) for name, leaf in flax.traverse_util.flatten_dict(params, sep="/").items()}
    for name in expected | found:
        if expected.get(name) != found.get(name):
            raise InputError(
                f"{folder}: param {name} has shape {found.get(name, 'none')}; expected {expected.get(name, 'none')}"
            )
    with outputs.folder(Path(folder)) as new:
        (new / files.CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        vocabulary.write(new, config.encoder.k, config.encoder.max_length)
        tensors = names.to_theirs(params, entries)
        if names.DECODER in tensors:  # transformers then has the bias twice, too
            tensors[_DECODER_BIAS] = tensors[names.MLM_BIAS]
        if config.head == "none":  # a checkpoint of BertModel itself has names without the prefix
            tensors = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
        (new / files.SAFETENSORS).write_bytes(safetensors.numpy.save(tensors, metadata={"format": "pt"}))


def caveats(config: ModelConfig, params: Params) -> list[str]:
    """What someone should know who uses the folder that `write` makes of a model in transformers, a line each."""
    notes = []
    if config.head == "none" and "pooler" not in params:
        notes.append(
            "has no pooler; transformers loads it with BertModel.from_pretrained(..., add_pooling_layer=False)"
        )
    if config.pieces > 1:
        notes.append(f"transformers reads one piece of a sequence; here up to {config.pieces} are read and averaged")
    return notes
