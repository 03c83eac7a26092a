"""A head of one's own, trained with Optax on any model: is the middle of these 120 bases in an exon?

    python examples/custom_head.py MODEL

MODEL is what `dnabert.load` takes, such as `demo/pretrained` after `make demo`. The head weighs the hidden states of
the tokens by attention to a learned query, then maps their weighted sum to one logit. Encoder and head are trained
together, as `apply` is a pure function of params. The sequences are exons and random places of the embedded genome.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dnabert_jax as dnabert
from dnabert_jax import embedded
from dnabert_jax.data import annotation, fasta, loader


def examples(length: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Bases, uint8[n, length], and whether they are of an exon, float32[n], shuffled."""
    with fasta.IndexedFasta(embedded.FASTA) as genome:
        bases = genome.fetch("20", 0, genome.length("20"))
    exons, random = annotation.exons(embedded.GTF), np.random.default_rng(0)
    middles = np.concatenate([(exons.start + exons.end) // 2, random.integers(length, len(bases) - length, len(exons))])
    order = random.permutation(len(middles))
    windows = np.stack([bases[middle - length // 2 : middle + length // 2] for middle in middles[order]])
    return windows, (order < len(exons)).astype(np.float32)


def train(model: "dnabert.Model", steps: int = 200, batch: int = 32, held_out: int = 320) -> float:
    """Returns the share of held-out sequences that the trained head tells right."""
    windows, labels = examples()
    encoder = model.config.encoder
    rows = loader.sequence_batch(windows, k=encoder.k, length=windows.shape[1] - encoder.k + 3)
    head = {"query": jnp.zeros(encoder.hidden), "kernel": jnp.zeros(encoder.hidden), "bias": jnp.zeros(())}
    params = {"model": model.params, "head": head}
    optimizer = optax.adamw(optax.cosine_decay_schedule(1e-3, steps))

    def logits(params, rows):
        hidden = model.apply(params["model"], rows).hidden.astype(jnp.float32)
        weights = jax.nn.softmax(hidden @ params["head"]["query"])
        return jnp.einsum("bl,blh,h->b", weights, hidden, params["head"]["kernel"]) + params["head"]["bias"]

    def loss(params, rows, labels):
        return optax.sigmoid_binary_cross_entropy(logits(params, rows), labels).mean()

    @jax.jit
    def step(params, state, rows, labels):
        updates, state = optimizer.update(jax.grad(loss)(params, rows, labels), state, params)
        return optax.apply_updates(params, updates), state

    state, random = optimizer.init(params), np.random.default_rng(1)
    for _ in range(steps):
        chosen = random.integers(held_out, len(labels), batch)
        params, state = step(params, state, {name: array[chosen] for name, array in rows.items()}, labels[chosen])
    scores = jax.jit(logits)(params, {name: array[:held_out] for name, array in rows.items()})
    return float(np.mean((np.asarray(scores) > 0) == (labels[:held_out] > 0)))


if __name__ == "__main__":
    print(f"accuracy on held-out sequences: {train(dnabert.load(sys.argv[1])):.3f}")
