"""The model against Hugging Face's BERT in PyTorch: the same params give the same logits, loss and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax.config import ModelConfig
from dnabert_jax.model.heads import MaskedLanguageModel, SequenceClassifier
from tests import tiny
from tests.model.test_encoder import jitter

torch = pytest.importorskip("torch", reason="needs PyTorch, which is in the interop extra")
transformers = pytest.importorskip("transformers", reason="needs transformers, which is in the interop extra")

CONFIG = tiny.without_dropout()
COUNTS = [[60], [33], [7]]


def bert_config(**more):
    return transformers.BertConfig(
        vocab_size=CONFIG.vocabulary_size,
        hidden_size=CONFIG.hidden,
        num_hidden_layers=CONFIG.layers,
        num_attention_heads=CONFIG.heads,
        intermediate_size=CONFIG.intermediate,
        max_position_embeddings=CONFIG.max_length,
        type_vocab_size=CONFIG.type_vocabulary,
        layer_norm_eps=CONFIG.layer_norm_epsilon,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **more,
    )


def their_names(params) -> dict[str, np.ndarray]:
    """Our pytree under the names and in the layouts of a BERT state dict."""
    hidden = CONFIG.hidden
    found = {}

    def dense(name, kernel, bias):
        found[f"{name}.weight"], found[f"{name}.bias"] = kernel.reshape(-1, bias.size).T, bias.reshape(-1)

    def norm(name, tree):
        found[f"{name}.weight"], found[f"{name}.bias"] = tree["scale"], tree["bias"]

    embeddings = params["encoder"]["embeddings"]
    for ours, theirs in (("token", "word"), ("position", "position"), ("type", "token_type")):
        found[f"bert.embeddings.{theirs}_embeddings.weight"] = embeddings[ours]
    norm("bert.embeddings.LayerNorm", embeddings["layer_norm"])
    for i in range(CONFIG.layers):
        layer = jax.tree.map(lambda x, i=i: x[i], params["encoder"]["layers"])
        at = f"bert.encoder.layer.{i}"
        qkv = layer["attention"]["qkv"]
        for j, name in enumerate(("query", "key", "value")):
            dense(f"{at}.attention.self.{name}", qkv["kernel"][:, j].reshape(hidden, hidden), qkv["bias"][j])
        output = layer["attention"]["output"]
        dense(f"{at}.attention.output.dense", output["kernel"].reshape(hidden, hidden), output["bias"])
        norm(f"{at}.attention.output.LayerNorm", layer["attention_layer_norm"])
        dense(f"{at}.intermediate.dense", **layer["mlp"]["up"])
        dense(f"{at}.output.dense", **layer["mlp"]["down"])
        norm(f"{at}.output.LayerNorm", layer["mlp_layer_norm"])
    if "mlm_head" in params:
        head = params["mlm_head"]
        dense("cls.predictions.transform.dense", **head["transform"])
        norm("cls.predictions.transform.LayerNorm", head["layer_norm"])
        found["cls.predictions.bias"] = head["bias"]
    if "pooler" in params:
        dense("bert.pooler.dense", **params["pooler"])
        dense("classifier", **params["classifier"])
    return {name: np.asarray(value) for name, value in found.items()}


def load(model, params):
    state = {name: torch.from_numpy(np.array(value)) for name, value in their_names(params).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    derived = ("position_ids", "token_type_ids", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
    assert not [name for name in missing if not name.endswith(derived)]
    return model.eval()


def rows():
    batch = tiny.rows(COUNTS, 64)
    ours = tuple(jnp.asarray(batch[name]) for name in ("tokens", "segment_ids", "positions"))
    theirs = {
        "input_ids": torch.from_numpy(batch["tokens"]).long(),
        "attention_mask": torch.from_numpy(batch["segment_ids"]).long(),
    }
    return ours, theirs


def compare_gradients(gradients, model):
    theirs = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for name, ours in their_names(gradients).items():
        expected = theirs[name].numpy()
        scale = np.linalg.norm(expected)
        if name.endswith("key.bias"):  # softmax does not see it: both are rounding errors
            assert np.linalg.norm(ours) < 1e-4
            continue
        assert np.linalg.norm(ours - expected) <= 1e-3 * scale, name


def test_masked_lm_logits_loss_and_gradients():
    inputs, batch = rows()
    model = MaskedLanguageModel(CONFIG)
    slots = jnp.broadcast_to(jnp.arange(64), (3, 64))
    params = jitter(model.init(jax.random.key(0), *inputs, slots, deterministic=True)["params"])
    labels = np.where(np.random.default_rng(0).random((3, 64)) < 0.3, np.asarray(inputs[0]), -100)
    labels[np.asarray(inputs[1]) == 0] = -100

    def loss(params):
        logits = model.apply({"params": params}, *inputs, slots, deterministic=True)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(labels, 0)[..., None], -1)[..., 0]
        return -jnp.sum(chosen * (labels >= 0)) / np.sum(labels >= 0), logits

    (value, logits), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    theirs = load(transformers.BertForMaskedLM(bert_config()), params)
    out = theirs(**batch, labels=torch.from_numpy(labels).long())
    out.loss.backward()
    used = np.asarray(inputs[1]) > 0
    np.testing.assert_allclose(np.asarray(logits)[used], out.logits.detach().numpy()[used], atol=1e-3, rtol=1e-3)
    assert float(value) == pytest.approx(out.loss.item(), abs=1e-4)
    compare_gradients(gradients, theirs)


def test_classifier_logits_and_gradients():
    inputs, batch = rows()
    model = SequenceClassifier(ModelConfig(CONFIG, "single_label", ("a", "b", "c")))
    params = jitter(model.init(jax.random.key(0), *inputs, deterministic=True)["params"])
    labels = np.array([0, 2, 1])

    def loss(params):
        logits = model.apply({"params": params}, *inputs, deterministic=True)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(3), labels]), logits

    (_, logits), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    theirs = load(transformers.BertForSequenceClassification(bert_config(num_labels=3)), params)
    out = theirs(**batch, labels=torch.from_numpy(labels))
    out.loss.backward()
    np.testing.assert_allclose(logits, out.logits.detach().numpy(), atol=1e-4)
    compare_gradients(gradients, theirs)
