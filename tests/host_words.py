"""What the processes of a run tell each other: `test_hosts` runs this with `--hosts.*` flags and several processes.

Each prints one JSON object, of what it heard.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from dnabert_jax import flags, hosts
from dnabert_jax.config import MeshConfig, PretrainConfig
from dnabert_jax.errors import InputError, RunStopped


def _raised(call: Callable[[], Any]) -> list[Any]:
    """Kind and line of what it raised, and whether another process says it."""
    try:
        call()
    except (InputError, RunStopped) as error:
        return [type(error).__name__, str(error), hosts.is_told(error)]
    return []


def _refuse(*processes: int) -> None:
    if hosts.index() in processes:
        raise InputError(f"refused by {hosts.index()}")


def _agreed(*processes: int) -> None:
    with hosts.agreed():
        _refuse(*processes)


def _left(process: int) -> None:
    """One process leaves the block before it comes to what the others call there."""
    with hosts.agreed():
        _refuse(process)
        hosts.on_first(lambda: "a word that it does not wait for")
        hosts.exchange("what it does not say")


def _stopped(mesh: Any) -> list[str | None]:
    """What `after_step` says where a signal comes to process 1 before its third call."""
    from dnabert_jax.training.signals import StopSignals

    stop, found = StopSignals(), []
    stop.agree_over(mesh)
    for call in range(6):
        if call == 2 and hosts.index() == 1:
            stop.received = "SIGHUP"
        found.append(stop.after_step())
    return found


def _rows(tensor: int) -> dict[str, Any]:
    """The rows of this process of a batch laid over the devices, and the whole batch as it is gathered again."""
    import numpy as np

    from dnabert_jax import sharding

    with sharding.use(sharding.make_mesh(MeshConfig(tensor=tensor))) as mesh:
        whole = np.arange(8 * 3).reshape(8, 3)
        rows = sharding.local_rows(mesh, 8)
        laid = sharding.on_device({"x": whole[rows]}, mesh)["x"]
        same = bool((hosts.gather(laid) == whole).all())
        return {"rows": rows.tolist(), "same": same, "stopped": _stopped(mesh)}


def main() -> None:
    hosts.join(flags.override(PretrainConfig(), sys.argv[1:], "words").hosts)
    here = hosts.index()
    found = {
        "place": [here, hosts.count(), hosts.is_first()],
        "value": hosts.on_first(lambda: {"from": here}),
        "all": hosts.exchange(10 * here),
        "agree": [hosts.agree_all(True), hosts.agree_all(here == 0)],
        "first_raises": _raised(lambda: hosts.on_first(lambda: _refuse(0))),
        "none": _raised(lambda: _agreed()),
        "both": _raised(lambda: _agreed(0, 1)),
        "one": _raised(lambda: _agreed(1)),
        "first_left": _raised(lambda: _left(0)),
        "other_left": _raised(lambda: _left(1)),
        "same": _raised(lambda: hosts.check_same("here", {"a": 1, "b": [2]})),
        "other": _raised(lambda: hosts.check_same("here", {"a": 1, "b": here})),
        "meshes": {tensor: _rows(tensor) for tensor in (1, 2, 4)},
    }
    print(json.dumps(found), file=sys.stderr)


if __name__ == "__main__":
    main()
