"""The model against Hugging Face's BERT in PyTorch, which loads what `hub.write` wrote: the same ids give the same
hidden states, logits, losses and gradients, and real sequences the same ids."""

import contextlib
import dataclasses
import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnabert_jax import embedded, hub, kmers, masking
from dnabert_jax.config import EncoderConfig, MaskingConfig
from dnabert_jax.data import fasta
from dnabert_jax.hub import names
from dnabert_jax.model.encoder import Embeddings, Encoder
from dnabert_jax.model.heads import MaskedLanguageModel, fine_tuned
from dnabert_jax.objectives import masked_lm, targets
from tests import tiny
from tests.hub import models

torch = pytest.importorskip("torch", reason="needs PyTorch, which is in the interop extra")
transformers = pytest.importorskip("transformers", reason="needs transformers, which is in the interop extra")

SMALL = dataclasses.replace(tiny.without_dropout(), initializer_range=0.02)
DNABERT = EncoderConfig(k=6, hidden_dropout=0.0, attention_dropout=0.0, compute_dtype="float32")
AT_FULL_SIZE = {"id": "dnabert", "marks": pytest.mark.slow}
ENCODERS = [
    *(pytest.param(dataclasses.replace(SMALL, k=k), id=f"k{k}") for k in (3, 4, 5, 6)),
    pytest.param(DNABERT, **AT_FULL_SIZE),
]
CLOSE = {"atol": 1e-4, "rtol": 0}


@contextlib.contextmanager
def warnings_of_transformers():
    """What transformers warns of in the block, by its own logger."""
    said = []

    class Handler(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())

    handler = Handler(logging.WARNING)
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)


def load(folder, architecture, config, params, **options):
    """A model as transformers loads it from what we wrote, which it has to do without a word."""
    hub.write(folder, config, params)
    kind = getattr(transformers, architecture)
    with warnings_of_transformers() as said:
        model, report = kind.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(report.values()), report
    assert not said
    (folder / "model.safetensors").unlink()  # DNABERT's would stay on disk for the next test runs
    return model.eval()


def rows(encoder):
    """Three padded rows, as our model and as theirs take them, and which places are used."""
    batch = tiny.rows([[60], [33], [7]], 64, k=encoder.k)
    ours = {name: jnp.asarray(value) for name, value in batch.items()}
    theirs = {
        "input_ids": torch.from_numpy(batch["tokens"]).long(),
        "attention_mask": torch.from_numpy(batch["segment_ids"]).long(),
    }
    return ours, theirs, batch["segment_ids"] > 0


def inputs(batch):
    return batch["tokens"], batch["segment_ids"], batch["positions"]


def random_params(config, **options):
    deviation = 0.1 if config.encoder.hidden < 100 else config.encoder.initializer_range
    return models.random_params(config, deviation=deviation, **options)


def assert_gradients_agree(config, ours, theirs):
    found = names.to_theirs(jax.device_get(ours), names.table(config, pooler=False))
    expected = {name: p.grad.numpy() for name, p in theirs.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    whole = np.sqrt(sum(np.sum(gradient**2) for gradient in expected.values()))
    for name, gradient in found.items():
        if name.endswith("key.bias"):  # softmax does not see it: both are nothing but rounding errors
            assert np.linalg.norm(gradient) < 1e-5 * whole
            assert np.linalg.norm(expected[name]) < 1e-5 * whole
            continue
        assert np.linalg.norm(gradient - expected[name]) <= 1e-3 * np.linalg.norm(expected[name]), name


@pytest.mark.parametrize("encoder", ENCODERS)
def test_hidden_states_of_every_layer_and_pooled_output(encoder, tmp_path):
    config = models.config("none", encoder)
    params = random_params(config, pooler=True)
    ours, theirs, used = rows(encoder)
    with torch.no_grad():
        out = load(tmp_path / "model", "BertModel", config, params)(**theirs, output_hidden_states=True)
    assert len(out.hidden_states) == encoder.layers + 1
    tree = params["encoder"]
    embedded_tokens = Embeddings(encoder).apply({"params": tree["embeddings"]}, ours["tokens"], ours["positions"], True)
    np.testing.assert_allclose(embedded_tokens[used], out.hidden_states[0].numpy()[used], **CLOSE)
    for depth in range(1, encoder.layers + 1):
        first = {**tree, "layers": jax.tree.map(lambda leaf, depth=depth: leaf[:depth], tree["layers"])}
        model = Encoder(dataclasses.replace(encoder, layers=depth))
        hidden = model.apply({"params": first}, *inputs(ours), deterministic=True)
        np.testing.assert_allclose(hidden[used], out.hidden_states[depth].numpy()[used], **CLOSE)
    classifier = fine_tuned(models.config("single_label", encoder))
    pooled = classifier.apply({"params": params}, *inputs(ours), deterministic=True, method="pooled")
    np.testing.assert_allclose(pooled, out.pooler_output.numpy(), **CLOSE)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_masked_lm_logits_loss_and_gradients(encoder, tmp_path):
    config = models.config("masked_lm", encoder)
    params = random_params(config)
    ours, theirs, used = rows(encoder)
    # A random token can be [PAD], whose row of the embeddings gets no gradient from the input there (padding_idx).
    masks = MaskingConfig(rate=0.4, random_share=0.0)
    mask = jax.jit(functools.partial(masking.mask, config=masks, k=encoder.k))
    masked = mask(jax.random.key(0), ours)
    assert not masked.unplaced.any()
    model = MaskedLanguageModel(encoder)

    everywhere = jnp.broadcast_to(jnp.arange(64), (3, 64))

    def loss(params):
        seen = masked.tokens, masked.segment_ids, masked.positions
        logits = model.apply({"params": params}, *seen, everywhere, deterministic=True)
        at_slots = jnp.take_along_axis(logits, masked.slots[..., None], axis=1)
        total, sums = masked_lm.loss(at_slots, masked, encoder.k)
        return total / sums["masked"], logits

    (value, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    labels = np.where(masked.masked, masked.original, -100)
    theirs = {**theirs, "input_ids": torch.from_numpy(np.array(masked.tokens)).long()}
    peer = load(tmp_path / "model", "BertForMaskedLM", config, params)
    out = peer(**theirs, labels=torch.from_numpy(labels).long())
    out.loss.backward()
    np.testing.assert_allclose(np.asarray(logits)[used], out.logits.detach().numpy()[used], **CLOSE)
    assert float(value) == pytest.approx(out.loss.item(), abs=1e-4)
    assert_gradients_agree(config, gradients, peer)


LABELS = {
    "single_label": np.array([0, 2, 1]),
    "multi_label": np.array([[1, 0], [0, 1], [1, 1]], np.float32),
    "regression": np.array([[0.5], [-1.0], [2.0]], np.float32),
}


@pytest.mark.parametrize(
    ("encoder", "head"),
    [*(pytest.param(SMALL, head, id=head) for head in LABELS), pytest.param(DNABERT, "single_label", **AT_FULL_SIZE)],
)
def test_classifier_logits_loss_and_gradients(encoder, head, tmp_path):
    config = models.config(head, encoder)
    params = random_params(config)
    ours, theirs, _ = rows(encoder)

    def loss(params):
        logits = fine_tuned(config).apply({"params": params}, *inputs(ours), deterministic=True)
        total, sums = targets.objective(head)(logits, jnp.asarray(LABELS[head]), jnp.ones(3))
        return total / sums["examples"], logits

    (value, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    peer = load(tmp_path / "model", "BertForSequenceClassification", config, params)
    out = peer(**theirs, labels=torch.from_numpy(LABELS[head]))
    out.loss.backward()
    np.testing.assert_allclose(logits, out.logits.detach().numpy(), **CLOSE)
    assert float(value) == pytest.approx(out.loss.item(), abs=1e-4)
    assert_gradients_agree(config, gradients, peer)


@pytest.mark.parametrize("encoder", [ENCODERS[0], ENCODERS[-1]])
def test_token_logits_loss_and_gradients(encoder, tmp_path):
    """Theirs are of k-mers, so they are compared before the mean over the k-mers that cover a base."""
    config = models.config("per_base", encoder)
    params = random_params(config)
    ours, theirs, used = rows(encoder)
    labels = np.where(used, np.random.default_rng(0).integers(0, 2, used.shape), -100)

    def loss(params):
        logits = fine_tuned(config).apply({"params": params}, *inputs(ours), deterministic=True, method="kmer_logits")
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.asarray(labels)[..., None] % 2, -1)[..., 0]
        return -jnp.sum(chosen * used) / used.sum(), logits

    (value, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    peer = load(tmp_path / "model", "BertForTokenClassification", config, params)
    out = peer(**theirs, labels=torch.from_numpy(labels))
    out.loss.backward()
    np.testing.assert_allclose(np.asarray(logits)[used], out.logits.detach().numpy()[used], **CLOSE)
    assert float(value) == pytest.approx(out.loss.item(), abs=1e-4)
    assert_gradients_agree(config, gradients, peer)


def test_a_bare_encoder_without_a_pooler_loads_as_one(tmp_path):
    config = models.config("none", SMALL)
    load(tmp_path / "model", "BertModel", config, models.random_params(config), add_pooling_layer=False)


@pytest.mark.parametrize("head", models.HEADS)
def test_what_transformers_saved_is_read(head, tmp_path):
    """A model of theirs, saved by them, is the one that they loaded from us."""
    config = models.config(head, SMALL)
    params = models.random_params(config, pooler=head == "none")
    load(tmp_path / "ours", models.ARCHITECTURES[head], config, params).save_pretrained(tmp_path / "theirs")
    transformers.AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    found, arrays, origin = hub.read(tmp_path / "theirs", pytest.fail)
    assert (found, origin) == (config, models.ARCHITECTURES[head])
    models.assert_same(arrays, params)


def test_a_new_classifier_of_transformers_is_read(tmp_path):
    theirs = transformers.BertForSequenceClassification(
        transformers.BertConfig(
            vocab_size=1029,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=40,
        )
    )
    theirs.save_pretrained(tmp_path / "theirs")
    said = []
    config, params, _ = hub.read(tmp_path / "theirs", said.append)
    assert config.encoder.k == 5
    assert config.classes == ("LABEL_0", "LABEL_1")
    np.testing.assert_array_equal(params["classifier"]["kernel"], theirs.classifier.weight.detach().numpy().T)
    assert len(said) == 1  # that there is no vocabulary


def tokenizers(folder):
    with warnings_of_transformers() as said:
        found = [
            transformers.AutoTokenizer.from_pretrained(folder),
            transformers.BertTokenizer.from_pretrained(folder),
            transformers.BertTokenizerFast.from_pretrained(folder),
        ]
    assert not said
    return found


def assert_same_ids(folder, config, bases):
    k = config.encoder.k
    letters = kmers.decode(bases)
    text = " ".join(letters[i : i + k] for i in range(len(letters) - k + 1))
    expected = [kmers.CLS, *kmers.tokenize(bases, k), kmers.SEP]
    for tokenizer in tokenizers(folder):
        assert tokenizer(text, truncation=False)["input_ids"] == expected
        assert tokenizer.model_max_length == config.encoder.max_length
        assert tokenizer.convert_ids_to_tokens(range(5)) == list(kmers.SPECIAL_TOKENS)
        special = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id)
        assert special == (kmers.PAD, kmers.UNK, kmers.MASK)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_their_tokenizer_gives_our_ids(k, tmp_path):
    config = models.config("masked_lm", SMALL, k=k, max_length=512)
    hub.write(tmp_path / "model", config, models.random_params(config))
    with fasta.IndexedFasta(embedded.FASTA) as genome:
        bases = genome.fetch("20", 1_000, 1_500)
    bases[100:103] = kmers.N
    assert_same_ids(tmp_path / "model", config, bases)


def test_their_tokenizer_gives_our_ids_where_a_chromosome_begins(shared_data, tmp_path):
    config = models.config("masked_lm", SMALL, k=6)
    hub.write(tmp_path / "model", config, models.random_params(config))
    (tmp_path / "chr20.fa.gz").symlink_to(shared_data / "human_chr20_grch37.fa.gz")
    with fasta.IndexedFasta(tmp_path / "chr20.fa.gz") as genome:
        bases = genome.fetch("20", 59_900, 60_300)
    assert 0 < np.sum(bases == kmers.N) < bases.size
    assert_same_ids(tmp_path / "model", config, bases)


def test_their_tokenizer_gives_our_ids_for_text_of_dnabert(shared_data, tmp_path):
    config = models.config("masked_lm", SMALL, k=6, max_length=80)
    hub.write(tmp_path / "model", config, models.random_params(config))
    lines = (shared_data / "dnabert_sample" / "prom_core_6mer_dev.tsv").read_text().splitlines()[1:51]
    texts = [line.split("\t")[0] for line in lines]
    sequences = [text[:6] + "".join(kmer[-1] for kmer in text.split()[1:]) for text in texts]
    for tokenizer in tokenizers(tmp_path / "model"):
        for ids, sequence in zip(tokenizer(texts)["input_ids"], sequences):
            assert ids == [kmers.CLS, *kmers.tokenize(kmers.encode(sequence), 6), kmers.SEP]


def test_logits_of_an_untied_decoder(tmp_path):
    config = models.config("masked_lm", dataclasses.replace(SMALL, tied_decoder=False))
    params = random_params(config)
    ours, theirs, used = rows(config.encoder)
    everywhere = jnp.broadcast_to(jnp.arange(64), (3, 64))
    model = MaskedLanguageModel(config.encoder)
    logits = model.apply({"params": params}, *inputs(ours), everywhere, deterministic=True)
    with torch.no_grad():
        out = load(tmp_path / "model", "BertForMaskedLM", config, params)(**theirs)
    np.testing.assert_allclose(np.asarray(logits)[used], out.logits.numpy()[used], **CLOSE)
