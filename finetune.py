"""Fine-tunes: `python finetune.py RECIPE --workdir DIR --init DIR --data.train FILE ... [--field.sub value]`."""

from dnabert_jax import cli

if __name__ == "__main__":
    cli.script("finetune")
