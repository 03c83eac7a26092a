"""The energy that the machine uses, where its driver counts it.

On NVIDIA GPUs since Volta NVML counts what each board draws. On CPUs Linux shows the counters of Intel and AMD (RAPL)
of packages and their memory, which only root may read by default. Both count everything that runs there, this process
or not, and neither counts power supplies and fans. Elsewhere there is no figure.
"""

from pathlib import Path
from typing import Any

import jax

from dnabert_jax.bench import nvml

POWERCAP = Path("/sys/class/powercap")


class Meter:
    """The energy used since the meter was made.

    Args:
      platform: `gpu`, `cpu` or another, as JAX names them; None asks JAX.
      powercap: folder of the CPU's counters.

    Attributes:
      source: `NVML`, `RAPL`, or None where nothing counts.
    """

    def __init__(self, platform: str | None = None, powercap: Path = POWERCAP) -> None:
        platform = jax.default_backend() if platform is None else platform
        self.source: str | None = None
        self._counters: list[_Rapl] = []
        self._first = None
        if platform == "gpu":
            self._first = nvml.ask(_millijoules)
            self.source = None if self._first is None else "NVML"
        elif platform == "cpu":
            self._counters = _counters(powercap)
            self.source = "RAPL" if self._counters else None

    def joules(self) -> float | None:
        """Joules since the meter was made; None where nothing counts.

        Has to be called every few minutes on a CPU, whose counters begin anew when they are full.
        """
        if self.source == "NVML":
            now = nvml.ask(_millijoules)
            return None if now is None else (now - self._first) / 1e3
        if self.source == "RAPL":
            return sum(each.microjoules() for each in self._counters) / 1e6
        return None


def _millijoules(pynvml: Any, handles: list[Any]) -> int:
    return sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles)


class _Rapl:
    """One counter of a CPU, which begins anew at `range`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text())
        self._last = int(self._file.read_text())
        self._total = 0

    def microjoules(self) -> int:
        """Since it was first read."""
        now = int(self._file.read_text())
        self._total += (now - self._last) % (self._range + 1)
        self._last = now
        return self._total


def _counters(powercap: Path) -> list[_Rapl]:
    """Those of packages and of the memory beside them: what lies within a package is counted there already."""
    found = []
    for folder in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (folder / "name").read_text().strip()
            if name.startswith("package-") or name == "dram":
                found.append(_Rapl(folder))
        except (OSError, ValueError):  # not for this user, or not there
            return []
    return found
