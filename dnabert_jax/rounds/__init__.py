"""SpliceFinder's rounds: train, see where the model is wrong in a genome, train again with that as counter-examples.

Far from genes nearly every GT and AG is no splice site, and a model that was trained on as many sites as decoys calls
too many of them. SpliceFinder (Wang et al. 2019) therefore lets the model read the genome, adds its false positives to
the examples of no site, trains anew, and so on. `borders` are the places that a model is asked about, `scoring` counts
what it says, and `program` is what `dnabert rounds` does.
"""

from dnabert_jax.rounds.program import Options, Outcome, run

__all__ = ["Options", "Outcome", "run"]
