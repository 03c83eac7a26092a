"""The tables of docs/scaling.md: what many chips would do with DNABERT-6, worked out from peaks as published.

Nothing is measured here. The formulas, in the words of the page: a step's arithmetic, the bytes that its mesh makes the
devices send, and what the optimiser reads and writes, each over the rate of what carries it.

    python benchmarks/scaling.py --chips 256 --rows 2048 --utilisation 0.5
"""

import argparse
from dataclasses import dataclass

PARAMS = 89.2e6
"""Of DNABERT-6 with the head of pretraining."""
FLOPS_PER_TOKEN = 563.3e6
"""To train on a useful token; docs/performance.md adds it up."""
ROW, USEFUL = 512, 0.97
HIDDEN, LAYERS = 768, 12
BASES_PER_TOKEN = 389 / 386
"""A segment of 384 k-mers, which is the mean, has 389 bases and, with [CLS] and [SEP], 386 tokens."""
EPOCH_BASES = 2.94e9
"""GRCh38 without its N."""


@dataclass(frozen=True)
class Chip:
    """An accelerator as its maker publishes it."""

    name: str
    flops_per_s: float
    """Dense bfloat16."""
    memory_bytes_per_s: float
    link_bytes_per_s: float
    """In each direction, all links of a chip together: to the chips of its node, or of its slice."""
    nodes_bytes_per_s: float
    """Between nodes, for each chip; a TPU slice of 256 has no nodes."""
    node: int
    """Chips of a node."""

    def all_reduce_s(self, size: float, chips: int) -> float:
        """Rings, within the node and then between nodes."""
        inner = min(chips, self.node)
        outer = chips // inner
        within = 2 * size * (inner - 1) / inner / self.link_bytes_per_s
        between = 2 * size / inner * (outer - 1) / outer / self.nodes_bytes_per_s if outer > 1 else 0.0
        return within + between


CHIPS = (
    Chip("H200, 8 a node", 989e12, 4.8e12, 450e9, 50e9, 8),
    Chip("TPU v5e, 16 × 16", 197e12, 819e9, 200e9, 200e9, 256),
    Chip("TPU v6e, 16 × 16", 918e12, 1.64e12, 400e9, 400e9, 256),
)


def meshes(chip: Chip, chips: int, rows: int) -> list[tuple[str, float, float]]:
    """(mesh, seconds of communication, seconds of the optimiser) of a step."""
    gradients = 4 * PARAMS
    optimizer = 32 * PARAMS / chip.memory_bytes_per_s
    # Params are gathered in the forward pass and again in the backward one, and the gradients are scattered: with
    # float32 for all of them, one and a half times what an all-reduce sends.
    node = 8
    whole = chip.all_reduce_s(1.5 * gradients, chips)
    mixed = chip.all_reduce_s(1.5 * gradients, node) + _across(chip, gradients / node, chips // node)
    # Four sums of a layer's hidden states, two forward and two backward, in bfloat16, over 4 chips that share rows.
    tensor = 4
    states = 4 * LAYERS * (rows * tensor / chips) * ROW * HIDDEN * 2
    split = chip.all_reduce_s(states, tensor) + _across(chip, gradients / tensor, chips // tensor)
    return [
        (f"data {chips}", chip.all_reduce_s(gradients, chips), optimizer),
        (f"fsdp {chips}", whole, optimizer / chips),
        (f"data {chips // node} × fsdp {node}", mixed, optimizer / node),
        (f"data {chips // tensor} × tensor {tensor}", split, optimizer / tensor),
    ]


def _across(chip: Chip, size: float, chips: int) -> float:
    """An all-reduce of chips that are each of another node; in a slice there is no difference."""
    return 2 * size * (chips - 1) / chips / chip.nodes_bytes_per_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chips", type=int, default=256)
    parser.add_argument("--rows", type=int, default=2_048, help="of a step, all chips together")
    parser.add_argument("--utilisation", type=float, default=0.5, help="share of the peak while a chip computes")
    arguments = parser.parse_args()
    tokens = arguments.rows * ROW * USEFUL
    figures = ("compute_ms", "sent_ms", "optimizer_ms", "overlapped_ms", "in_turn_ms")
    print(f"| {arguments.chips} chips, {arguments.rows:,} rows | mesh | {' | '.join(figures)} |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for chip in CHIPS:
        compute = tokens * FLOPS_PER_TOKEN / arguments.chips / chip.flops_per_s / arguments.utilisation
        for mesh, sent, optimizer in meshes(chip, arguments.chips, arguments.rows):
            hidden, shown = max(compute, sent) + optimizer, compute + sent + optimizer
            figures = " | ".join(f"{1e3 * value:.1f}" for value in (compute, sent, optimizer, hidden, shown))
            print(f"| {chip.name} | {mesh} | {figures} |")
    print("\n| steps of 2,000 rows | rows | useful tokens | epochs |")
    print("| ---: | --- | ---: | ---: |")
    for steps in (120_000, 200_000):
        for rows, per_row in (("packed", ROW * USEFUL), ("one segment each", 386.0)):
            total = steps * 2_000 * per_row
            print(f"| {steps:,} | {rows} | {total / 1e9:.0f} billion | {total * BASES_PER_TOKEN / EPOCH_BASES:.0f} |")
    print("\n| packed steps | FLOPs | chip | days on 1 | on 8 | on 64 | hours on 256 |")
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    for steps in (120_000, 200_000):
        flops = steps * 2_000 * ROW * USEFUL * FLOPS_PER_TOKEN
        for chip in CHIPS:
            days = flops / chip.flops_per_s / arguments.utilisation / 86_400
            each = " | ".join(f"{days / count:.2g}" for count in (1, 8, 64))
            print(f"| {steps:,} | {flops:.2e} | {chip.name} | {each} | {days * 24 / 256:.2g} |")
    print("\n| chip | useful tokens/s | bases/s | shards, MB/s | to the device, MB/s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for chip in CHIPS:
        rate = chip.flops_per_s * arguments.utilisation / FLOPS_PER_TOKEN
        bases = rate * BASES_PER_TOKEN
        print(
            f"| {chip.name} | {rate:,.0f} | {bases:,.0f} | {bases * 0.28 / 1e6:.2f} | {rate * 12 / USEFUL / 1e6:.1f} |"
        )


if __name__ == "__main__":
    main()
