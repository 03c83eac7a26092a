"""The files of a Hugging Face model, from a folder or from the hub, and the tensors in them.

safetensors are read without PyTorch. `pytorch_model.bin` is a pickle, which can run any program when it is loaded as
such; PyTorch reads it here with `weights_only=True`, which builds nothing but tensors, and refuses every other file.
"""

import contextlib
import json
import pickle
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from dnabert_jax import places
from dnabert_jax.errors import InputError
from dnabert_jax.hub.names import Tensors

CONFIG = "config.json"
SAFETENSORS = "model.safetensors"
VOCABULARY = "vocab.txt"
TOKENIZER = "tokenizer.json"

_PICKLE = "pytorch_model.bin"
_INDEX = ".index.json"
_WEIGHTS = (SAFETENSORS, SAFETENSORS + _INDEX, _PICKLE, _PICKLE + _INDEX)
_SETTINGS = [CONFIG, VOCABULARY, TOKENIZER]
_FORMS = (
    [SAFETENSORS, SAFETENSORS + _INDEX, "model-*.safetensors"],
    [_PICKLE, _PICKLE + _INDEX, "pytorch_model-*.bin"],
)
_POINTER = b"version https://git-lfs"
_KEYS = ("model_type", "architectures", "hidden_size")

Say = Callable[[str], None]


def is_model(folder: str | Path) -> bool:
    """Whether a folder is meant as a Hugging Face model: it has weights under their names, or a config with theirs."""
    folder = places.place(folder)
    if any((folder / name).is_file() for name in _WEIGHTS):
        return True
    try:
        values = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and any(key in values for key in _KEYS)


def locate(source: str | Path) -> Path:
    """The folder of a model, which is fetched where `source` is no folder but a hub id, `owner/name`.

    Of what is on the hub only the config, the vocabulary and one form of the weights are fetched; what is in the
    cache already is taken from there.

    Raises:
      InputError: no folder; or the hub has no such model, or cannot be reached.
    """
    if places.is_remote(source) and places.place(source).exists():
        raise InputError(f"{source}: Hugging Face models are not read from there; expected one in a local folder")
    folder = Path(source)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise InputError(
            f"{source}: is no folder; expected one with {CONFIG} and weights, unpacked where it was packed"
        )
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", str(source)):
        raise InputError(f"{source}: there is no such folder; expected one, or a hub id such as zhihan1996/DNA_bert_6")
    return _fetched(str(source))


def _fetched(name: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    patterns, reached = [*_SETTINGS, *_FORMS[0], *_FORMS[1]], True
    try:
        there = {each.rfilename for each in huggingface_hub.model_info(name, timeout=10).siblings}
        patterns = _SETTINGS + next((form for form in _FORMS if there & {*form}), [])
    except RepositoryNotFoundError:  # also one that is closed to the user
        raise InputError(
            f"{name}: there is no such folder here, and no model of this name on the hub for you"
        ) from None
    except HfHubHTTPError as error:
        raise InputError(f"{name}: the hub does not answer as it should ({_first_line(error)})") from None
    except Exception:  # which kind says that there is no connection depends on the library below
        reached = False
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns, local_files_only=not reached))
    except LocalEntryNotFoundError:
        raise InputError(
            f"{name}: there is no such folder here, and the hub cannot be reached; expected a folder, or a network"
        ) from None
    except Exception as error:  # whatever the connection or the disk came up with
        raise InputError(f"{name}: cannot be fetched from the hub ({_first_line(error)})") from None


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
      InputError: missing, unreadable, or something else.
    """
    try:
        values = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); expected a Hugging Face folder") from None
    except (ValueError, RecursionError):
        raise InputError(
            f"{file}: {_damage(file, 'is no JSON')}; expected an object such as transformers writes"
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{file}: holds no JSON object; expected one such as transformers writes")
    return values


def read_tensors(folder: Path, say: Say) -> Tensors:
    """Every tensor of a model by its name; floating-point ones as float32, which is said where they were not.

    Raises:
      InputError: no weights, weights that are damaged or cut short, a pickle of anything but tensors, or a pickle
        where PyTorch is not installed.
    """
    found = _weights(folder)
    if not found:
        raise InputError(f"{folder}: holds no weights; expected {' or '.join((SAFETENSORS, _PICKLE))}")
    tensors: Tensors = {}
    kinds: set[str] = set()
    for file in _parts(found) if found.name.endswith(_INDEX) else [found]:
        for name, tensor, kind in _read_pickle(file) if file.suffix == ".bin" else _read_safetensors(file):
            tensors[name] = tensor
            if "float" in kind and kind != "float32":
                kinds.add(kind)
    if kinds:
        say(f"{found}: weights in {' and '.join(sorted(kinds))} are read as float32")
    return tensors


def _weights(folder: Path) -> Path | None:
    return next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)


def _parts(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not (isinstance(names, dict) and names and all(isinstance(name, str) for name in names.values())):
        raise InputError(f"{index}: has no weight_map; expected the names of the files that hold the tensors")
    parts = [index.parent / Path(name).name for name in dict.fromkeys(names.values())]
    for part in parts:
        if not part.is_file():
            raise InputError(f"{part}: is missing; expected the weights that {index.name} names")
    return parts


def _read_safetensors(file: Path) -> Iterator[tuple[str, np.ndarray, str]]:
    import ml_dtypes  # noqa: F401 - gives NumPy bfloat16

    try:
        with safetensors.safe_open(file, framework="numpy") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no dict
                tensor = opened.get_tensor(name)
                yield name, _float32(tensor), str(tensor.dtype)
    except (safetensors.SafetensorError, OSError, TypeError, AttributeError) as error:
        raise _unreadable(file, _first_line(error), "a whole safetensors file") from None


def _read_pickle(file: Path) -> Iterator[tuple[str, np.ndarray, str]]:
    try:
        import torch
    except ImportError:
        raise InputError(
            f"{file}: is read with PyTorch, which is not installed; install the `interop` extra, or bring {SAFETENSORS}"
        ) from None
    expected = "a whole file with nothing but tensors in it"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tensors = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its advice is to load the file unsafely, which is not passed on
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise _unreadable(file, f"it holds {named[1]}" if named else "no pickle of tensors", expected) from None
    except Exception as error:  # PyTorch raises a dozen kinds
        raise _unreadable(file, _first_line(error), expected) from None
    if not (isinstance(tensors, dict) and all(isinstance(each, torch.Tensor) for each in tensors.values())):
        raise InputError(f"{file}: is no dict of tensors by their names; expected {expected}")
    for name, tensor in tensors.items():
        kind = str(tensor.dtype).removeprefix("torch.")
        yield name, (tensor.float() if tensor.is_floating_point() else tensor).numpy(), kind


def _float32(tensor: np.ndarray) -> np.ndarray:
    return tensor if tensor.dtype.kind in "biu" else tensor.astype(np.float32, copy=False)


def _unreadable(file: Path, why: str, expected: str) -> InputError:
    return InputError(f"{file}: {_damage(file, f'cannot be read ({why})')}; expected {expected}")


def _damage(file: Path, otherwise: str) -> str:
    with contextlib.suppress(OSError), open(file, "rb") as handle:
        if handle.read(len(_POINTER)) == _POINTER:
            return "is a pointer of Git LFS and not the file itself (`git lfs pull` fetches it)"
    return otherwise


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
    return line if len(line) <= 160 else line[:157] + "..."
