"""What `dnabert rounds` does: one round after another, each in a folder of its own, and a table of them all.

`out/round-<r>/` gets `data/`, the examples; `model/`, the workdir of the fine-tuning on them; `false_positives.tsv`,
what that model called where there is no site; and `counts.json`. Round 0 has the examples of `dnabert task splice`.
Every later one has those of the round before and its false positives, and trains anew from the same `init`, as
SpliceFinder's own program does. Validation and test stay the same throughout.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dnabert_jax import begun, experiment, loaded, recipes, report, stored
from dnabert_jax.config import FinetuneConfig
from dnabert_jax.data import regions
from dnabert_jax.data.build import Progress
from dnabert_jax.data.fasta import IndexedFasta
from dnabert_jax.data.progress import shown
from dnabert_jax.data.regions import Region
from dnabert_jax.errors import InputError, Interrupted
from dnabert_jax.evaluation import pictures
from dnabert_jax.rounds import borders, scoring
from dnabert_jax.rounds.borders import Border
from dnabert_jax.rounds.scoring import Counts, FalsePositive
from dnabert_jax.tasks import dataset, splice, splice_sites, splits, windows
from dnabert_jax.tasks.dataset import Example
from dnabert_jax.tasks.splice_sites import Annotated
from dnabert_jax.tasks.windows import Windows
from dnabert_jax.training import workdir
from dnabert_jax.training.signals import StopSignals

TABLE, PAGE = "rounds.tsv", "rounds.html"
_DATA, _MODEL, _RESULT, _FOUND, _COUNTS = "data", "model", "result.json", "false_positives.tsv", "counts.json"
_COLUMNS = (*Border._fields, "called", "probability")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What all rounds follow from, as it is kept in `options.json`."""

    fasta: str = ""
    gtf: str = ""
    regions: tuple[str, ...] = ()
    """To score: stretches of training territory."""
    most_added: int = 10_000
    """False positives that a round adds at most, the most probable first."""
    examples: splice.Options = field(default_factory=splice.Options)
    training: FinetuneConfig = field(default_factory=FinetuneConfig)
    """The recipe's, with `init` and the seed."""

    def __post_init__(self) -> None:
        if self.most_added < 1:
            raise InputError(f"most added is {self.most_added}; expected 1 or more")
        if not self.regions:
            raise InputError("no region to score; expected one or more, such as --region chr20:1-5000000")


@dataclass(frozen=True)
class Outcome:
    """A row for each round."""

    rows: list[dict[str, Any]]

    def __str__(self) -> str:
        """The table, as Markdown."""
        lines = ["| " + " | ".join(name.replace("_", " ") for name in self.rows[0]) + " |"]
        lines.append("| " + " | ".join("---:" for _ in self.rows[0]) + " |")
        lines += ["| " + " | ".join(map(_shown, row.values())) + " |" for row in self.rows]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Ground:
    """The genome, and what is known of it."""

    genome: IndexedFasta
    annotated: Annotated
    around: Windows
    territory: list[Region]
    """To score."""


def run(
    fasta: str | Path,
    gtf: str | Path,
    out: str | Path,
    *,
    recipe: str,
    named: Sequence[str],
    init: str = "",
    examples: splice.Options | None = None,
    rounds: int = 5,
    most_added: int = 10_000,
    batch_size: int = 64,
    say: Say = regions.note,
) -> Outcome:
    """Goes through rounds until the false positives are no longer fewer, or on from where an earlier start stopped.

    Args:
      fasta: the genome; plain or bgzip.
      gtf: its exons, GTF or GFF3.
      out: folder for everything; made where missing.
      recipe: of the fine-tuning, as `recipes.load` finds it.
      named: regions to score, all of them training territory.
      init: model that every round starts from; empty starts from random params.
      examples: how the examples of round 0 are made; its seed is that of training, too.
      rounds: after round 0, at most. More may be asked for later.
      most_added: false positives that a round adds at most.
      batch_size: windows scored at once.
      say: hears notes.

    Raises:
      InputError: what `splice.make` and `experiment.finetuned` raise; a region that touches validation or test; `out`
        was begun with other options, or holds other files.
      RunStopped: a file cannot be written, or training cannot go on.
      Interrupted: SIGTERM or Ctrl-C; what is done is kept.
    """
    out = Path(out)
    if rounds < 0:
        raise InputError(f"rounds are {rounds}; expected 0 or more")
    examples = examples or splice.Options()
    training = dataclasses.replace(
        recipes.load(recipe, FinetuneConfig), init=begun.absolute(init), seed=examples.choice.seed
    )
    options = Options(begun.absolute(fasta), begun.absolute(gtf), tuple(named), most_added, examples, training)
    if init:
        stored.read(init, lambda line: None)
    with IndexedFasta(fasta) as genome:
        ground = _ground(genome, options, say)
        with workdir.lock(out), StopSignals() as stop:
            begun.claim(out, options)
            rows: list[dict[str, Any]] = []
            for number in range(rounds + 1):
                folder = out / f"round-{number}"
                _make_data(folder / _DATA, out, number, ground, options, say)
                if stop.received:
                    made = f"the examples of {folder.name} are made"
                    raise Interrupted(f"{stop.received}: {made}; start again with the same command to go on")
                result = _trained(folder, recipe, options, say)
                counts = _scored(folder, ground, options, batch_size, stop, say)
                rows.append(_row(number, folder, counts, result))
                _write(out, rows, options)
                if why := _reason_to_stop(rows, folder):
                    say(f"round {number}: {why}; no more rounds")
                    break
    return Outcome(rows)


def _ground(genome: IndexedFasta, options: Options, say: Say) -> _Ground:
    lengths = {name: genome.length(name) for name in genome.names}
    annotated = splice_sites.read(options.gtf, lengths, options.fasta, say)
    found = splits.territories(options.examples.choice, annotated.islands(), lengths, say)
    territory = sorted(
        regions.resolve(options.regions, lengths, say), key=lambda each: (list(lengths).index(each.name), each.start)
    )
    for region in territory:
        for split in (splits.VALIDATION, splits.TEST):
            for other in found.regions(split):
                if regions.overlaps(region, other.name, other.start, other.end):
                    raise InputError(
                        f"region {region}: shares bases with {other}, which is for {splits.NAMES[split]}; expected "
                        f"training territory: {', '.join(map(str, found.regions(splits.TRAIN)[:5]))}"
                    )
    for region, other in pairwise(territory):
        if regions.overlaps(region, other.name, other.start, other.end):
            raise InputError(f"region {region} shares bases with {other}; expected each to be scored once")
    return _Ground(genome, annotated, Windows(genome, lengths, found, options.examples.half), territory)


def _make_data(folder: Path, out: Path, number: int, ground: _Ground, options: Options, say: Say) -> None:
    """Writes the examples of a round, unless they are there."""
    if folder.exists():
        return
    if not number:
        made = splice.make(options.fasta, options.gtf, folder, options.examples, say=say)
        say("\n".join(f"round 0: {line}" for line in str(made).splitlines()))
        return
    examples, summary = splice.collect(
        ground.genome, ground.annotated, options.examples, options.gtf, options.fasta, lambda line: None
    )
    added = [
        _counter_example(each, before, ground)
        for before in range(number)
        for each in _read_found(out / f"round-{before}" / _FOUND)
    ]
    kept, separation = dataset.distinct([*examples, *added])
    order = {name: at for at, name in enumerate(ground.annotated.lengths)}
    kept.sort(key=lambda each: (order[each.place.record], each.place.start, each.place.strand, each.label))
    dataset.write(
        folder,
        task="splice",
        classes=splice.CLASSES,
        examples=kept,
        readme=_readme(number, options),
        separation=summary.separation + separation,
        where=summary.where,
    )
    say(f"round {number}: {len(kept) - len(examples):,} false positives of the rounds before are examples now")


def _counter_example(found: FalsePositive, number: int, ground: _Ground) -> Example:
    place = windows.at(*found.border, ground.around.half)
    bases = windows.read(ground.genome, place).tobytes()
    return Example(splice.NEITHER, splits.TRAIN, bases, f"false positive of round {number}", place, dataset.name(place))


def _readme(number: int, options: Options) -> str:
    return f"""# Splice sites: donor, acceptor, neither, round {number}

Made by `dnabert rounds` from `{Path(options.fasta).name}` and `{Path(options.gtf).name}`: the examples of round 0
(its README says how they were made), and what the models of the rounds before called donor or acceptor in
{", ".join(options.regions)} where no site is annotated. These are training examples labelled neither, of the kind
"false positive of round ...": at most {options.most_added:,} a round, the most probable first.
"""


def _trained(folder: Path, recipe: str, options: Options, say: Say) -> dict[str, Any]:
    """The result of a round's fine-tuning, which is done unless it was before."""
    file = folder / _MODEL / _RESULT
    if file.is_file():
        return _read_json(file)
    training = options.training
    try:
        return experiment.finetuned(folder / _DATA, recipe, training.init, folder / _MODEL, say, seed=training.seed)
    finally:
        jax.clear_caches()  # every round compiles its own step


def _scored(folder: Path, ground: _Ground, options: Options, batch_size: int, stop: StopSignals, say: Say) -> Counts:
    """What the model of a round calls, which is counted unless it was before."""
    if (folder / _COUNTS).is_file():
        return Counts(**_read_json(folder / _COUNTS))
    if stop.received:
        raise Interrupted(f"{stop.received}: {folder.name} is trained; start again with the same command to go on")
    model = loaded.load(folder / _MODEL, batch_size=batch_size, say=say)
    asked = borders.of(ground.around, ground.annotated, ground.territory)
    known = _borders_of(folder / _DATA, options.examples.half)
    with shown(doing=f"{folder.name}: scoring") as progress:
        heard = _Heard(ground.territory, progress, stop, f"{folder.name} is trained")
        counts, found = scoring.score(model, asked, known=known, most=options.most_added, progress=heard)
    lines = ["\t".join(_COLUMNS)]
    lines += ["\t".join(map(str, (*each.border, each.called, f"{each.probability:.6f}"))) for each in found]
    workdir.write_text(folder / _FOUND, "\n".join(lines) + "\n")
    workdir.write_json(folder / _COUNTS, dataclasses.asdict(counts))
    return counts


class _Heard:
    """Shows how far scoring is, and ends it where the user wants to stop."""

    def __init__(
        self, territory: list[Region], progress: Callable[[Progress], None], stop: StopSignals, done: str
    ) -> None:
        self._progress, self._stop, self._done = progress, stop, done
        self._territory = territory
        self._total = sum(region.end - region.start for region in territory)

    def __call__(self, border: Border) -> None:
        if self._stop.received:
            raise Interrupted(f"{self._stop.received}: {self._done}; start again with the same command to go on")
        before = 0
        for region in self._territory:
            if region.name == border.record and border.position <= region.end:
                self._progress(Progress(border.record, before + border.position - region.start, self._total))
                return
            before += region.end - region.start


def _borders_of(folder: Path, half: int) -> Collection[Border]:
    """The middles of a round's training examples."""
    with open(folder / "train.tsv", encoding="utf-8") as file:
        next(file)
        rows = (line.split("\t", 5) for line in file)
        return {Border(record, int(start) + half, strand) for _, record, start, _, strand, _ in rows}


def _read_found(file: Path) -> Iterator[FalsePositive]:
    with open(file, encoding="utf-8") as rows:
        next(rows)
        for row in rows:
            record, position, strand, called, probability = row.rstrip("\n").split("\t")
            yield FalsePositive(Border(record, int(position), strand), called, float(probability))


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error}); expected what an earlier start wrote") from None


def _row(number: int, folder: Path, counts: Counts, result: dict[str, Any]) -> dict[str, Any]:
    with open(folder / _DATA / "train.tsv", encoding="utf-8") as file:
        examples = sum(1 for _ in file) - 1
    return {
        "round": number,
        "training_examples": examples,
        "borders": counts.borders,
        "false_positives": counts.false_positives,
        "sites": counts.sites,
        "missed_sites": counts.missed,
        "precision": counts.precision,
        "recall": counts.recall,
        "non_canonical_sites": counts.non_canonical,
        "non_canonical_found": counts.non_canonical_found,
        **{f"{result['split']}_{name}": result[name] for name in ("accuracy", "f1", "mcc")},
    }


def _reason_to_stop(rows: list[dict[str, Any]], folder: Path) -> str:
    """Why another round would be of no use; empty where it may be."""
    found = [row["false_positives"] for row in rows]
    if len(found) > 1 and found[-1] >= found[-2]:
        return f"{found[-1]:,} false positives after {found[-2]:,}"
    if next(_read_found(folder / _FOUND), None) is None:
        return "no false positive that is not among the examples yet"
    return ""


def _write(out: Path, rows: list[dict[str, Any]], options: Options) -> None:
    """The table and the page of the rounds so far."""
    lines = ["\t".join(rows[0])]
    lines += ["\t".join("" if value is None else str(value) for value in row.values()) for row in rows]
    workdir.write_text(out / TABLE, "\n".join(lines) + "\n")
    about = (
        f"Each round's model scored every GT and AG on both strands of {', '.join(options.regions)}. Its false "
        "positives, borders called donor or acceptor where no site is annotated, are training examples of the next "
        "round, which starts from the same params. Precision and recall are of the canonical sites of the region, "
        "and the last columns of examples that no round was trained on."
    )
    header = [name.replace("_", " ") for name in rows[0]]
    section = report.Section("Rounds", about, report.table(header, [row.values() for row in rows]), *_pictures(rows))
    page = report.page("Splice sites, round by round", [section], subtitle=Path(options.fasta).name)
    workdir.write_text(out / PAGE, page)


def _pictures(rows: list[dict[str, Any]]) -> list[str]:
    numbers = [row["round"] for row in rows]
    shares = {name: [math.nan if row[name] is None else row[name] for row in rows] for name in ("precision", "recall")}
    called, right = Figure(figsize=(4.6, 3.4)), Figure(figsize=(4.6, 3.4))
    axes = called.add_subplot()
    axes.plot(numbers, [row["false_positives"] for row in rows], "o-", color=pictures.COLOURS[1])
    axes.set(xlabel="Round", ylabel="False positives", title="What is called and is no site")
    others = right.add_subplot()
    for (name, values), colour in zip(shares.items(), pictures.COLOURS):
        others.plot(numbers, values, "o-", color=colour, label=name)
    others.set(xlabel="Round", ylabel="Share", title="Sites of the region", ylim=(0, 1.02))
    others.legend(frameon=False)
    axes.set_ylim(bottom=0)
    for each in (axes, others):
        each.xaxis.set_major_locator(MaxNLocator(integer=True))
        pictures.tidy(each)
    return [
        report.picture(called, alt="False positives by round"),
        report.picture(right, alt="Precision and recall by round"),
    ]


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
