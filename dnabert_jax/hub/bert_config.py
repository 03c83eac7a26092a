"""`config.json` of a BERT in transformers, and our ModelConfig.

Whatever changes what the model computes is either carried over or an error; the other keys, of which old DNABERT
configs have many, are left alone. How the pieces of a long sequence are joined, of which transformers knows nothing,
stands under the key `dnabert_jax`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dnabert_jax.config import EncoderConfig, ModelConfig
from dnabert_jax.errors import InputError
from dnabert_jax.hub import vocabulary

ARCHITECTURES = {
    "BertModel": "none",
    "BertForMaskedLM": "masked_lm",
    "BertForSequenceClassification": "single_label",
    "BertForTokenClassification": "per_base",
}
"""The head of each architecture; of the third, `problem_type` says which of three."""

_SEQUENCE_HEADS = {
    "single_label_classification": "single_label",
    "multi_label_classification": "multi_label",
    "regression": "regression",
}
_ONLY = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}
"""Keys that change the computation, and the one value that we compute, which is also their default."""

_SHAPE = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
    "max_length": "max_position_embeddings",
    "type_vocabulary": "type_vocab_size",
}
_RATES = {
    "hidden_dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "initializer_range": "initializer_range",
    "layer_norm_epsilon": "layer_norm_eps",
}
_EXTRA = "dnabert_jax"
_OUR_JOIN = ("join", "pieces")


def read_encoder(values: Mapping[str, Any], source: str) -> EncoderConfig:
    """The encoder that a config describes; it computes in float32.

    Args:
      values: what `config.json` holds.
      source: its name, for messages.

    Raises:
      InputError: not BERT's, a variant of BERT that we do not compute, a vocabulary that is no DNABERT's, or a value
        that is missing or out of range.
    """
    if values.get("model_type", "bert") != "bert":
        raise InputError(f"{source}: is a config that is not BERT's: model_type is {values['model_type']!r}")
    for name, only in _ONLY.items():
        if values.get(name, only) != only:
            raise InputError(f"{source}: {name} is {values[name]!r}; expected {only!r}")
    if values.get("pruned_heads"):
        raise InputError(f"{source}: pruned_heads is {values['pruned_heads']!r}; expected none")
    k = vocabulary.k_of(_number(values, "vocab_size", int, source), source)
    defaults = {"type_vocab_size": 2} | {name: getattr(EncoderConfig, ours) for ours, name in _RATES.items()}
    values = defaults | dict(values)
    shape = {ours: _number(values, name, int, source) for ours, name in _SHAPE.items()}
    rates = {ours: float(_number(values, name, float, source)) for ours, name in _RATES.items()}
    try:
        return EncoderConfig(k=k, compute_dtype="float32", **shape, **rates)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def read_architecture(values: Mapping[str, Any], names: Mapping[str, Any], source: str) -> str:
    """The architecture, a key of `ARCHITECTURES`; where the config does not say it, what the tensors are those of.

    Args:
      values: what `config.json` holds.
      names: the tensors by our table's names.
      source: the config's name, for messages.

    Raises:
      InputError: an architecture that we do not know.
    """
    listed = values.get("architectures")
    if listed:
        name = listed[0] if isinstance(listed, list) else listed
        if name not in tuple(ARCHITECTURES):  # it may be anything that JSON has
            raise InputError(f"{source}: the architecture is {name!r}; expected one of {', '.join(ARCHITECTURES)}")
        return name
    if any(name.startswith("cls.predictions.") for name in names):
        return "BertForMaskedLM"
    if "classifier.weight" not in names:
        return "BertModel"
    return "BertForSequenceClassification" if "bert.pooler.dense.weight" in names else "BertForTokenClassification"


def read_model(
    values: Mapping[str, Any], encoder: EncoderConfig, architecture: str, classifier: np.ndarray | None, source: str
) -> ModelConfig:
    """The model that a config describes.

    Args:
      values: what `config.json` holds.
      encoder: what `read_encoder` made of it.
      architecture: a key of `ARCHITECTURES`.
      classifier: the tensor of that name, a row for each output, or None where it is missing.
      source: the config's name, for messages.

    Raises:
      InputError: an unknown kind of problem, or names for another number of outputs.
    """
    head = ARCHITECTURES[architecture]
    if head in ("none", "masked_lm"):
        return ModelConfig(encoder, head)
    classes = _classes(values, classifier, source)
    if architecture == "BertForSequenceClassification":
        problem = values.get("problem_type") or ("regression" if len(classes) == 1 else "single_label_classification")
        if problem not in tuple(_SEQUENCE_HEADS):
            raise InputError(f"{source}: problem_type is {problem!r}; expected one of {', '.join(_SEQUENCE_HEADS)}")
        head = _SEQUENCE_HEADS[problem]
    extra = values.get(_EXTRA) or {}
    if not isinstance(extra, dict) or set(extra) - set(_OUR_JOIN):
        raise InputError(f"{source}: {_EXTRA} is {extra!r}; expected an object with {' and '.join(_OUR_JOIN)}")
    if extra.get("join", "mean") != "mean" or type(extra.get("pieces", 1)) is not int:
        raise InputError(f"{source}: {_EXTRA} is {extra!r}; expected join 'mean' and a number of pieces")
    try:
        return ModelConfig(encoder, head, classes, pieces=extra.get("pieces", 1))
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def _classes(values: Mapping[str, Any], classifier: np.ndarray | None, source: str) -> tuple[str, ...]:
    """Names of the outputs. Old configs may name two of them where `num_labels` says the right number."""
    labels = values.get("id2label")
    named = len(labels) if isinstance(labels, dict) else 2  # transformers leaves out what is its default
    outputs = named if classifier is None else len(np.atleast_1d(classifier))
    if outputs == named and labels:
        if set(labels) != {str(i) for i in range(outputs)}:
            raise InputError(
                f"{source}: id2label has the keys {', '.join(map(str, labels))}; expected 0 to {outputs - 1}"
            )
        return tuple(str(labels[str(i)]) for i in range(outputs))
    told = values.get("num_labels", named)
    if told != outputs:
        raise InputError(f"{source}: names {told} labels; expected {outputs}, the rows of the tensor classifier.weight")
    return tuple(f"LABEL_{i}" for i in range(outputs))


def _number(values: Mapping[str, Any], name: str, kind: type, source: str) -> Any:
    if name not in values:
        raise InputError(f"{source}: has no {name}; expected the config of a BERT")
    value = values[name]
    if type(value) is not int and type(value) is not kind:
        raise InputError(f"{source}: {name} is {value!r}; expected a number")
    return value


def write(config: ModelConfig, source: str) -> dict[str, Any]:
    """The values of `config.json` for a model.

    Args:
      config: the model's.
      source: what is being written, for messages.

    Raises:
      InputError: a model that transformers' BERT cannot compute: rotary positions, pieces side by side, or the mean
        over k-mers.
    """
    encoder = config.encoder
    if encoder.positions != "learned":
        raise InputError(
            f"{source}: a model with {encoder.positions} positions is no BERT and has no Hugging Face form"
        )
    if config.join == "concatenate" and config.pieces > 1:
        raise InputError(
            f"{source}: a classifier that reads {config.pieces} pieces side by side has no Hugging Face form; expected "
            "join 'mean'"
        )
    if config.pool != "cls":
        raise InputError(
            f"{source}: a classifier that reads the {config.pool} over k-mers has no Hugging Face form; expected pool "
            "'cls'"
        )
    architecture = _architecture(config.head)
    values = {
        "architectures": [architecture],
        "model_type": "bert",
        "vocab_size": encoder.vocabulary_size,
        **{name: getattr(encoder, ours) for ours, name in (_SHAPE | _RATES).items()},
        **_ONLY,
        "pad_token_id": 0,
        "tie_word_embeddings": encoder.tied_decoder,
    }
    if config.classes:
        values["id2label"] = {str(i): name for i, name in enumerate(config.classes)}
        values["label2id"] = {name: i for i, name in enumerate(config.classes)}
    if architecture == "BertForSequenceClassification":
        values["problem_type"] = next(theirs for theirs, ours in _SEQUENCE_HEADS.items() if ours == config.head)
    if config.pieces > 1:
        values[_EXTRA] = {name: getattr(config, name) for name in _OUR_JOIN}
    return values


def _architecture(head: str) -> str:
    return next((name for name, ours in ARCHITECTURES.items() if ours == head), "BertForSequenceClassification")
