"""The loss of pretraining, cross-entropy of the masked tokens, and what of it compares across k: bits per base."""

import jax
import jax.numpy as jnp

from dnabert_jax import kmers
from dnabert_jax.masking import MaskedBatch
from dnabert_jax.objectives import Sums


def loss(logits: jax.Array, batch: MaskedBatch, k: int) -> tuple[jax.Array, Sums]:
    """Cross-entropy of the masked tokens.

    Args:
      logits: float32[batch, slots, vocabulary], for the places in `batch.slots`.
      batch: what `masking.mask` made.
      k: k-mer length.

    Returns:
      The loss summed over masked tokens in nats, float32[], and the sums `loss`, `correct` (masked tokens whose most
      likely token is right), `masked`, `unplaced`, `hidden_bases` and `hidden_base_bits`.
    """
    targets = jnp.take_along_axis(batch.original, batch.slots, axis=-1)
    log_normaliser = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    total = jnp.sum((log_normaliser - chosen) * batch.weights)
    fixed = jax.lax.stop_gradient(logits)
    correct = jnp.sum((jnp.argmax(fixed, axis=-1) == targets) * batch.weights)
    bits, bases = hidden_base_bits(fixed, batch, k)
    sums = {
        "loss": total,
        "correct": correct,
        "masked": jnp.sum(batch.weights),
        "unplaced": jnp.sum(batch.unplaced).astype(jnp.float32),
        "hidden_base_bits": bits,
        "hidden_bases": bases,
    }
    return total, sums


def hidden_base_bits(logits: jax.Array, batch: MaskedBatch, k: int) -> tuple[jax.Array, jax.Array]:
    """The cost in bits of the hidden bases, which compares across k.

    A base is hidden when every k-mer that covers it is masked. Its probability is the mean, over those k-mers, of the
    token's softmax marginalised onto the base. A token without a slot leaves its bases out.

    Args:
      logits: float32[batch, slots, vocabulary].
      batch: what `masking.mask` made.
      k: k-mer length.

    Returns:
      -log2 of the true bases' probabilities summed over hidden bases, and the number of hidden bases; both float32[].
    """
    length = batch.original.shape[1]
    at_slots = true_base_probabilities(logits, jnp.take_along_axis(batch.original, batch.slots, axis=-1), k)
    place = jnp.where(batch.weights > 0, batch.slots, length)  # spare slots fall off the end of the row
    # Row by row, so that devices need not tell each other what their rows ask for.
    asked = jax.vmap(lambda at: jnp.zeros(length, bool).at[at].set(True, mode="drop"))(place)
    probability = jax.vmap(lambda at, p: jnp.zeros((length, k)).at[at].set(p, mode="drop"))(place, at_slots)

    is_kmer = batch.original == kmers.UNK
    is_kmer |= batch.original >= kmers.FIRST_KMER
    continues = is_kmer[:, 1:] & is_kmer[:, :-1] & (batch.segment_ids[:, 1:] == batch.segment_ids[:, :-1])
    continues = jnp.pad(continues, ((0, 0), (1, 0)))  # whether the k-mer before is of the same segment
    last = is_kmer & ~jnp.pad(continues[:, 1:], ((0, 0), (0, 1)))

    # Base i of the k-mer at p is base i + 1 of the k-mer at p - 1. Walking the k-mers that cover it from the first to
    # the last adds up their probabilities; the last of them, i = 0 or the segment's last k-mer, speaks for the base.
    total = probability
    hidden = jnp.broadcast_to(asked[..., None], probability.shape)
    covering = jnp.where(is_kmer[..., None], jnp.ones_like(probability), 0.0)
    shifted = (total, hidden, covering)
    for _ in range(k - 1):
        shifted = tuple(_from_kmer_before(x, continues, neutral) for x, neutral in zip(shifted, (0.0, True, 0.0)))
        total, hidden, covering = total + shifted[0], hidden & shifted[1], covering + shifted[2]

    speaks = (jnp.arange(k) == 0) | last[..., None]
    counted = hidden & speaks & is_kmer[..., None]
    mean = jnp.where(counted, total / jnp.maximum(covering, 1), 1.0)
    bits = -jnp.log2(jnp.maximum(mean, jnp.finfo(jnp.float32).tiny))
    return jnp.sum(bits), jnp.sum(counted).astype(jnp.float32)


def _from_kmer_before(x: jax.Array, continues: jax.Array, neutral) -> jax.Array:
    """x[b, p - 1, i + 1] at [b, p, i], and `neutral` where that k-mer is none or is not of the same segment."""
    neutral = jnp.asarray(neutral, x.dtype)
    moved = jnp.pad(x[:, :-1, 1:], ((0, 0), (1, 0), (0, 1)), constant_values=neutral)
    return jnp.where(continues[..., None], moved, neutral)


def true_base_probabilities(logits: jax.Array, targets: jax.Array, k: int) -> jax.Array:
    """Each token's softmax, marginalised onto each of the k bases of its target.

    Args:
      logits: float32[..., vocabulary].
      targets: int32[...], the true tokens; a token that is no k-mer reads as the first one.
      k: k-mer length.

    Returns:
      float32[..., k]: the probability of all k-mers that have the target's base at that place, among all k-mers: what
      the softmax gives to special tokens says nothing about bases, and without it uniform guessing costs 2 bits.
    """
    probabilities = jax.nn.softmax(logits[..., kmers.FIRST_KMER :], axis=-1)
    first = k // 2
    halves = probabilities.reshape(*probabilities.shape[:-1], 4**first, 4 ** (k - first))
    codes = jnp.maximum(targets - kmers.FIRST_KMER, 0)
    out = []
    for marginal, bases, code in (
        (halves.sum(-1), first, codes >> (2 * (k - first))),
        (halves.sum(-2), k - first, codes & (4 ** (k - first) - 1)),
    ):
        letters = jnp.asarray(kmers.kmer_bases(bases)) if bases else jnp.zeros((1, 0), jnp.uint8)
        same = letters == letters[code][..., None, :]
        out.append(jnp.sum(jnp.where(same, marginal[..., None], 0.0), axis=-2))
    return jnp.concatenate(out, axis=-1)


def figures(sums: dict[str, float]) -> dict[str, float]:
    """Sums to the figures that are reported: `loss` in nats per masked token, `masked_accuracy`, `bits_per_base`."""
    masked, bases = max(sums["masked"], 1.0), sums["hidden_bases"]
    figures = {
        "loss": sums["loss"] / masked,
        "masked_accuracy": sums["correct"] / masked,
        "masked_tokens": int(sums["masked"]),
        "unplaced_tokens": int(sums["unplaced"]),
    }
    if bases:
        figures["bits_per_base"] = sums["hidden_base_bits"] / bases
    return figures
