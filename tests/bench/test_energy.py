"""The energy meter reads what the drivers count, and says that it knows nothing where they do not."""

import sys
import types
from pathlib import Path

import pytest

from dnabert_jax.bench import energy, nvml


def counter(folder: Path, name: str, microjoules: int, most: int = 1_000_000) -> Path:
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder / "energy_uj"


def test_cpu_packages_and_their_memory_add_up(tmp_path):
    first = counter(tmp_path / "intel-rapl:0", "package-0", 100)
    second = counter(tmp_path / "intel-rapl:1", "package-1", 5_000)
    memory = counter(tmp_path / "intel-rapl:1:1", "dram", 7)
    within = counter(tmp_path / "intel-rapl:0:0", "core", 50)
    everything = counter(tmp_path / "intel-rapl:2", "psys", 9)
    meter = energy.Meter("cpu", tmp_path)
    assert meter.source == "RAPL"
    assert meter.joules() == 0
    for file, now in ((first, 400), (second, 5_020), (memory, 10), (within, 900), (everything, 900)):
        file.write_text(f"{now}\n")
    assert meter.joules() == pytest.approx((300 + 20 + 3) * 1e-6)


def test_a_full_counter_begins_anew(tmp_path):
    file = counter(tmp_path / "intel-rapl:0", "package-0", 900_000, most=999_999)
    meter = energy.Meter("cpu", tmp_path)
    for now, used in ((50_000, 0.15), (40_000, 1.14), (40_000, 1.14)):
        file.write_text(str(now))
        assert meter.joules() == pytest.approx(used)


def test_no_counter_no_figure(tmp_path):
    assert energy.Meter("cpu", tmp_path).joules() is None
    (counter(tmp_path / "intel-rapl:0", "package-0", 1).parent / "max_energy_range_uj").unlink()
    assert energy.Meter("cpu", tmp_path).joules() is None
    assert energy.Meter("tpu", tmp_path).joules() is None


class Driver(types.ModuleType):
    """NVML as it answers: four GPUs, of which each has used as many joules as its number in thousands says."""

    class NVMLError(Exception):
        pass

    def __init__(self, names=("A", "A", "A", "A")):
        super().__init__("pynvml")
        self.names = names
        self.used = 0

    def nvmlInit(self):
        pass

    def nvmlDeviceGetCount(self):
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetName(self, handle):
        return self.names[handle]

    def nvmlDeviceGetUUID(self, handle):
        return f"GPU-{handle}{handle}-x"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if self.used is None:
            raise self.NVMLError("not supported")
        return handle * 1_000_000 + self.used * 10**handle


@pytest.fixture
def driver(monkeypatch):
    found = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", found)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    return found


@pytest.mark.parametrize(
    ("visible", "counted"),
    [
        (None, 1111),
        ("0,1,2,3", 1111),
        ("2", 100),
        ("3, 0", 1001),
        ("GPU-22", 100),
        ("GPU-22-x,GPU-00", 101),
    ],
)
def test_the_gpus_that_may_be_used_add_up(driver, monkeypatch, visible, counted):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    meter = energy.Meter("gpu")
    assert meter.source == "NVML"
    assert meter.joules() == 0
    driver.used = 5
    assert meter.joules() == pytest.approx(counted * 5 / 1000)


@pytest.mark.parametrize("visible", ["", "7", "GPU-", "MIG-1", "-1"])
def test_gpus_that_cannot_be_told_have_no_figure(driver, monkeypatch, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert energy.Meter("gpu").joules() is None


def test_numbers_of_gpus_of_several_kinds_count_by_place_only(driver, monkeypatch):
    driver.names = ("A", "A", "B", "A")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert energy.Meter("gpu").joules() is None
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert energy.Meter("gpu").joules() == 0


def test_a_gpu_that_does_not_count_has_no_figure(driver):
    driver.used = None
    assert energy.Meter("gpu").joules() is None


def test_without_the_binding_there_is_no_figure(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.ask(lambda *_: 1) is None
    assert energy.Meter("gpu").source is None
