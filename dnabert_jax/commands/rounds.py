"""`dnabert rounds`."""

from pathlib import Path
from typing import Literal

from dnabert_jax.commands.notes import say


def rounds(
    *,
    fasta: Path,
    gtf: Path,
    out: Path,
    region: tuple[str, ...],
    recipe: str = "splice",
    init: str = "",
    rounds: int = 5,
    most_added: int = 10_000,
    window: int = 400,
    negatives: tuple[Literal["decoy", "exon", "intron"], ...] = ("decoy", "decoy", "exon", "intron"),
    negatives_per_site: int = 1,
    keep_non_canonical: bool = False,
    allow_mismatch: bool = False,
    validation: tuple[str, ...] = (),
    test: tuple[str, ...] = (),
    random_split: bool = False,
    seed: int = 0,
    batch_size: int = 64,
) -> None:
    """Trains on splice sites in SpliceFinder's rounds: a model's false positives are examples of the next one.

    Started again with the same flags it goes on where it stopped.

    Args:
      fasta: the genome; plain or bgzip.
      gtf: its exons, as GTF or GFF3.
      out: folder for round-0/data, round-0/model and so on, rounds.tsv and rounds.html.
      region: records or regions (chr20:1-5000000) to look for false positives in; none for validation or test.
      recipe: of the fine-tuning: a name in configs/ or a .py file.
      init: model that every round starts from: a workdir, a converted model, a Hugging Face folder or hub id.
      rounds: how many after round 0, at most; it ends sooner where the false positives are no longer fewer.
      most_added: false positives that a round adds at most, the most probable first.
      window: as in `dnabert task splice`, and so are the flags that follow.
      negatives: what is labelled neither in round 0.
      negatives_per_site: how many of them.
      keep_non_canonical: keep sites that do not read GT or AG.
      allow_mismatch: go on where fewer than half of the introns read GT..AG.
      validation: records or regions for validation.
      test: the same for the test; where neither is given, 80, 10 and 10 % of the sites are cut between genes.
      random_split: draw the split of each group of genes that overlap, where no regions are given.
      seed: of the choice of negatives, of a random split, and of training.
      batch_size: windows of the greatest length scored at once; of shorter ones more, on a CPU fewer. Scores are
        computed in bfloat16 on a GPU or TPU, in float32 on a CPU.
    """
    from dnabert_jax import rounds as program
    from dnabert_jax.tasks import splice
    from dnabert_jax.tasks.splits import Choice

    examples = splice.Options(
        window,
        negatives,
        negatives_per_site,
        keep_non_canonical,
        allow_mismatch,
        Choice(validation, test, random_split, seed),
    )
    outcome = program.run(
        fasta,
        gtf,
        out,
        recipe=recipe,
        named=region,
        init=init,
        examples=examples,
        rounds=rounds,
        most_added=most_added,
        batch_size=batch_size,
        say=say,
    )
    print(outcome)
