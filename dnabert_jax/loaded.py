"""A model in Python: `load` one from wherever it lies, then embed, predict and fill in sequences of any length with it.

Everything here is a thin layer of checks and batches over the pure function `dnabert_jax.model.apply.apply`, which is
the thing to build on.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np

from dnabert_jax import kmers, stored
from dnabert_jax.config import AttentionKernel, ModelConfig
from dnabert_jax.data import sequences as reading
from dnabert_jax.errors import InputError
from dnabert_jax.inference import embeddings, hidden_bases, predictions
from dnabert_jax.model import apply as pure
from dnabert_jax.model import attention_check

DNA = str | bytes | np.ndarray
"""Letters in either case, N and other IUPAC letters among them; DNABERT's text of k-mers (`ATG TGC ...`); or uint8[n]
of base codes, as `dnabert_jax.kmers.encode` makes them."""

_log = logging.getLogger("dnabert_jax")


def load(
    source: str | Path,
    *,
    batch_size: int = 64,
    compute_dtype: Literal["bfloat16", "float32"] | None = None,
    attention: AttentionKernel = "auto",
    say: Callable[[str], None] = _log.warning,
) -> "Model":
    """Reads a model and puts it on the first device.

    Args:
      source: workdir of a pretraining or a fine-tuning run (of this one the best epoch), folder of a converted model,
        Hugging Face folder, or the id of a model on Hugging Face's hub.
      batch_size: sequences of the greatest length, or pieces of longer ones, computed at once: of shorter ones more,
        and on a CPU only as many as its caches hold.
      compute_dtype: type of activations and matrix products; None is bfloat16 on a GPU or TPU, float32 on a CPU.
      attention: kernel, as `EncoderConfig.attention`.
      say: hears what there is to know about how it was read, such as a damaged checkpoint that was passed over.

    Raises:
      InputError: no model, or a damaged one, or an attention kernel that cannot compute it here.
    """
    if batch_size < 1:
        raise InputError(f"batch size is {batch_size}; expected 1 or more")
    _require_one_of("compute_dtype", compute_dtype, (None, "bfloat16", "float32"))
    _require_one_of("attention", attention, get_args(AttentionKernel))
    found = stored.read(source, say)
    device = jax.local_devices()[0]
    compute_dtype = compute_dtype or ("float32" if device.platform == "cpu" else "bfloat16")
    encoder = dataclasses.replace(
        found.config.encoder,
        compute_dtype=compute_dtype,
        attention=attention,
        hidden_dropout=0.0,
        attention_dropout=0.0,
    )
    attention_check.require(encoder, encoder.max_length, trains=False)
    config = dataclasses.replace(found.config, encoder=encoder)
    return Model(config, jax.device_put(found.params, device), found.origin, batch_size)


@dataclass(frozen=True, eq=False)
class Model:
    """A model and its params. It never changes; two are equal where they are the same object.

    The methods take lists, or other iterables, of sequences of any length from k bases on, in any mixture. Those longer
    than the model reads go through it in pieces, DNABERT-XL's way. What is of about one length is computed together, in
    few compiled programs (`dnabert_jax.inference.batches`).

    Attributes:
      config: what computing with the params takes.
      params: nested dict of float32 arrays: `encoder` and, by the head, `mlm_head`, `pooler`, `classifier`.
      origin: what it is and from when, for people.
      batch_size: rows of the longest computed at once, as for `load`.
    """

    config: ModelConfig
    params: Any = field(repr=False)
    origin: str
    batch_size: int = 64

    def apply(self, params: Any, batch: dict[str, jax.Array]) -> pure.Outputs:
        """`dnabert_jax.model.apply.apply` with this model's config: a pure function of params and a batch of tokens."""
        return pure.apply(self.config, params, batch)

    def tokenize(self, sequences: Iterable[DNA]) -> list[np.ndarray]:
        """Token ids with [CLS] and [SEP], int32[n - k + 3] each, not cut to what the model reads.

        Raises:
          InputError: no list of sequences, or a sequence that is no DNA or shorter than k; the message names its place.
        """
        k = self.config.encoder.k
        framed = (
            np.concatenate([[kmers.CLS], kmers.tokenize(bases, k), [kmers.SEP]]) for _, bases in self._named(sequences)
        )
        return [tokens.astype(np.int32) for tokens in framed]

    def embed(
        self,
        sequences: Iterable[DNA],
        pool: embeddings.Pool | None = "mean",
        *,
        join: embeddings.Join = "mean",
        pieces: int = 0,
    ) -> np.ndarray | list[np.ndarray]:
        """Vectors from the last hidden states.

        Args:
          sequences: as for every method.
          pool: `mean`, the mean over a sequence's k-mers; `cls`, the state of [CLS], of several pieces their mean;
            None, a vector for each k-mer.
          join: `concatenate` puts the vectors of pieces side by side instead, with 0 for those that are missing.
          pieces: how many, with `concatenate`.

        Returns:
          float32[sequences, hidden], or float32[sequences, pieces * hidden] where joined by `concatenate`. Where `pool`
          is None a list of float32[n - k + 1, hidden].

        Raises:
          InputError: as `tokenize`; an unknown `pool` or `join`; or a sequence of more than `pieces` pieces.
        """
        _require_one_of("pool", pool, ("mean", "cls", None))
        _require_one_of("join", join, ("mean", "concatenate"))
        found = embeddings.embed(
            self.config,
            self.params,
            self._named(sequences),
            pool=pool,
            join=join,
            pieces=pieces,
            batch_size=self.batch_size,
        )
        vectors = [vector for _, vector in found]
        return vectors if pool is None else _stacked(vectors, embeddings.width(self.config, pieces))

    def predict(self, sequences: Iterable[DNA]) -> np.ndarray | list[np.ndarray]:
        """What a fine-tuned model says: probabilities of `config.classes`, or the numbers of a regression.

        Returns:
          float32[sequences, outputs]; with the head `per_base` a list of float32[bases, classes].

        Raises:
          InputError: as `tokenize`; the model was not fine-tuned; or a sequence is of more pieces than a classifier
            that reads them side by side has places for.
        """
        require_fine_tuned(self.config, "this model")
        named = self._named(sequences)
        found = predictions.predict(self.config, self.params, named, batch_size=self.batch_size)
        values = [value for _, value in found]
        return values if self.config.head == "per_base" else _stacked(values, len(self.config.classes))

    def masked_lm(self, sequences: Iterable[DNA], hide: Iterable[Sequence[int]] | None = None) -> list[np.ndarray]:
        """Logits of every token of the vocabulary in the place of every k-mer.

        Args:
          sequences: as for every method.
          hide: for each sequence the 0-based places of bases to hide: [MASK] stands in the place of all k-mers that
            cover one. None hides nothing.

        Returns:
          A list of float32[n - k + 1, vocabulary]; `dnabert_jax.kmers.vocabulary` names the columns.

        Raises:
          InputError: as `tokenize`; the model has no masked-LM head; or `hide` does not fit the sequences.
        """
        found = hidden_bases.logits(self.config, self.params, self._hiding(sequences, hide), batch_size=self.batch_size)
        return [logits for _, logits in found]

    def base_probabilities(self, sequences: Iterable[DNA], hide: Iterable[Sequence[int]]) -> list[np.ndarray]:
        """Probabilities of hidden bases, given all the others of their sequence.

        `base_probabilities([dna] * len(dna), [[i] for i in range(len(dna))])` asks for each base of a sequence in turn.

        Args:
          sequences: as for every method. What stands in a hidden place makes no difference.
          hide: for each sequence the 0-based places of bases that are hidden together.

        Returns:
          A list of float32[places, 4] in the order of `hide`; the columns are A, T, C, G, the order of base codes.

        Raises:
          InputError: as `masked_lm`.
        """
        hide = [list(places) if isinstance(places, Iterable) else places for places in hide]
        found = hidden_bases.probabilities(
            self.config, self.params, self._hiding(sequences, hide), batch_size=self.batch_size
        )
        asked = zip(found, hide, strict=True)
        return [values[np.searchsorted(np.unique(places), places)] for (_, values), places in asked]

    def _named(self, sequences: Iterable[DNA]) -> Iterator[tuple[str, np.ndarray]]:
        """Each sequence as bases, with a name for errors."""
        alone = isinstance(sequences, str | bytes) or (isinstance(sequences, np.ndarray) and sequences.ndim < 2)
        if alone or not isinstance(sequences, Iterable):
            raise InputError("one sequence by itself; expected a list of them, such as ['ACGT']")
        k = self.config.encoder.k
        for place, sequence in enumerate(sequences):
            name = f"sequences[{place}]"
            try:
                bases = _bases(sequence)
            except InputError as error:
                raise InputError(f"{name}: {error}") from None
            if len(bases) < k:
                raise InputError(f"{name}: {len(bases)} bases; expected at least {k}, the length of the model's k-mers")
            yield name, bases

    def _hiding(self, sequences: Iterable[DNA], hide: Iterable[Sequence[int]] | None) -> Iterator[hidden_bases.Hiding]:
        if self.config.head != "masked_lm":
            has = _HEADS[self.config.head]
            raise InputError(f"this model: fills nothing in, for it has {has}; expected one with a masked-LM head")
        places = None if hide is None else iter(hide)
        for name, bases in self._named(sequences):
            hidden = np.zeros(len(bases), bool)
            if places is not None:
                hidden[_places(next(places, None), len(bases), name)] = True
            yield name, bases, hidden
        if places is not None and next(places, None) is not None:
            raise InputError("hide is longer than sequences; expected places for each of them")


def require_fine_tuned(config: ModelConfig, name: str) -> None:
    """Raises InputError, which calls the model by this name, unless it predicts something."""
    if not config.classes:
        raise InputError(f"{name}: predicts nothing, for it has {_HEADS[config.head]}; expected a fine-tuned model")


_HEADS = {
    "none": "an encoder only",
    "masked_lm": "a masked-LM head only",
    "single_label": "a classifier of sequences",
    "multi_label": "a multi-label classifier of sequences",
    "regression": "a regression head",
    "per_base": "a classifier of bases",
}


def _bases(sequence: DNA) -> np.ndarray:
    if isinstance(sequence, bytes):
        sequence = sequence.decode("ascii", "replace")
    if isinstance(sequence, str):
        return reading.of_text(sequence.strip())
    if isinstance(sequence, np.ndarray) and sequence.dtype == np.uint8 and sequence.ndim == 1:
        if sequence.size and sequence.max() > kmers.N:
            raise InputError(f"base code {sequence.max()}; expected codes from 0 to {kmers.N}")
        return sequence
    found = type(sequence).__name__
    if isinstance(sequence, np.ndarray):
        found = f"an array of {sequence.dtype} and shape {sequence.shape}"
    raise InputError(f"{found}; expected str, bytes or an array of base codes, uint8[n]")


def _places(places: Sequence[int] | None, length: int, name: str) -> np.ndarray:
    if places is None:
        raise InputError(f"{name}: hide has no places for it; expected places for each sequence")
    found = np.asarray(places)
    if found.size and (found.ndim != 1 or found.dtype.kind not in "iu"):
        raise InputError(f"{name}: hide is {places!r}; expected 0-based places, whole numbers")
    wrong = found[(found < 0) | (found >= length)]
    if wrong.size:
        raise InputError(f"{name}: hide has {wrong[0]}; expected places from 0 to {length - 1}")
    return found.astype(np.int64)


def _require_one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} is {value!r}; expected one of {', '.join(map(repr, allowed))}")


def _stacked(vectors: list[np.ndarray], width: int) -> np.ndarray:
    return np.stack(vectors) if vectors else np.zeros((0, width), np.float32)
