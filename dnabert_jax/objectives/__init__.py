"""Losses and the figures that go with them, as sums over a batch.

Sums add up over micro-batches, devices and reports; whoever reports divides at the end, so that everything that is
predicted in a global batch weighs the same wherever it was computed.
"""

import jax

Sums = dict[str, jax.Array]
"""float32[] each, by name."""
