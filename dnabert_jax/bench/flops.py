"""Model FLOPs: the arithmetic that the model's mathematics asks for, by formula and not by what a program does.

What is counted. A matrix product of [m, k] with [k, n] is m·k·n multiplications and as many additions, 2·m·k·n FLOPs.
Only matrix products are counted. With h = `hidden`, f = `intermediate`, V = `vocabulary_size` and N = `layers`:

    forward, encoder, a segment of n tokens ([CLS] and [SEP] are tokens):
        N · (  6·n·h²      queries, keys and values: [n, h] × [h, 3h]
             + 2·n²·h      scores: over all heads [n, h] × [h, n]
             + 2·n²·h      the weighted sum of the values: [n, n] × [n, h]
             + 2·n·h²      attention output: [n, h] × [h, h]
             + 4·n·h·f )   feed-forward: [n, h] × [h, f] and [n, f] × [f, h]
        = N · ( n·(8·h² + 4·h·f) + 4·n²·h )
    forward, masked-LM head, s masked tokens:
        2·s·h² + 2·s·h·V   transform and decoder
    forward, classifier head, r sequences and c classes:
        2·r·h² + 2·r·h·c   pooler and classifier
    training step:
        3 × forward        each product [m, k] × [k, n] has two in the backward pass, for the gradients of its factors

What is not counted, and why. Embeddings are looked up, which is no arithmetic. Biases, LayerNorm, GELU, softmax,
dropout, rotary positions, masking, the loss and the optimiser are element by element: a fraction h⁻¹ or n⁻¹ of the
products beside which they stand, done by other units of the chip, and their number depends on how they are written.
Padding, slots of the head that hold no masked token, and attention across the borders of packed segments are work that
a program may do and nobody asked for: n is the length of one segment, not of the row that it lies in, and s is the
number of tokens that the loss reads. What a backward pass computes again (`remat`) is not asked for either. A program
that does less of all this does the same FLOPs in less time, and its utilisation rises, as it should.

Hence utilisation = FLOPs by this formula / time / rate of the chip is what PaLM's authors call model FLOPs utilisation
(Chowdhery et al. 2022, appendix B), with padding left out besides.
"""

import numpy as np

from dnabert_jax.config import EncoderConfig


def encoder(config: EncoderConfig, lengths: np.ndarray) -> float:
    """Forward FLOPs of the encoder.

    Args:
      config: of the encoder.
      lengths: int[segments], tokens of each segment, [CLS] and [SEP] included; zeros count nothing. Several segments
        packed into a row are several segments here.
    """
    n = np.asarray(lengths, np.float64)
    h, f = config.hidden, config.intermediate
    return config.layers * float(np.sum(n) * (8 * h * h + 4 * h * f) + np.sum(n * n) * 4 * h)


def masked_lm_head(config: EncoderConfig, scored: int) -> float:
    """Forward FLOPs of the masked-LM head for this many masked tokens, all rows together."""
    h = config.hidden
    return 2.0 * scored * h * (h + config.vocabulary_size)


def classifier_head(config: EncoderConfig, rows: int, classes: int) -> float:
    """Forward FLOPs of the pooler and the classifier for this many sequences."""
    h = config.hidden
    return 2.0 * rows * h * (h + classes)


def training(forward: float) -> float:
    """FLOPs of forward and backward pass from those of the forward pass."""
    return 3.0 * forward
