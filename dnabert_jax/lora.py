"""Low-rank adaptation (LoRA, Hu et al. 2021) as a transformation of the params pytree; the model knows nothing of it.

Beside the params of a model stands an entry `lora` with a pair of matrices, A and B, for each kernel that is adapted;
`merge` adds alpha / rank · A·B to the kernels and takes the entry away. B starts at 0, so that a run starts from the
model it adapts. What is trained is the optimiser's matter (`optim.adamw(..., trained=("lora", ...))`).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnabert_jax.config import LoraConfig

Params = Any
"""A pytree of float32 arrays, the params of a model under the names of its parts."""

Init = Callable[[jax.Array], Params]
"""Random key → params whose leaves carry logical axis names."""

ADAPTERS = "lora"
"""The entry of the params. It is the tree of `encoder/layers` with `a` and `b` in the place of `kernel` and `bias`."""

_PRODUCTS = {
    "attention": {"qkv": "lhjr,ljrnd->lhjnd", "output": "lndr,lrh->lndh"},
    "mlp": {"up": "lhr,lrm->lhm", "down": "lmr,lrh->lmh"},
}
"""A·B for each kernel. Axes: layers, hidden, j of queries, keys and values, n heads, d of a head, mlp, rank."""

_AXES = {"l": "layers", "h": "hidden", "n": "heads", "m": "mlp", "j": None, "d": None, "r": None}
"""Logical axes of these, as the kernels have them."""

_KEY = 0x10A
"""Folded into the key of the params, so that the adapters draw what no param draws."""


def with_adapters(init: Init, config: LoraConfig) -> Init:
    """An `init` whose params have adapters too, and are otherwise what they are without.

    Args:
      init: random key → params with `encoder`, boxed with their logical axes.
      config: with rank 0, `init` comes back as it is.

    Returns:
      Random key → params with `lora` added: float32, boxed likewise. A of [inputs, rank] is drawn from a normal
      distribution of variance 1 / inputs; B of [rank, outputs] is 0. Queries, keys and values have a pair each.
    """
    if not config.rank:
        return init

    def adapted(key: jax.Array) -> Params:
        params = init(key)
        layers = params["encoder"]["layers"]
        adapters: dict[str, dict[str, Any]] = {}
        for number, (block, name, product) in enumerate(_adapted(config)):
            kernel = nn.unbox(layers[block][name]["kernel"])
            own = jax.random.fold_in(jax.random.fold_in(key, _KEY), number)
            adapters.setdefault(block, {})[name] = _pair(own, product, kernel.shape, config.rank)
        return {**params, ADAPTERS: adapters}

    return adapted


def merge(params: Params, config: LoraConfig) -> Params:
    """The params of the adapted model, without adapters: every adapted kernel W becomes W + alpha / rank · A·B.

    Pure and differentiable. The sum is of float32 products, whatever the device's default.

    Args:
      params: with `lora`, unboxed; with rank 0 they come back as they are.
      config: that of `with_adapters`.
    """
    if not config.rank:
        return params
    layers = {**params["encoder"]["layers"]}
    for block, name, product in _adapted(config):
        pair, dense = params[ADAPTERS][block][name], layers[block][name]
        change = jnp.einsum(product, pair["a"], pair["b"], precision=jax.lax.Precision.HIGHEST)
        kernel = dense["kernel"] + config.alpha / config.rank * change
        layers[block] = {**layers[block], name: {**dense, "kernel": kernel}}
    rest = {name: tree for name, tree in params.items() if name != ADAPTERS}
    return {**rest, "encoder": {**params["encoder"], "layers": layers}}


def _adapted(config: LoraConfig) -> Iterator[tuple[str, str, str]]:
    """Block, name and product of each kernel that is adapted."""
    for block, wanted in (("attention", config.attention), ("mlp", config.mlp)):
        if wanted:
            for name, product in _PRODUCTS[block].items():
                yield block, name, product


def _pair(key: jax.Array, product: str, shape: tuple[int, ...], rank: int) -> dict[str, nn.LogicallyPartitioned]:
    """The initial matrices of a kernel of this shape, boxed."""
    factors, kernel = product.split("->")
    a, b = factors.split(",")
    size = {**dict(zip(kernel, shape, strict=True)), "r": rank}
    inputs = math.prod(size[axis] for axis in a if axis not in b)

    def boxed(axes: str, value: Callable[[tuple[int, ...]], jax.Array]) -> nn.LogicallyPartitioned:
        names = tuple(_AXES[axis] for axis in axes)
        return nn.LogicallyPartitioned(value(tuple(size[axis] for axis in axes)), names)

    return {
        "a": boxed(a, lambda shape: jax.random.normal(key, shape, jnp.float32) * inputs**-0.5),
        "b": boxed(b, lambda shape: jnp.zeros(shape, jnp.float32)),
    }
