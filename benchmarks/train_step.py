"""A pretraining step of BERT-base: ours against Hugging Face `BertForMaskedLM` in PyTorch, eager, on one device.

Both mask, run forward and backward at dropout 0.1 and update with AdamW, in the same process, in turn. Segments have
the paper's lengths. The peer reads one a row, padded to 512 tokens, as DNABERT does; ours reads packed rows. What is
compared is useful tokens (no padding) per second. Needs the `interop` extra.

    python benchmarks/train_step.py --rows 8 --steps 5
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import torch
import transformers
from our_step import steps as ours

from dnabert_jax import embedded, sharding
from dnabert_jax.config import DataConfig, EncoderConfig, MaskingConfig, MeshConfig, PretrainConfig
from dnabert_jax.data import build, loader, shards


def theirs(config: PretrainConfig, split: shards.Split) -> Iterator[tuple[float, int]]:
    encoder = config.encoder
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=encoder.vocabulary_size,
            hidden_size=encoder.hidden,
            num_hidden_layers=encoder.layers,
            num_attention_heads=encoder.heads,
            intermediate_size=encoder.intermediate,
            max_position_embeddings=encoder.max_length,
            hidden_dropout_prob=encoder.hidden_dropout,
            attention_probs_dropout_prob=encoder.attention_dropout,
        )
    ).to(device)
    model.train()
    values = config.optimizer
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(values.beta1, values.beta2), eps=values.epsilon, weight_decay=0.01
    )
    generator = torch.Generator(device).manual_seed(0)
    for batch in loader.Pretraining(split, config).batches():
        start = time.perf_counter()
        tokens = torch.from_numpy(batch["tokens"]).long().to(device)
        attended = torch.from_numpy(batch["segment_ids"] > 0).long().to(device)
        # As many masked tokens as ours, [MASK] in all places: the corruption costs nothing beside the model.
        masked = (torch.rand(tokens.shape, generator=generator, device=device) < 0.15) & (tokens > 4)
        labels = torch.where(masked, tokens, -100)
        seen = torch.where(masked, torch.full_like(tokens, 4), tokens)
        with torch.autocast(device, torch.bfloat16, enabled=encoder.compute_dtype == "bfloat16"):
            loss = model(input_ids=seen, attention_mask=attended, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        float(loss.detach())
        yield time.perf_counter() - start, int(attended.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--compute-dtype", default="float32", choices=("float32", "bfloat16"))
    arguments = parser.parse_args()

    mesh = sharding.make_mesh(MeshConfig())
    with tempfile.TemporaryDirectory() as folder, sharding.use(mesh):
        build.build([embedded.FASTA], Path(folder, "genome"))
        split = shards.open_split(Path(folder, "genome"), "train")
        encoder = EncoderConfig(
            layers=arguments.layers,
            hidden=arguments.hidden,
            heads=arguments.hidden // 64,
            intermediate=4 * arguments.hidden,
            compute_dtype=arguments.compute_dtype,
        )
        masking = MaskingConfig(rate=0.15, late_rate=0.15)
        packed = PretrainConfig(batch_size=arguments.rows, encoder=encoder, masking=masking)
        padded = PretrainConfig(batch_size=arguments.rows, encoder=encoder, data=DataConfig(pack=False))
        runs = {"ours": ours(packed, split, mesh), "Hugging Face, eager": theirs(padded, split)}
        for run in runs.values():
            next(run)  # compiles, warms up
        found: dict[str, list[tuple[float, int]]] = {name: [] for name in runs}
        for _ in range(arguments.steps):
            for name, run in runs.items():
                found[name].append(next(run))

    print(f"BERT {arguments.layers} × {arguments.hidden}, {arguments.rows} rows of 512, {arguments.compute_dtype}")
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}, torch {torch.__version__}")
    rates = {}
    for name, steps in found.items():
        seconds = statistics.median(seconds for seconds, _ in steps)
        rates[name] = np.sum([useful for _, useful in steps]) / np.sum([seconds for seconds, _ in steps])
        share = np.mean([useful for _, useful in steps]) / (arguments.rows * 512)
        print(
            f"{name:20} step_time_ms {1000 * seconds:9.1f}  useful_tokens_per_second {rates[name]:9.1f}  "
            f"useful_share {share:.1%}"
        )
    print(f"ours / Hugging Face: {rates['ours'] / rates['Hugging Face, eager']:.2f}")


if __name__ == "__main__":
    main()
