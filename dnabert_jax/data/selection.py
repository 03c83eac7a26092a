"""Which records of the FASTA files a build takes, and which stretches of them it holds out for validation.

All of it follows from the names and lengths of the records, so it is settled before anything is written.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dnabert_jax.data import regions
from dnabert_jax.errors import InputError

TRAIN, VALIDATION = "train", "validation"


@dataclass(frozen=True)
class Wanted:
    """What the user asked for; `build.build` has the meaning of each."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    validation: Sequence[str] = ()
    min_length: int = 1

    @property
    def needs_lengths(self) -> bool:
        """Whether the records have to be known before the first of them is written."""
        return bool(self.include or self.exclude or self.validation)


@dataclass(frozen=True)
class Selection:
    """Which records are taken, and the sorted disjoint intervals of each that are held out."""

    taken: frozenset[str] | None
    """None takes every record that is long enough."""
    held_out: Mapping[str, list[tuple[int, int]]]
    total: int | None
    """Bases of the records that are taken, where they were counted."""


EVERYTHING = Selection(None, {}, None)
"""Every record that is long enough, to train on."""


def select(lengths: Mapping[str, int], wanted: Wanted, files: str, say: Callable[[str], None]) -> Selection:
    """Finds the records and intervals that are wanted.

    Args:
      lengths: bases of each record that there is, by name.
      wanted: what is wanted of them.
      files: names of the files, for messages.
      say: is told of record names that were matched in another spelling.

    Raises:
      InputError: a name or region that is nowhere, or nothing left to train on.
    """
    taken = _named(wanted.include, lengths, "include", say) or set(lengths)
    taken -= _named(wanted.exclude, lengths, "exclude", say)
    kept = {name: lengths[name] for name in lengths if name in taken and lengths[name] >= wanted.min_length}
    if not kept:
        raise InputError(f"{files}: no record of at least {wanted.min_length} bases is left to build from")
    try:
        # A name may look like a region, as HLA's do: the name goes first.
        held_out = [regions.Region(text, 0, kept[text]) for text in wanted.validation if text in kept]
        held_out += regions.resolve([text for text in wanted.validation if text not in kept], kept, say)
    except InputError as error:
        raise InputError(f"--validation: {error}") from None
    intervals: dict[str, list[tuple[int, int]]] = {}
    for region in sorted(held_out, key=lambda region: region.start):
        merged = intervals.setdefault(region.name, [])
        if merged and region.start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], region.end))
        else:
            merged.append((region.start, region.end))
    total = sum(kept.values())
    if total == sum(end - start for spans in intervals.values() for start, end in spans):
        raise InputError(f"--validation takes all {total:,} bases; expected some to be left to train on")
    return Selection(frozenset(kept), intervals, total)


def pieces(length: int, held_out: Sequence[tuple[int, int]]) -> Iterator[tuple[str, int, int]]:
    """(split, start, end) of a record in order, cut where a held-out interval begins and ends."""
    at = 0
    for start, end in held_out:
        if at < start:
            yield TRAIN, at, start
        yield VALIDATION, start, end
        at = end
    if at < length:
        yield TRAIN, at, length


def _named(wanted: Sequence[str], known: Mapping[str, int], flag: str, say: Callable[[str], None]) -> set[str]:
    found = set()
    for text in wanted:
        try:
            name = regions.match_name(text, known)
        except InputError as error:
            raise InputError(f"--{flag}: {error}") from None
        if name is None:
            shown = ", ".join(map(repr, list(known)[:5])) + (f" and {len(known) - 5} more" if len(known) > 5 else "")
            raise InputError(f"--{flag}: no record {text!r}; there are {shown}")
        if name != text:
            say(f"{text} is taken to be record {name}")
        found.add(name)
    return found
