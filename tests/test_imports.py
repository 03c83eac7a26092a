"""What is imported when: the parts that need no accelerator do not wait for JAX."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dnabert_jax

PACKAGE = Path(dnabert_jax.__file__).parent


@pytest.mark.parametrize("part", ["data", "tasks"])
def test_data_and_tasks_never_import_jax(part):
    for file in (PACKAGE / part).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & {"jax", "flax", "optax"}, file


def test_the_command_and_the_package_start_without_jax():
    program = (
        "import sys, dnabert_jax, dnabert_jax.cli, dnabert_jax.data.sequences; "
        "sys.exit(any(name in sys.modules for name in ('jax', 'flax', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_what_the_package_offers():
    assert set(dnabert_jax.__all__) == {"InputError", "Model", "apply", "load"}
    for name in dnabert_jax.__all__:
        assert callable(getattr(dnabert_jax, name))
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        dnabert_jax.laod  # noqa: B018
