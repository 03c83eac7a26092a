"""What a result says of its machine: published rates by the names that JAX gives, and JSON that says what it ran on."""

import json

import pytest

from dnabert_jax.bench import hardware


@pytest.mark.parametrize(
    ("kind", "bfloat16", "bytes_per_second"),
    [
        ("TPU v2", 23e12, 350e9),
        ("TPU v3", 61.5e12, 450e9),
        ("TPU v4", 275e12, 1228e9),
        ("TPU v5 lite", 197e12, 819e9),
        ("TPU v5e", 197e12, 819e9),
        ("TPU v5", 459e12, 2765e9),
        ("TPU v5p", 459e12, 2765e9),
        ("TPU v6 lite", 918e12, 1638e9),
        ("TPU7x", 1153.5e12, 3690e9),
        ("Tesla V100-SXM2-16GB", None, 900e9),
        ("Tesla T4", None, 320e9),
        ("NVIDIA A100-SXM4-40GB", 312e12, 1555e9),
        ("NVIDIA A100-SXM4-80GB", 312e12, 2039e9),
        ("NVIDIA A100 80GB PCIe", 312e12, 1935e9),
        ("NVIDIA A10", 125e12, 600e9),
        ("NVIDIA A10G", 70e12, 600e9),
        ("NVIDIA A40", 149.7e12, 696e9),
        ("NVIDIA L4", 121e12, 300e9),
        ("NVIDIA L40S", 362.05e12, 864e9),
        ("NVIDIA GeForce RTX 3090", 71e12, 936e9),
        ("NVIDIA GeForce RTX 4090", 165.2e12, 1008e9),
        ("NVIDIA H100 80GB HBM3", 989.5e12, 3350e9),
        ("NVIDIA H100 PCIe", 756.5e12, 2000e9),
        ("NVIDIA H100 NVL", 835.5e12, 3900e9),
        ("NVIDIA H200", 989.5e12, 4800e9),
        ("NVIDIA GH200 480GB", 989.5e12, 4000e9),
        ("NVIDIA B200", 2250e12, 7700e9),
        ("AMD Instinct MI300X", 1307.4e12, 5300e9),
    ],
)
def test_published_rates(kind, bfloat16, bytes_per_second):
    peak = hardware.published(kind)
    assert peak.flops_per_second.get("bfloat16") == pytest.approx(bfloat16)
    assert peak.bytes_per_second == pytest.approx(bytes_per_second)
    assert peak.source


@pytest.mark.parametrize(
    "kind",
    ["cpu", "", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA A1000", "TPU v55"],
)
def test_a_device_that_is_not_in_the_table_has_no_rates(kind):
    assert hardware.published(kind) is None


def test_products_of_bfloat16_are_not_slower_than_those_of_float32():
    for _, peak in hardware._PEAKS:
        rates = peak.flops_per_second
        assert set(rates) <= {"bfloat16", "float32"}
        assert rates.get("bfloat16", rates["float32"]) >= rates["float32"] > 1e12
        # A product of large matrices is bound by arithmetic on all of them: tens to hundreds of FLOPs a byte.
        assert 5 < rates["float32"] / peak.bytes_per_second < 1000


def test_no_name_has_two_entries():
    names = [name for pattern, _ in hardware._PEAKS for name in pattern.split("|") if "(" not in pattern]
    assert len(names) == len(set(names))


def test_the_description_is_json_and_says_what_jax_runs_on():
    described = json.loads(json.dumps(hardware.describe()))
    assert described["platform"] == "cpu"
    assert described["devices"] >= 1
    assert described["published"] is None
    assert described["device_memory_gib"] is None
    assert described["cpu"]
    assert described["cpu_cores"] >= 1
    assert described["host_memory_gib"] > 0.1


def test_versions_are_of_what_is_installed():
    found = hardware.versions()
    assert {"python", "jax", "jaxlib", "flax", "numpy"} <= set(found)
    assert all(found.values())


def test_flags_are_those_that_change_speed(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_x=1")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--y")
    monkeypatch.setenv("SECRET_TOKEN", "never")
    found = json.loads(json.dumps(hardware.flags()))
    assert found["XLA_FLAGS"] == "--xla_cpu_x=1"
    assert found["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    assert found["LIBTPU_INIT_ARGS"] == "--y"
    assert "jax_default_matmul_precision" in found
    assert "SECRET_TOKEN" not in found
