"""Starting anew with huge pages: once, with the same arguments, and only where the user has not decided."""

import os
import subprocess
import sys

import pytest

from dnabert_jax import huge_pages

SCRIPT = """
import os, sys
print("begun", flush=True)
from dnabert_jax import huge_pages
huge_pages.ask()
print(os.environ.get("GLIBC_TUNABLES"), sys.argv[1:], sys.prefix, os.getpid())
"""


def run(arguments, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env={**kept, **environment}
    )
    lines = process.communicate()[0].splitlines()
    assert process.returncode == 0
    return lines, process.pid


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are asked for on Linux")
def test_a_script_starts_again_once_with_its_arguments_and_its_interpreter(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    lines, pid = run([str(script), "--name", "a b"])
    assert lines == ["begun", "begun", f"glibc.malloc.hugetlb=1 ['--name', 'a b'] {sys.prefix} {pid}"]


def test_what_the_user_has_set_stays(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    lines, pid = run([str(script)], GLIBC_TUNABLES="glibc.malloc.check=0")
    assert lines == ["begun", f"glibc.malloc.check=0 [] {sys.prefix} {pid}"]


def test_a_program_that_is_no_script_goes_on():
    lines, pid = run(["-c", SCRIPT, "x"])
    assert lines == ["begun", f"None ['x'] {sys.prefix} {pid}"]


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are asked for on Linux")
def test_the_package_run_as_a_module_starts_again(monkeypatch):
    begun = []
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(sys, "argv", [huge_pages.__file__.replace("huge_pages", "__main__"), "bench"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-B", "-m", "dnabert_jax", "bench"])
    monkeypatch.setattr(os, "execv", lambda *given: begun.append(given))
    huge_pages.ask()
    assert begun == [(sys.executable, [sys.executable, "-B", "-m", "dnabert_jax", "bench"])]
    monkeypatch.delenv("GLIBC_TUNABLES")
