"""Which tensor of a BERT checkpoint is which part of which of our arrays: one table, read in both directions.

A linear layer's weight there is the transpose of a kernel here; queries, keys and values are three tensors there and
one array here; every layer has tensors of its own there and a place along the leading axis here. Nothing is computed,
so going there and back is the identity, bit for bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnabert_jax.config import EncoderConfig, ModelConfig

Tensors = dict[str, np.ndarray]
"""Tensors of a checkpoint by their names."""

WORD_EMBEDDINGS = "bert.embeddings.word_embeddings.weight"
MLM_BIAS = "cls.predictions.bias"
DECODER = "cls.predictions.decoder.weight"
POOLER = ("bert.pooler.dense.weight", "bert.pooler.dense.bias")
CLASSIFIER = "classifier.weight"

_Path = tuple[str, ...]
_Shape = tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """A tensor of a BERT checkpoint, and where it lies in our params.

    Attributes:
      name: theirs, such as `bert.encoder.layer.0.output.dense.weight`.
      shape: theirs.
      path: of our array in the pytree.
      whole: shape of our array.
      place: index of the part of our array that the tensor is; () for all of it.
      transposed: whether the tensor is the transpose of that part, whose inputs and outputs count as one axis each.
    """

    name: str
    shape: _Shape
    path: _Path
    whole: _Shape
    place: tuple = ()
    transposed: bool = False


def table(config: ModelConfig, *, pooler: bool) -> list[Entry]:
    """Every tensor of a model.

    Args:
      config: the model's.
      pooler: whether a model without a head, a bare `BertModel`, has a pooler; of the others the head decides.
    """
    encoder, outputs = config.encoder, len(config.classes)
    entries = list(_encoder(encoder))
    if config.head == "masked_lm":
        entries += _mlm_head(encoder)
    if config.head in ("single_label", "multi_label", "regression") or (config.head == "none" and pooler):
        entries += _dense("bert.pooler.dense", ("pooler",), (encoder.hidden,), (encoder.hidden,))
    if outputs:
        entries += _dense("classifier", ("classifier",), (encoder.hidden,), (outputs,))
    return entries


def to_theirs(params: dict[str, Any], entries: list[Entry]) -> Tensors:
    """The tensors of our params.

    Args:
      params: nested dict of arrays that are float32 and have the shapes of `entries`.
      entries: what `table` gave for the model.

    Returns:
      float32 arrays in C order.
    """
    tensors = {}
    for entry in entries:
        part = np.asarray(_leaf(params, entry.path))[entry.place]
        tensor = part.reshape(entry.shape[::-1]).T if entry.transposed else part.reshape(entry.shape)
        tensors[entry.name] = np.ascontiguousarray(tensor)
    return tensors


def to_ours(tensors: Tensors, entries: list[Entry]) -> dict[str, Any]:
    """The params that the tensors make up: a nested dict of float32 arrays.

    Args:
      tensors: at least those of `entries`, float32 and of the shapes that `entries` give.
      entries: what `table` gave for the model.
    """
    params: dict[str, Any] = {}
    for entry in entries:
        *above, last = entry.path
        node = params
        for key in above:
            node = node.setdefault(key, {})
        if last not in node:
            node[last] = np.empty(entry.whole, np.float32)
        part = node[last][entry.place]
        tensor = tensors[entry.name]
        part[...] = (tensor.T if entry.transposed else tensor).reshape(part.shape)
    return params


def _leaf(params: dict[str, Any], path: _Path) -> Any:
    for key in path:
        params = params[key]
    return params


def _encoder(config: EncoderConfig) -> Iterator[Entry]:
    """The tensors of `BertModel` without its pooler."""
    hidden, inner, layers = config.hidden, config.intermediate, config.layers
    heads = (config.heads, hidden // config.heads)
    top = ("encoder", "embeddings")
    for ours, theirs, rows in (
        ("token", "word", config.vocabulary_size),
        ("position", "position", config.max_length),
        ("type", "token_type", config.type_vocabulary),
    ):
        shape = (rows, hidden)
        yield Entry(f"bert.embeddings.{theirs}_embeddings.weight", shape, (*top, ours), shape)
    yield from _norm("bert.embeddings.LayerNorm", (*top, "layer_norm"), hidden)
    for i in range(layers):
        theirs, ours, at = f"bert.encoder.layer.{i}", ("encoder", "layers"), (layers, i)
        yield from _queries_keys_values(f"{theirs}.attention.self", (*ours, "attention", "qkv"), hidden, heads, at)
        yield from _dense(f"{theirs}.attention.output.dense", (*ours, "attention", "output"), heads, (hidden,), at)
        yield from _norm(f"{theirs}.attention.output.LayerNorm", (*ours, "attention_layer_norm"), hidden, at)
        yield from _dense(f"{theirs}.intermediate.dense", (*ours, "mlp", "up"), (hidden,), (inner,), at)
        yield from _dense(f"{theirs}.output.dense", (*ours, "mlp", "down"), (inner,), (hidden,), at)
        yield from _norm(f"{theirs}.output.LayerNorm", (*ours, "mlp_layer_norm"), hidden, at)


def _mlm_head(config: EncoderConfig) -> Iterator[Entry]:
    """What `BertForMaskedLM` adds. A decoder that is tied to the token embeddings is no tensor of its own."""
    hidden = (config.hidden,)
    yield from _dense("cls.predictions.transform.dense", ("mlm_head", "transform"), hidden, hidden)
    yield from _norm("cls.predictions.transform.LayerNorm", ("mlm_head", "layer_norm"), config.hidden)
    shape = (config.vocabulary_size,)
    yield Entry(MLM_BIAS, shape, ("mlm_head", "bias"), shape)
    if not config.tied_decoder:
        table = (config.vocabulary_size, config.hidden)
        yield Entry(DECODER, table, ("mlm_head", "decoder"), table)


def _queries_keys_values(theirs: str, ours: _Path, hidden: int, heads: _Shape, at: tuple[int, int]) -> Iterator[Entry]:
    layers, layer = at
    for part, name in enumerate(("query", "key", "value")):
        kernel, bias = (layers, hidden, 3, *heads), (layers, 3, *heads)
        place = (layer, slice(None), part)
        yield Entry(f"{theirs}.{name}.weight", (hidden, hidden), (*ours, "kernel"), kernel, place, transposed=True)
        yield Entry(f"{theirs}.{name}.bias", (hidden,), (*ours, "bias"), bias, (layer, part))


def _dense(
    theirs: str, ours: _Path, inputs: _Shape, outputs: _Shape, at: tuple[int, int] | None = None
) -> Iterator[Entry]:
    stack, place = ((at[0],), (at[1],)) if at else ((), ())
    shape = (int(np.prod(outputs)), int(np.prod(inputs)))
    kernel = (*stack, *inputs, *outputs)
    yield Entry(f"{theirs}.weight", shape, (*ours, "kernel"), kernel, place, transposed=True)
    yield Entry(f"{theirs}.bias", shape[:1], (*ours, "bias"), (*stack, *outputs), place)


def _norm(theirs: str, ours: _Path, hidden: int, at: tuple[int, int] | None = None) -> Iterator[Entry]:
    stack, place = ((at[0],), (at[1],)) if at else ((), ())
    for name, part in (("weight", "scale"), ("bias", "bias")):
        yield Entry(f"{theirs}.{name}", (hidden,), (*ours, part), (*stack, hidden), place)
