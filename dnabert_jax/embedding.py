"""What `dnabert embed` does: a file of sequences in, an `.npz` or Parquet file of their embeddings out, streaming.

An `.npz` holds `ids` and `embeddings`, float32[records, width]; without pooling float32[all k-mers, hidden] and
`offsets`, int64[records + 1]: the k-mers of record i are the rows from `offsets[i]` to `offsets[i + 1]`. A Parquet file
has the columns `id` and `embedding`, a list of float32, or without pooling a list of such lists. Rows are written as
they come, so memory does not grow with the number of records.
"""

import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dnabert_jax import loaded, results
from dnabert_jax.errors import InputError
from dnabert_jax.inference import batches, embeddings, records

Write = Callable[[str, np.ndarray], None]
"""Takes the id of a record and its vector, float32[width], or the vectors of its k-mers, float32[k-mers, width]."""

_ROW_GROUP = 2**22
"""Numbers in a row group of a Parquet file, 16 MiB; it ends with the record that reaches them."""


def embed(
    model: str | Path,
    input: str | Path,
    output: str | Path,
    *,
    fasta: str | Path = "",
    pool: Literal["mean", "cls", "none"] = "mean",
    join: embeddings.Join = "mean",
    pieces: int = 0,
    long: Literal["pieces", "error"] = "pieces",
    batch_size: int = 64,
    say: Callable[[str], None],
) -> int:
    """Embeds a file. The output appears under its name when it is complete, in the place of an earlier file.

    Args:
      model: workdir, converted or Hugging Face model, or hub id.
      input: FASTA, TSV or CSV with a column `sequence`, or BED with `fasta`.
      output: file to write, `.npz` or `.parquet`; not one that is read.
      fasta: FASTA that a BED points into.
      pool, join, pieces: as for `inference.embeddings.embed`; `none` is None there.
      long: what to do with a record longer than the model reads: pieces, or an error.
      batch_size: as for `loaded.load`.
      say: hears notes.

    Returns:
      The number of records.

    Raises:
      InputError: what `loaded.load` and `sequences.read` raise, flags that do not go together, a record that is too
        long, or an output that is of neither kind or cannot be written.
      RunStopped: the disk is full.
    """
    output = Path(output)
    if output.suffix not in _WRITERS:
        raise InputError(f"{output}: ends in {output.suffix or 'nothing'!r}; expected {' or '.join(_WRITERS)}")
    pooled = None if pool == "none" else pool
    embeddings.check_join(pooled, join, pieces)
    results.check_place(output, inputs=(input, fasta), model=model)
    encoder = loaded.load(model, batch_size=batch_size, say=say)
    config = encoder.config
    sequences = records.read(input, fasta=fasta, k=config.encoder.k, say=say)
    if long == "error" or pieces:
        hint = "the pieces side by side" if pieces else "the longest that the model reads, or `--long pieces`"
        longest = batches.longest(config.encoder, pieces if long == "pieces" else 1)
        sequences = records.no_longer(sequences, longest, input, hint)
    found = embeddings.embed(
        config,
        encoder.params,
        ((each.id, each.bases) for each in sequences),
        pool=pooled,
        join=join,
        pieces=pieces,
        batch_size=batch_size,
    )
    width = embeddings.width(config, pieces)
    rows = 0
    with results.binary(output) as file, _WRITERS[output.suffix](file, width, of_kmers=pooled is None) as write:
        for name, vectors in found:
            write(name, vectors)
            rows += 1
    return rows


@contextmanager
def _npz(file: Path, width: int, *, of_kmers: bool) -> Iterator[Write]:
    """The arrays grow in files beside the archive, because the header of each has its final shape."""
    with tempfile.TemporaryDirectory(prefix=f"{file.name}.", dir=file.parent) as folder:
        places = {name: Path(folder) / name for name in ("ids", "embeddings", "offsets")}
        records, vectors_written, longest_id = 0, 0, 1
        with (
            open(places["ids"], "w", encoding="utf-8") as ids,
            open(places["embeddings"], "wb") as embedded,
            open(places["offsets"], "wb") as offsets,
        ):
            offsets.write(np.int64(0).tobytes())

            def write(name: str, vectors: np.ndarray) -> None:
                nonlocal records, vectors_written, longest_id
                ids.write(json.dumps(name) + "\n")
                embedded.write(np.ascontiguousarray(vectors, "<f4").tobytes())
                records += 1
                vectors_written += len(vectors) if of_kmers else 1
                longest_id = max(longest_id, len(name))
                offsets.write(np.array(vectors_written, "<i8").tobytes())

            yield write
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            kind = np.dtype(f"<U{longest_id}")
            _add(archive, "ids", kind, (records,), _ids(places["ids"], kind))
            _add(archive, "embeddings", np.dtype("<f4"), (vectors_written, width), _blocks(places["embeddings"]))
            if of_kmers:
                _add(archive, "offsets", np.dtype("<i8"), (records + 1,), _blocks(places["offsets"]))


def _add(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype, shape: tuple[int, ...], content: Iterator[bytes]
) -> None:
    """Writes an array in NumPy's .npy format, version 1.0, as a member of the archive."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for block in content:
            member.write(block)


def _ids(file: Path, dtype: np.dtype) -> Iterator[bytes]:
    with open(file, encoding="utf-8") as lines:
        for line in lines:
            yield np.array([json.loads(line)], dtype).tobytes()


def _blocks(file: Path) -> Iterator[bytes]:
    with open(file, "rb") as content:
        while block := content.read(1 << 20):
            yield block


@contextmanager
def _parquet(file: Path, width: int, *, of_kmers: bool) -> Iterator[Write]:
    vector = pa.list_(pa.float32(), width)
    schema = pa.schema([("id", pa.string()), ("embedding", pa.list_(vector) if of_kmers else vector)])
    with pq.ParquetWriter(file, schema) as writer:
        ids: list[str] = []
        held: list[np.ndarray] = []
        numbers = 0

        def flush() -> None:
            nonlocal numbers
            column = pa.FixedSizeListArray.from_arrays(np.concatenate([each.reshape(-1) for each in held]), width)
            if of_kmers:
                column = pa.ListArray.from_arrays(np.cumsum([0, *map(len, held)], dtype=np.int32), column)
            writer.write_table(pa.table([pa.array(ids, pa.string()), column], schema))
            ids.clear()
            held.clear()
            numbers = 0

        def write(name: str, vectors: np.ndarray) -> None:
            nonlocal numbers
            ids.append(name)
            held.append(vectors)
            numbers += vectors.size
            if numbers >= _ROW_GROUP:
                flush()

        yield write
        if held:
            flush()


_WRITERS = {".npz": _npz, ".parquet": _parquet}
