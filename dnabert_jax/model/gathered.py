"""Params on several devices: gathered whole for the product that takes them, their gradients spread again.

Where a param's hidden axis lies over the mesh, XLA may gather the param or move the activations, and chooses anew for
each product. The activations of a batch are the larger ones, so here it is told: gather the param, in the type of the
product, gather it again in the backward pass instead of keeping it, and leave of its gradient to each device what the
device holds of the param. On one device, and without a mesh, none of this is there.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

_SPREAD = ("hidden", "hidden_of_table")

Axes = tuple[str | None, ...]
"""Logical names of an array's axes, as `dnabert_jax.sharding` maps them onto the mesh."""


def on_several_devices() -> bool:
    """Whether what is traced here runs on a mesh of several devices."""
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and mesh.size > 1


def gathered(param: jax.Array, axes: Axes) -> jax.Array:
    """The param, float[...], with its hidden axis whole on every device; its gradient is spread as the param is."""
    return _gathered(param, axes) if on_several_devices() else param


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _gathered(param, axes):
    return nn.with_logical_constraint(param, _whole(axes))


def _forward(param, axes):
    return _gathered(param, axes), None


def _backward(axes, _, gradient):
    # Whole first, or XLA may move the activations after all, so that each device sums its part over all rows.
    return (nn.with_logical_constraint(nn.with_logical_constraint(gradient, _whole(axes)), axes),)


_gathered.defvjp(_forward, _backward)


def _whole(axes: Axes) -> Axes:
    return tuple(None if axis in _SPREAD else axis for axis in axes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def product(x: jax.Array, kernel: jax.Array, axes: Axes, inputs: int) -> jax.Array:
    """`jnp.tensordot(x, kernel, inputs)` in the type of x, on several devices.

    No axes are merged, for XLA cannot split a merged axis of which it would hold a part of the inner one. The kernel's
    gradient has the kernel's type from the beginning, for it is summed over devices, of which there may be many.

    Args:
      x: compute_dtype[..., *input axes].
      kernel: float32[*input axes, *output axes].
      axes: logical axes of the kernel; each output axis lies over the mesh as the kernel's, or is whole if that one is
        gathered.
      inputs: number of input axes.

    Returns:
      compute_dtype[..., *output axes].
    """
    return _product(x, kernel, axes, inputs)


def _product(x, kernel, axes, inputs):
    y = jnp.tensordot(x, nn.with_logical_constraint(kernel.astype(x.dtype), _whole(axes)), inputs)
    names = _whole(axes[inputs:])
    return nn.with_logical_constraint(y, (PartitionSpec.UNCONSTRAINED,) * (y.ndim - len(names)) + names)


def _product_forward(x, kernel, axes, inputs):
    # Not `product`, in which the policy `dots_saveable` would not see that there is a product to keep.
    return _product(x, kernel, axes, inputs), (x, kernel)


def _product_backward(axes, inputs, kept, gradient):
    x, kernel = kept
    # Otherwise XLA may see that the forward pass gathers the same, and keep it until here.
    kernel, gradient = jax.lax.optimization_barrier((kernel, gradient))
    lead = tuple(range(x.ndim - inputs))
    outputs = tuple(range(len(lead), gradient.ndim)), tuple(range(inputs, kernel.ndim))
    of_x = jnp.tensordot(gradient, nn.with_logical_constraint(kernel.astype(x.dtype), _whole(axes)), outputs)
    of_kernel = jnp.tensordot(x, gradient, (lead, lead), preferred_element_type=kernel.dtype)
    return of_x, nn.with_logical_constraint(of_kernel, axes)


product.defvjp(_product_forward, _product_backward)
