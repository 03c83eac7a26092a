"""Pretrains: `python train.py RECIPE --workdir DIR --data.path DIR [--field.sub value]`."""

from dnabert_jax import cli

if __name__ == "__main__":
    cli.script("train")
