"""The records of an annotation under the names that the genome's FASTA gives them.

Annotations and genomes come from different places: `chr20` of the one is `20` of the other, and each may have records
that the other lacks. What was taken to be what, and what was left out, is said in one line each.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from dnabert_jax.data import regions
from dnabert_jax.errors import InputError


def match(
    names: Iterable[str],
    lengths: Mapping[str, int],
    source: str | Path,
    fasta: str | Path,
    say: Callable[[str], None] = regions.note,
) -> dict[str, str]:
    """The FASTA's own name of each record that an annotation names.

    Args:
      names: record names of the annotation, each once or often.
      lengths: bases of each record of the FASTA, by name.
      source: the annotation, for messages.
      fasta: the FASTA, for messages.
      say: is told of each name that is spelt otherwise, and of the names that the FASTA lacks.

    Returns:
      The FASTA's name by the annotation's, without the names that the FASTA lacks.

    Raises:
      InputError: none of the records is in the FASTA, or a name that could be two of its records.
    """
    found, missing = {}, []
    for wanted in dict.fromkeys(names):
        try:
            name = regions.match_name(wanted, lengths)
        except InputError as error:
            raise InputError(f"{source}: {error}") from None
        if name is None:
            missing.append(wanted)
            continue
        found[wanted] = name
        if name != wanted:
            say(f"{wanted} of {source} is taken to be record {name} of {fasta}")
    if not found:
        raise InputError(
            f"{source}: none of its records ({few(missing)}) is in {fasta} ({few(lengths)}); expected the annotation "
            "of this genome"
        )
    if missing:
        say(f"{source}: {len(missing)} records are not in {fasta} and were left out: {few(missing)}")
    return found


def few(names: Collection[str], limit: int = 5) -> str:
    """Names for a message: the first ones, and how many more."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(list(names)[:limit]) + more
