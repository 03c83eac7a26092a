"""What the pictures have in common: colours, names as they are written, and whole files."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dnabert_jax import outputs, places
from dnabert_jax.errors import RunStopped

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
"""Those of Okabe and Ito (2008) that stand out on white, told apart under every common colour-blindness."""


def tidy(axes: Axes) -> None:
    """A pale grid behind the data, and no frame where there is no axis."""
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def text(name: str, longest: int = 30) -> str:
    """A name, cut to a length, as matplotlib shows it letter for letter: a $ begins no formula, a _ hides nothing."""
    short = name if len(name) <= longest else name[: longest - 1] + "…"
    return (" " if short.startswith("_") else "") + short.replace("$", r"\$")


def save(figures: dict[str, Figure], folder: str | Path) -> list[Path]:
    """Writes pictures as PNG, each whole or not at all.

    Args:
      figures: by file name.
      folder: made where missing.

    Returns:
      Their paths.

    Raises:
      RunStopped: a picture cannot be written.
    """
    paths = [places.place(folder) / name for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with outputs.file(path) as temporary:
                figure.savefig(temporary, format="png", dpi=150, bbox_inches="tight")
        except OSError as error:
            raise RunStopped(f"{path}: the picture could not be written ({error.strerror})") from None
    return paths
