"""Regions of a genome as users write them, and names that mean the same chromosome.

`chr20:1-5,000,000` is 1-based and inclusive, as in genome browsers; inside the package every interval is 0-based and
half-open. Ensembl's `20` and UCSC's `chr20` are one chromosome: files from both are matched, if it is clear which
record is meant.
"""

import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from dnabert_jax.errors import InputError

_RANGE = re.compile(r"([0-9,]+)-([0-9,]+)", re.ASCII)


@dataclass(frozen=True)
class Region:
    """An interval of a record, 0-based and half-open; `end` None is the end of the record."""

    name: str
    start: int = 0
    end: int | None = None

    def __str__(self) -> str:
        if self.end is None and not self.start:
            return self.name
        return f"{self.name}:{self.start + 1}-{'' if self.end is None else self.end}"


def parse(text: str) -> Region:
    """Reads `NAME` or `NAME:START-END`, 1-based and inclusive, with or without thousands commas.

    A name that has colons itself (as HLA records do) needs its range behind it.

    Raises:
      InputError: anything else, a range that begins before 1, or one that ends before it begins.
    """
    expected = "expected NAME or NAME:START-END, counted from 1, END included"
    name, colon, span = text.strip().rpartition(":")
    if not colon:
        name, span = span, ""
    if not name:
        raise InputError(f"region {text!r}: no record name; {expected}")
    if not colon:
        return Region(name)
    match = _RANGE.fullmatch(span)
    digits = [part.replace(",", "") for part in match.groups()] if match else []
    if not match or not all(digits):
        raise InputError(f"region {text!r}: {span!r} is no range; {expected}")
    start, end = map(int, digits)
    if start < 1 or end < start:
        raise InputError(f"region {text!r}: {span!r} is no range; {expected}, 1 <= START <= END")
    return Region(name, start - 1, end)


def same_record(a: str, b: str) -> bool:
    """Whether two names are the same chromosome but for a `chr` prefix (M and MT are both the mitochondrion)."""
    return _bare(a) == _bare(b)


def match_name(wanted: str, known: Collection[str]) -> str | None:
    """The known name that `wanted` means: itself, or else the only one that is the same chromosome; None if none is.

    Raises:
      InputError: several known names are the same chromosome, and none is spelt like `wanted`.
    """
    if wanted in known:
        return wanted
    found = [name for name in known if same_record(wanted, name)]
    if len(found) > 1:
        raise InputError(f"record {wanted!r} could be {' or '.join(map(repr, found))}; expected one of these names")
    return found[0] if found else None


def note(line: str) -> None:
    """Tells the user something worth knowing, on stderr: what `say` is where nothing else is given."""
    print(line, file=sys.stderr, flush=True)


def resolve(texts: Iterable[str], lengths: Mapping[str, int], say: Callable[[str], None] = note) -> list[Region]:
    """Regions as users write them, on the records that there are.

    Args:
      texts: what `parse` reads.
      lengths: bases of each record, by name.
      say: is told, in one line, of each name that was matched in another spelling.

    Returns:
      One Region each, with the record's own name and a definite end.

    Raises:
      InputError: no region, no such record, or a region past the end of its record.
    """
    regions, said = [], set()
    for text in texts:
        region = parse(text)
        name = match_name(region.name, lengths)
        if name is None:
            raise InputError(f"region {text!r}: no record {region.name!r}; there are {_some(lengths)}")
        if name != region.name and region.name not in said:
            said.add(region.name)
            say(f"{region.name} is taken to be record {name}")
        end = lengths[name] if region.end is None else region.end
        if end > lengths[name]:
            raise InputError(f"region {text!r}: ends past the {lengths[name]:,} bases of record {name}")
        regions.append(Region(name, region.start, end))
    return regions


def overlaps(region: Region, name: str, start: int, end: int) -> bool:
    """Whether the 0-based half-open interval `start..end` of record `name` shares a base with the region.

    Names are compared as they are: bring them together with `match_name` or `resolve` first.
    """
    stop = end if region.end is None else min(end, region.end)
    return region.name == name and max(start, region.start) < stop


def _bare(name: str) -> str:
    bare = name[3:] if name[:3].lower() == "chr" and len(name) > 3 else name
    return "MT" if bare.upper() in ("M", "MT") else bare


def _some(names: Collection[str], limit: int = 5) -> str:
    shown = ", ".join(map(repr, list(names)[:limit]))
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
