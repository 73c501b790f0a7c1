"""What every part of a run works with."""

from collections.abc import Sequence
from dataclasses import dataclass

from stable_baselines3.common.logger import KVWriter

from experiments.running.config import RunConfig
from experiments.running.directory import RunDirectory
from experiments.running.interruption import StopRequest
from fusion_env.data import Progress
from fusion_env.task import DistillationTask

__all__ = ["Attempt"]


@dataclass(frozen=True)
class Attempt:
    """One process at work on a run, from its beginning or from where an earlier one stopped.

    Attributes:
        config: What to run.
        task: Its task.
        directory: Where everything is written.
        stop: Looked at after every round.
        show: Whether to show a progress bar over the rounds.
        progress: Progress display for everything else.
        writers: Get what TensorBoard gets, too.
    """

    config: RunConfig
    task: DistillationTask
    directory: RunDirectory
    stop: StopRequest
    show: bool
    progress: Progress
    writers: Sequence[KVWriter] = ()
