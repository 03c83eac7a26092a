"""`python -m dnabert_jax` is the `dnabert` command."""

from dnabert_jax.cli import main

main()
