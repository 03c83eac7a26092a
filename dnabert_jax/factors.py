"""One model for each transcription factor: a folder of peak files, and the same pretrained params for all of them.

`out/<factor>/` gets `data/`, as `dnabert task tfbs` makes it, and `model/`, the workdir of its fine-tuning. The paper
does this for 690 ENCODE experiments, which takes days, so it can be stopped at any time: the same command goes on with
the factor, and inside its training, where it was. `out/factors.tsv` has a line a factor, `out/factors.png` shows how
their accuracy and F1 are spread, and `out/factors.html` is a page of both.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

import jax
from matplotlib.figure import Figure

from dnabert_jax import begun, experiment, recipes, report, stored
from dnabert_jax.config import FinetuneConfig
from dnabert_jax.data import regions
from dnabert_jax.data.fasta import IndexedFasta
from dnabert_jax.errors import InputError, Interrupted, RunStopped
from dnabert_jax.evaluation import pictures, violin
from dnabert_jax.tasks import tfbs
from dnabert_jax.tasks.records import few
from dnabert_jax.training import workdir
from dnabert_jax.training.signals import StopSignals

FIGURES = ("accuracy", "f1", "precision", "recall", "mcc", "auroc", "auprc")
TABLE, PICTURE, PAGE = "factors.tsv", "factors.png", "factors.html"

_COLUMNS = ("factor", "split", "examples", *FIGURES)
_DATA, _MODEL, _RESULT = "data", "model", "result.json"
_SUFFIXES = (".narrowpeak", ".broadpeak", ".gappedpeak", ".bed", ".fa", ".fasta", ".fna")
_COMPRESSED = (".gz", ".bgz")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What all factors have in common, as it is kept in `options.json`."""

    fasta: str = ""
    exclude: tuple[str, ...] = ()
    examples: tfbs.Options = field(default_factory=tfbs.Options)
    training: FinetuneConfig = field(default_factory=FinetuneConfig)
    """The recipe's, with `init` and the seed."""


@dataclass(frozen=True)
class Outcome:
    """What became of the factors."""

    results: dict[str, dict[str, Any]]
    """What `result.json` holds, by factor."""
    failed: dict[str, str]
    """What was wrong, by factor."""

    def values(self, figure: str) -> list[float]:
        """A figure of all factors that have it."""
        return [result[figure] for result in self.results.values() if result.get(figure) is not None]

    def means(self) -> list[tuple[str, float, float]]:
        """Each figure that there is, with its mean and its median over factors."""
        found = {figure: self.values(figure) for figure in FIGURES}
        return [(figure, mean(values), median(values)) for figure, values in found.items() if values]

    def __str__(self) -> str:
        """A table of means and medians over factors."""
        rows = [f"| factors: {len(self.results):,} | mean | median |", "| --- | ---: | ---: |"]
        rows += [f"| {figure} | {middle:.4f} | {halfway:.4f} |" for figure, middle, halfway in self.means()]
        return "\n".join(rows)


def run(
    peaks: str | Path,
    out: str | Path,
    *,
    fasta: str | Path | None = None,
    recipe: str = "tfbs",
    init: str = "",
    examples: tfbs.Options = tfbs.DEFAULTS,
    exclude: Sequence[str | Path] = (),
    say: Say = regions.note,
) -> Outcome:
    """Makes the examples of every factor and fine-tunes on them, or goes on where an earlier start stopped.

    A factor whose file is bad, or whose training cannot go on, is said and left out.

    Args:
      peaks: folder of peak files, as `tfbs.make` takes them. A factor has the name of its file without suffixes; files
        with other suffixes than those of narrowPeak, BED and FASTA are none.
      out: folder for everything; made where missing.
      fasta: the genome, for all factors.
      recipe: of the fine-tuning, as `recipes.load` finds it.
      init: model that every factor starts from; empty starts from random params.
      examples: how the examples are made; its seed is that of training, too.
      exclude: as for `tfbs.make`.
      say: hears notes, those of a factor with its name before them.

    Raises:
      InputError: no peak file, or two of one name; a genome, region, recipe or init that is none; `out` holds factors
        that were begun with other options, or other files; or every factor failed.
      RunStopped: the table, the picture or the page cannot be written.
      Interrupted: SIGTERM or Ctrl-C; what is done is kept.
    """
    out = Path(out)
    files = _files(Path(peaks), fasta, say)
    options = Options(
        begun.absolute(fasta or ""),
        tuple(map(begun.absolute, exclude)),
        examples,
        dataclasses.replace(recipes.load(recipe, FinetuneConfig), init=begun.absolute(init), seed=examples.seed),
    )
    # What no factor could do with is told now, and not once for each of them.
    _require_regions(fasta, examples)
    if init and not all(_finished(out / name) for name in files):
        stored.read(init, lambda line: None)
    with workdir.lock(out), StopSignals() as stop:
        begun.claim(out, options)
        results: dict[str, dict[str, Any]] = {}
        failed: dict[str, str] = {}
        for name, file in files.items():
            try:
                results[name] = _result(out / name, file, recipe, options, stop, _named(name, say))
            except (InputError, RunStopped) as error:
                failed[name] = str(error)
                say(f"{name}: left out: {error}")
            _write_table(out / TABLE, results)
            if stop.received and name != list(files)[-1]:
                raise Interrupted(f"{stop.received}: {name} is done; start again with the same command to go on")
        if not results:
            raise InputError(
                f"{peaks}: none of {len(files)} factors gave a model; the first: {next(iter(failed.values()))}"
            )
        outcome = Outcome(results, failed)
        spread = {"accuracy": outcome.values("accuracy"), "F1": outcome.values("f1")}
        drawn = violin.draw(spread, f"Factors: {len(results):,}")
        pictures.save({PICTURE: drawn}, out)
        workdir.write_text(out / PAGE, _page(outcome, drawn, init))
    return outcome


def _files(folder: Path, fasta: str | Path | None, say: Say) -> dict[str, Path]:
    """Peak files by factor, sorted."""
    try:
        inside = sorted(each for each in folder.iterdir() if each.is_file() and not each.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); expected a folder of peak files") from None
    files: dict[str, Path] = {}
    others = []
    for file in inside:
        name = _name(file)
        if name is None or (fasta and Path(fasta).exists() and file.samefile(fasta)):
            others.append(file.name)
        elif name in files:
            raise InputError(f"{folder}: {files[name].name} and {file.name} are both of {name}; expected one file each")
        else:
            files[name] = file
    if not files:
        raise InputError(f"{folder}: no peak file; expected files that end in .narrowPeak, .bed or .fa, perhaps in .gz")
    if others:
        say(f"{folder}: {len(others)} files are no peaks by their names: {few(others)}")
    return files


def _name(file: Path) -> str | None:
    """The factor's name, or None for a file that is none of peaks."""
    name = file.name
    if name.lower().endswith(_COMPRESSED):
        name = name[: name.rindex(".")]
    if not name.lower().endswith(_SUFFIXES):
        return None
    while name.lower().endswith(_SUFFIXES):
        name = name[: name.rindex(".")]
    return name or None


def _require_regions(fasta: str | Path | None, examples: tfbs.Options) -> None:
    """Raises InputError for a genome that cannot be read, or that lacks a region that is named."""
    if fasta:
        with IndexedFasta(fasta) as genome:
            lengths = {name: genome.length(name) for name in genome.names}
        regions.resolve([*examples.validation, *examples.test], lengths, lambda line: None)


def _finished(folder: Path) -> bool:
    return (folder / _MODEL / _RESULT).is_file()


def _result(folder: Path, peaks: Path, recipe: str, options: Options, stop: StopSignals, say: Say) -> dict[str, Any]:
    """The result of a factor, which is trained unless it was before."""
    if _finished(folder):
        file = folder / _MODEL / _RESULT
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: cannot be read ({error}); expected what a run wrote") from None
    if not (folder / _DATA).exists():
        made = tfbs.make(
            peaks, folder / _DATA, options.examples, fasta=options.fasta or None, exclude=options.exclude, say=say
        )
        say(", ".join(str(made).splitlines()))
    if stop.received:
        raise Interrupted(f"{stop.received}: the examples are made; start again with the same command to go on")
    training = options.training
    try:
        return experiment.finetuned(folder / _DATA, recipe, training.init, folder / _MODEL, say, seed=training.seed)
    finally:
        jax.clear_caches()  # every run compiles its own step; hundreds of them would fill the memory


def _named(name: str, say: Say) -> Say:
    return lambda line: say(f"{name}: {line}")


def _write_table(path: Path, results: dict[str, dict[str, Any]]) -> None:
    lines = ["\t".join(_COLUMNS)]
    lines += ["\t".join("" if value is None else str(value) for value in row) for row in _rows(results)]
    workdir.write_text(path, "\n".join(lines) + "\n")


def _rows(results: dict[str, dict[str, Any]]) -> list[list[Any]]:
    return [[name, *(result.get(each) for each in _COLUMNS[1:])] for name, result in results.items()]


def _page(outcome: Outcome, drawn: Figure, init: str) -> str:
    header = [report.TITLES.get(each, each) for each in _COLUMNS]
    means = [(report.TITLES[figure], *values) for figure, *values in outcome.means()]
    sections = [
        report.Section(
            "Over all factors",
            report.picture(drawn, alt="Accuracy and F1 of the factors"),
            report.table(["figure", "mean", "median"], means),
        ),
        report.Section("Factor by factor", report.table(header, _rows(outcome.results))),
    ]
    if outcome.failed:
        sections.append(report.Section("Left out", report.table(["factor", "why"], outcome.failed.items())))
    title = f"Binding sites of {len(outcome.results):,} factors"
    return report.page(title, sections, subtitle=f"Each from {init or 'random params'}")
