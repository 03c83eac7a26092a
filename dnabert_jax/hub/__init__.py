"""Models in Hugging Face's form, from and to a folder or the hub: `read`, `write`, and `is_model`."""

from dnabert_jax.hub.checkpoint import FILES, caveats, read, write
from dnabert_jax.hub.files import is_model

__all__ = ["FILES", "caveats", "is_model", "read", "write"]
