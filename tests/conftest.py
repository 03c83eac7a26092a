"""What every test may use: the real data where they are at hand, and one compilation cache for all processes."""

import os
import tempfile
from pathlib import Path

# Before JAX is imported, here and in the subprocesses that tests start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"dnabert-jax-tests-{os.getuid()}")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# Commands that tests call in this process must not start it anew for huge pages (huge_pages.py).
os.environ.setdefault("GLIBC_TUNABLES", "")

import pytest

from dnabert_jax import embedded, kmers
from dnabert_jax.data import build, fasta


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real human DNA for development, which lies beside the checkout and not in it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the development data in {folder}, which are not part of the project")
    return folder


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 200,000 bases of the embedded genome, the last tenth held out."""
    folder = tmp_path_factory.mktemp("shards")
    with fasta.IndexedFasta(embedded.FASTA) as genome:
        bases = genome.fetch("20", 0, 200_000)
    (folder / "slice.fa").write_text(f">20\n{kmers.decode(bases)}\n")
    build.build([folder / "slice.fa"], folder / "genome", validation=["20:180001-200000"], chunk=16_384)
    return folder / "genome"
