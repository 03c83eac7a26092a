"""DNABERT on JAX: pretrain on whole genomes, fine-tune and predict with the same parameters."""
