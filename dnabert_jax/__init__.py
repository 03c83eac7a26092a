"""DNABERT on JAX: pretrain on whole genomes, fine-tune and predict with the same parameters.

    import dnabert_jax as dnabert

    model = dnabert.load("zhihan1996/DNA_bert_6")  # or a workdir, or a folder
    vectors = model.embed(["ACGTTGCA...", "GGCATCAA..."])

`load` gives a `Model`; `apply` is the pure function underneath. Each of them is imported when it is used, so that the
parts that need no accelerator, such as `dnabert_jax.data`, start without JAX.
"""

import importlib
from typing import Any

from dnabert_jax.errors import InputError

__all__ = ["InputError", "Model", "apply", "load"]

_PLACES = {"Model": "dnabert_jax.loaded", "apply": "dnabert_jax.model.apply", "load": "dnabert_jax.loaded"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
