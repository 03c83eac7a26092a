"""What the processes of a run decide together after each step, at no cost in time.

Each casts a number, the highest of which is computed on their devices, behind the step. It is read some steps later,
when it has been computed anyway and nobody waits for it, and so by all processes after the same step.
"""

import collections

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_STEPS_LATER = 2


class Votes:
    """The votes of all processes, int32 each.

    Args:
      mesh: of the devices of all processes; in use where votes are cast.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._where = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._size = mesh.size
        self._highest = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))
        self._zero = self._laid_out(0)
        self._cast: collections.deque[jax.Array] = collections.deque()

    def cast(self, vote: int) -> int:
        """Casts the vote of this process. All processes have to call it, between the same steps.

        Returns:
          The highest vote of all processes some steps before; 0 in the first steps.
        """
        self._cast.append(self._highest(self._laid_out(vote) if vote else self._zero))
        return int(self._cast.popleft()) if len(self._cast) > _STEPS_LATER else 0

    def _laid_out(self, vote: int) -> jax.Array:
        votes = np.full(self._size, vote, np.int32)
        return jax.make_array_from_callback(votes.shape, self._where, lambda place: votes[place])
