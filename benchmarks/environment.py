"""A Python environment for the benchmarks on a machine that has some of the packages, with the rest from local wheels.

The environment sees everything that the machine's own Python sees, and what is missing is installed from a folder of
wheels, without a network. jax and torch, and what belongs to them, stay as the machine has them: they fit its driver.
Which packages are needed is read from `pyproject.toml`. Runs on the standard library and pip.

    python3 benchmarks/environment.py --at env --wheels wheels
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

KEPT = re.compile(
    r"(jax|jaxlib|jax[-_].+|libtpu|torch|triton|pytorch[-_]triton|nvidia[-_].+|cuda[-_].+)", re.IGNORECASE
)
"""Names of the packages that are never replaced where a machine has them."""


def requirements(pyproject: Path = ROOT / "pyproject.toml") -> list[str]:
    """What the project needs, as pip reads it."""
    return tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]


def constraints() -> list[str]:
    """The versions of what is to stay as it is on this machine, as pip's constraints."""
    names = {each.metadata["Name"]: each.version for each in metadata.distributions()}
    return sorted(f"{name}=={version}" for name, version in names.items() if name and KEPT.fullmatch(name))


def make(folder: Path) -> Path:
    """Makes an environment that sees this Python's packages, unless it is there, and returns its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        # Without pip of its own, which some systems' Python cannot give it: it sees this one's.
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    show = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    place = Path(subprocess.run(show, check=True, capture_output=True, text=True).stdout.strip())
    seen = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    # `addsitedir` and not the bare path, so that packages that were installed by a link are seen too.
    lines = [f"import site; site.addsitedir({path!r})\n" for path in seen]
    (place / "machine.pth").write_text("".join(lines), encoding="utf-8")
    return python


def install(python: Path, wanted: list[str], wheels: Path | None) -> list[str]:
    """Installs what is missing from wheels alone.

    Args:
      python: of the environment.
      wanted: requirements.
      wheels: folder; None where everything must be there already.

    Returns:
      The requirements that could not be met. The others are installed all the same: what lacks may not be needed.
    """
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder, "constraints.txt")
        held.write_text("".join(f"{line}\n" for line in constraints()), encoding="utf-8")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
        pip += ["--constraint", str(held), *(["--find-links", str(wheels)] if wheels else [])]
        environment = os.environ | {"PIP_NO_CACHE_DIR": "1", "PIP_NO_COMPILE": "1"}

        def runs(*names: str) -> bool:
            return subprocess.run([*pip, *names], env=environment).returncode == 0

        if runs(*wanted):
            return []
        return [each for each in wanted if not runs(each)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--at", type=Path, required=True, help="folder of the environment")
    parser.add_argument("--wheels", type=Path, help="folder of wheels")
    arguments = parser.parse_args()
    if arguments.wheels and not arguments.wheels.is_dir():
        print(f"error: {arguments.wheels}: no folder; expected one with wheels", file=sys.stderr)
        return 2
    for line in constraints():
        print(f"kept as it is: {line}")
    missing = install(make(arguments.at), requirements(), arguments.wheels)
    for each in missing:
        print(f"missing: {each}, neither on this machine nor among the wheels", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
