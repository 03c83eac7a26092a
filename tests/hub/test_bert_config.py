"""config.json: what is carried both ways, what old ones look like, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest

from dnabert_jax.config import EncoderConfig, ModelConfig
from dnabert_jax.errors import InputError
from dnabert_jax.hub import bert_config
from tests.hub import models

FILE = "folder/config.json"
SHAPE = {
    "vocab_size": 4101,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}
OLD = {
    **SHAPE,
    "attention_probs_dropout_prob": 0.1,
    "finetuning_task": "dnaprom",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "initializer_range": 0.02,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "layer_norm_eps": 1e-12,
    "num_labels": 2,
    "num_rnn_layer": 1,
    "output_attentions": False,
    "pruned_heads": {},
    "rnn": "lstm",
    "rnn_hidden": 768,
    "split": 10,
    "torchscript": False,
    "type_vocab_size": 2,
    "use_bfloat16": False,
}
"""The keys that configs of DNABERT have, from a time when there was neither `architectures` nor `model_type`."""


def classifier(outputs: int) -> np.ndarray:
    return np.zeros((outputs, 768), np.float32)


@pytest.mark.parametrize("head", models.HEADS)
def test_there_and_back_is_the_same_model(head):
    encoder = dataclasses.replace(models.config(head).encoder, hidden_dropout=0.25, layer_norm_epsilon=1e-7)
    config = ModelConfig(encoder, head, models.HEADS[head], pieces=3)
    values = json.loads(json.dumps(bert_config.write(config, FILE)))
    assert values["architectures"] == [models.ARCHITECTURES[head]]
    rows = np.zeros((len(config.classes), 32), np.float32)
    found = bert_config.read_model(
        values, bert_config.read_encoder(values, FILE), values["architectures"][0], rows, FILE
    )
    assert found == (config if config.classes else dataclasses.replace(config, pieces=1))


def test_an_old_config_is_dnaberts():
    assert bert_config.read_encoder(OLD, FILE) == EncoderConfig(k=6, compute_dtype="float32")


def test_what_is_not_said_has_berts_defaults():
    assert bert_config.read_encoder(SHAPE, FILE) == EncoderConfig(k=6, compute_dtype="float32")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["bert.pooler.dense.weight"], "BertModel"),
        (["bert.pooler.dense.weight", "cls.predictions.bias"], "BertForMaskedLM"),
        (["bert.pooler.dense.weight", "classifier.weight"], "BertForSequenceClassification"),
        (["classifier.weight"], "BertForTokenClassification"),
    ],
)
def test_without_architectures_the_tensors_decide(names, expected):
    assert bert_config.read_architecture(OLD, dict.fromkeys(names), FILE) == expected


@pytest.mark.parametrize(
    ("values", "outputs", "head", "classes"),
    [
        ({}, 2, "single_label", ("LABEL_0", "LABEL_1")),
        ({"id2label": {"0": "no", "1": "yes"}}, 2, "single_label", ("no", "yes")),
        ({"id2label": {"1": "yes", "0": "no"}}, 2, "single_label", ("no", "yes")),
        ({"num_labels": 3, "id2label": OLD["id2label"]}, 3, "single_label", ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"num_labels": 1}, 1, "regression", ("LABEL_0",)),
        ({"id2label": {"0": "a"}, "problem_type": "multi_label_classification"}, 1, "multi_label", ("a",)),
        ({"problem_type": "regression"}, 2, "regression", ("LABEL_0", "LABEL_1")),
        ({"problem_type": None}, 2, "single_label", ("LABEL_0", "LABEL_1")),
    ],
)
def test_labels(values, outputs, head, classes):
    found = bert_config.read_model(values, EncoderConfig(), "BertForSequenceClassification", classifier(outputs), FILE)
    assert (found.head, found.classes) == (head, classes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "roberta"}, "not BERT's"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'; expected 'gelu'"),
        ({"position_embedding_type": "relative_key"}, "expected 'absolute'"),
        ({"is_decoder": True}, "is_decoder"),
        ({"pruned_heads": {"1": [2]}}, "pruned_heads"),
        ({"vocab_size": 4100}, "4,100 tokens; expected 4^k + 5"),
        ({"vocab_size": "4101"}, "vocab_size is '4101'; expected a number"),
        ({"vocab_size": True}, "vocab_size is True; expected a number"),
        ({"hidden_size": 770}, "hidden is 770; expected a multiple of heads"),
        ({"num_hidden_layers": 0}, "layers is 0"),
        ({"layer_norm_eps": None}, "layer_norm_eps is None"),
    ],
)
def test_what_is_no_dnabert_is_refused(change, words):
    with pytest.raises(InputError) as caught:
        bert_config.read_encoder(OLD | change, FILE)
    assert str(caught.value).startswith(f"{FILE}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_size_is_named():
    with pytest.raises(InputError, match=r"config\.json: has no num_hidden_layers"):
        bert_config.read_encoder({name: value for name, value in OLD.items() if name != "num_hidden_layers"}, FILE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_labels": 3}, "names 3 labels; expected 4, the rows"),
        ({"id2label": {str(i): "x" for i in range(1, 5)}}, "id2label has the keys 1, 2, 3, 4; expected 0 to 3"),
        ({"num_labels": 4, "problem_type": "ranking"}, "problem_type is 'ranking'"),
        ({"num_labels": 4, "dnabert_jax": {"join": "concatenate", "pieces": 2}}, "expected join 'mean'"),
        ({"num_labels": 4, "dnabert_jax": {"pieces": 0}}, "pieces is 0"),
        ({"num_labels": 4, "dnabert_jax": ["mean"]}, "expected an object"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(change, words):
    with pytest.raises(InputError) as caught:
        bert_config.read_model(OLD | change, EncoderConfig(), "BertForSequenceClassification", classifier(4), FILE)
    assert words in str(caught.value)


def test_other_architectures_are_refused():
    with pytest.raises(InputError, match="'BertForPreTraining'; expected one of BertModel, BertForMaskedLM"):
        bert_config.read_architecture({"architectures": ["BertForPreTraining"]}, {}, FILE)


def test_what_bert_cannot_compute_is_not_written():
    rotary = dataclasses.replace(EncoderConfig(), positions="rotary")
    with pytest.raises(InputError, match=r"rotary positions .* no Hugging Face form"):
        bert_config.write(ModelConfig(rotary, "masked_lm"), "out")
    with pytest.raises(InputError, match="3 pieces side by side has no Hugging Face form"):
        bert_config.write(ModelConfig(EncoderConfig(), "single_label", ("a", "b"), "concatenate", 3), "out")
    with pytest.raises(InputError, match=r"reads the mean over k-mers .*; expected pool 'cls'$"):
        bert_config.write(ModelConfig(EncoderConfig(), "single_label", ("a", "b"), pool="mean"), "out")
