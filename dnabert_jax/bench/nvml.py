"""NVIDIA's management library (NVML), where it can be asked: the GPUs that this process may use, and their driver.

Its Python binding is `nvidia-ml-py`, which comes with the extra `cuda`. Without it, or without a driver, there is
nothing to ask and nothing fails.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def ask(question: Callable[[Any, list[Any]], Answer]) -> Answer | None:
    """What a function (`pynvml`, handles of the GPUs) → answer says; None where NVML or one of the GPUs cannot tell.

    The GPUs are those of CUDA_VISIBLE_DEVICES, or all. Parts of a GPU (MIG) have no handle of their own here.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()  # counts how often; never shut down, for others in this process may be using it
        handles = _visible(pynvml)
        return question(pynvml, handles) if handles else None
    except pynvml.NVMLError:
        return None


def _visible(pynvml: Any) -> list[Any]:
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return handles
    # CUDA numbers the fastest first and NVML by place on the bus, which is the same where all are of one kind.
    by_number = (
        os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({*map(pynvml.nvmlDeviceGetName, handles)}) == 1
    )
    uuids = [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]
    found = []
    for each in filter(None, map(str.strip, chosen.split(","))):
        if each.isdecimal():
            matching = handles[int(each) : int(each) + 1] if by_number else []
        else:
            matching = [handle for handle, uuid in zip(handles, uuids, strict=True) if uuid.startswith(each)]
        if len(matching) != 1:
            return []
        found += matching
    return found
