"""The steps of a workload, made of the programs that a user's run consists of."""

from collections.abc import Callable
from dataclasses import dataclass

from dnabert_jax.bench.choices import Choices
from dnabert_jax.bench.timing import Counts
from dnabert_jax.bench.workloads import Workload
from dnabert_jax.config import FinetuneConfig, ModelConfig, PretrainConfig
from dnabert_jax.data.shards import Split


@dataclass
class Work:
    """A workload that is ready to run.

    Attributes:
      step: runs one step and waits for the device.
      compile_time_s: seconds to trace, lower and compile the step; None where nothing is compiled.
      memory_bytes: that XLA plans for a step on one device: arguments, temporaries and outputs without what these
        share; None where it is not known.
      bytes_accessed: that a step reads and writes on one device by the compiler's count; None where it is not known.
      batch_size: rows of a step.
      config: of the run that the step is taken from.
    """

    step: Callable[[], Counts]
    compile_time_s: float | None
    memory_bytes: int | None
    bytes_accessed: float | None
    batch_size: int
    config: PretrainConfig | FinetuneConfig | ModelConfig


def start(workload: Workload, choices: Choices, batch_size: int, split: Split) -> Work:
    """Compiles a workload and has it ready.

    Args:
      workload: what is computed.
      choices: how.
      batch_size: rows of a step.
      split: the bases that are read.

    Raises:
      InputError: a batch size that the devices do not share evenly, or an attention kernel that does not run here.
    """
    raise NotImplementedError
