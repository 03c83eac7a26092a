"""The params of the epoch that did best, which are what a fine-tuning run leaves for use."""

from collections.abc import Callable

from dnabert_jax.training.checkpoints import Checkpoints
from dnabert_jax.training.loop import Figures
from dnabert_jax.training.state import Params, State


class Best:
    """Keeps the params of the validation with the highest figure of one name; of equals, the first.

    Args:
      checkpoints: where they are kept.
      criterion: name of the figure. One that is not defined is lower than any other.
      finished: makes of a run's params those that are kept.
      kept: what `consider` returned last, where the run goes on from a checkpoint.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        criterion: str,
        finished: Callable[[Params], Params],
        kept: Figures | None,
    ) -> None:
        self._checkpoints = checkpoints
        self._criterion = criterion
        self._finished = finished
        self._empty = kept is None
        self._highest = kept[criterion] if kept else None

    def consider(self, at: int, current: State, figures: Figures) -> Figures:
        """Saves the params if they are the best so far. Returns the figure of the best, for the run's checkpoint."""
        found = figures[self._criterion]
        higher = found is not None and (self._highest is None or found > self._highest)
        if higher or self._empty:
            self._highest, self._empty = found, False
            self._checkpoints.save(at, current.replace(params=self._finished(current.params), optimizer=None), {})
            self._checkpoints.wait()  # whole before the run saves itself as one that has it
        return {self._criterion: self._highest}
