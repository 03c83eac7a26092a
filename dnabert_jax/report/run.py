"""`dnabert report`: one page on a fine-tuning run, alone or beside others that were judged on the same data."""

from collections.abc import Callable, Sequence
from pathlib import Path

from dnabert_jax import results
from dnabert_jax.errors import InputError
from dnabert_jax.report import comparison, finished, judgement, making, mistakes
from dnabert_jax.report.document import page
from dnabert_jax.report.finished import Finished

FILE = "report.html"


def write(
    workdir: str | Path,
    *,
    against: Sequence[str | Path] = (),
    output: str | Path | None = None,
    say: Callable[[str], None],
) -> Path:
    """Writes the report of a fine-tuning run, whole or not at all; one that is there is replaced.

    Args:
      workdir: of a run that has ended.
      against: workdirs of others that were judged on the same examples, to be set beside it.
      output: HTML file; None for `report.html` in the workdir.
      say: hears what the report lacks.

    Returns:
      Its path.

    Raises:
      InputError: no workdir of a fine-tuning run that has ended, damaged files there, another model judged on other
        data, or an output that cannot be written or is no .html file.
      RunStopped: the disk is full.
    """
    place = Path(output) if output else Path(workdir) / FILE
    if place.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{place}: expected a name that ends in .html")
    run = finished.read(workdir)
    others = [finished.read(each) for each in against]
    comparison.check(run, others)
    text = _page(run, others, say)
    with results.text(place) as file:
        file.write(text)
    return place


def _page(run: Finished, others: Sequence[Finished], say: Callable[[str], None]) -> str:
    described = run.described()
    if described is None:
        say(f"{run.data_file}: is no table of what the run was judged on; the report shows no sequences")
    sections = [
        judgement.figures(run),
        comparison.beside(run, others) if others else None,
        judgement.classes(run),
        judgement.pictures(run),
        None if run.config.target == "regression" else judgement.reliable(run),
        making.learning(run),
        mistakes.kinds(run, described),
        mistakes.worst(run, described),
        making.making(run),
        making.data(run),
    ]
    subtitle = (
        f"{run.folder.resolve().name}: from {run.start}, {run.config.epochs} epochs, judged on "
        f"{run.result['examples']:,} {'bases' if run.config.target == 'per_base' else 'examples'} of the "
        f"{run.result['split']} split, {run.ended:%Y-%m-%d}"
    )
    return page(making.title(run), [each for each in sections if each is not None], subtitle=subtitle)
