"""The peer's pretraining step: Hugging Face's `BertForMaskedLM` in PyTorch, as its own users would run it fast.

The model, its optimiser and its step, in variants: eager or through `torch.compile`, with each of the attention
kernels that PyTorch has. `dnabert_jax.bench.peer` says what it is fed and times it. Needs the `interop` extra.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch._inductor.config
import transformers
from torch.nn.attention import SDPBackend, sdpa_kernel

from dnabert_jax.config import EncoderConfig, OptimizerConfig, PretrainConfig

_BACKENDS = {
    "flash": "FLASH_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
    "math": "MATH",
}
KERNELS = tuple(name for name, theirs in _BACKENDS.items() if theirs in SDPBackend.__members__)
"""Our names of the kernels of scaled-dot-product attention that this PyTorch knows; which of them run depends on the
device, the shapes and the mask."""

Tensors = dict[str, torch.Tensor]
"""`input_ids`, `attention_mask` and `labels`, int64[rows, length]."""


@dataclass(frozen=True)
class Variant:
    """A way to run the same step."""

    mode: Literal["eager", "compiled"]
    attention: str
    """One of `KERNELS`."""

    @property
    def name(self) -> str:
        return f"{self.mode}, {self.attention} attention"


def bert(encoder: EncoderConfig) -> transformers.BertForMaskedLM:
    """The same model, with random params and in training mode."""
    config = transformers.BertConfig(
        vocab_size=encoder.vocabulary_size,
        hidden_size=encoder.hidden,
        num_hidden_layers=encoder.layers,
        num_attention_heads=encoder.heads,
        intermediate_size=encoder.intermediate,
        hidden_act="gelu",
        hidden_dropout_prob=encoder.hidden_dropout,
        attention_probs_dropout_prob=encoder.attention_dropout,
        max_position_embeddings=encoder.max_length,
        type_vocab_size=encoder.type_vocabulary,
        initializer_range=encoder.initializer_range,
        layer_norm_eps=encoder.layer_norm_epsilon,
        tie_word_embeddings=encoder.tied_decoder,
        attn_implementation="sdpa",
    )
    return transformers.BertForMaskedLM(config).train()


def adamw(model: torch.nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Fused AdamW that decays what ours decays: neither biases nor the params of a LayerNorm."""
    decayed, others = [], []
    for name, parameter in model.named_parameters():
        plain = name.endswith(".bias") or ".LayerNorm." in name
        (others if plain else decayed).append(parameter)
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )


class Peer:
    """One model and one optimiser, which all variants train in turn.

    Args:
      config: the run whose step this is the peer of.
      device: `cpu` or `cuda`.

    Attributes:
      model: on the device.
      optimizer: of its params.
    """

    def __init__(self, config: PretrainConfig, device: str) -> None:
        torch.manual_seed(config.seed)
        if device == "cuda":
            # Ours computes float32 products in TF32 on GPUs too, which is JAX's default there and not PyTorch's.
            torch.set_float32_matmul_precision("high")
        self._device = torch.device(device)
        self._bfloat16 = config.encoder.compute_dtype == "bfloat16"
        self._clip_norm = config.optimizer.clip_norm
        self.model = bert(config.encoder).to(self._device)
        self.optimizer = adamw(self.model, config.optimizer)

    def tensors(self, **arrays: Any) -> Tensors:
        """int64 tensors on the device of NumPy arrays of integers or bools."""
        return {name: torch.tensor(array, dtype=torch.int64, device=self._device) for name, array in arrays.items()}

    def step(self, variant: Variant) -> Callable[[Tensors, float], float]:
        """A function (batch, learning rate) → loss that does one optimiser step and waits for the device.

        A compiled variant compiles in its first call. What was compiled before is forgotten, in memory and on disk, for
        PyTorch takes one for the other when they differ in the attention kernel alone.
        """
        loss_of = self.loss
        if variant.mode == "compiled":
            torch._inductor.config.force_disable_caches = True
            torch.compiler.reset()
            loss_of = torch.compile(loss_of, dynamic=False)

        def step(batch: Tensors, learning_rate: float) -> float:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate
            with self.computing(variant):
                loss = loss_of(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if self._device.type == "cuda":
                torch.cuda.synchronize()
            return loss.item()

        return step

    def loss(self, batch: Tensors) -> torch.Tensor:
        """Mean cross-entropy of the tokens that are asked for, in nats."""
        return self.model(**batch).loss

    @contextlib.contextmanager
    def computing(self, variant: Variant):
        """In the block attention runs by the variant's kernel or fails, and products are of the run's type."""
        backend = getattr(SDPBackend, _BACKENDS[variant.attention])
        with sdpa_kernel(backend), torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            yield

    def free(self) -> None:
        """Drops the gradients that a failed step left, and gives back what no tensor uses."""
        self.optimizer.zero_grad(set_to_none=True)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_memory_bytes(self) -> int | None:
        """Largest memory that tensors took since `free`; None on a CPU, where PyTorch does not count it."""
        return torch.cuda.max_memory_allocated() if self._device.type == "cuda" else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch failed for lack of the device's memory."""
    return isinstance(error, torch.cuda.OutOfMemoryError)


def reason(error: BaseException, warned: Sequence[str]) -> str:
    """One line that says why a variant does not run.

    Args:
      error: with which it failed.
      warned: what PyTorch warned of meanwhile: that is where its attention says what it cannot do.
    """
    lines = [str(error).strip().splitlines()[:1], *(each.strip().splitlines()[:1] for each in warned)]
    told = [line[0].split(" (Triggered internally")[0] for line in lines if line]
    of_attention = [
        line for line in told[1:] if "ttention" in line and "disabled" not in line and "because" not in line
    ]
    return "; ".join(dict.fromkeys(told[:1] + of_attention))[:300] or type(error).__name__
