"""Runs of many policies on one task, made where they are missing, and read back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

import agents
from experiments.running.episodes import Episode, recorded_episodes
from experiments.running.policies import run_config
from experiments.running.recorded import Recorded, open_recorded
from experiments.running.run import run
from fusion_env.data import Progress

__all__ = ["Collected", "collect"]


@dataclass(frozen=True)
class Collected:
    """What a policy did.

    Attributes:
        name: Name of the folder.
        recorded: The run as it was written down.
        episodes: Its distillations.
    """

    name: str
    recorded: Recorded
    episodes: list[Episode]

    def agent(self) -> BaseAlgorithm:
        """Load the agent as it was at the end of learning."""
        return agents.algorithm(self.recorded.config.agent).load(self.recorded.directory.agent)


def collect(policies: Mapping[str, Mapping[str, Any]], folder: Path, progress: Progress) -> list[Collected]:
    """Make the runs, each in a folder of its own; finished ones are kept, and interrupted ones go on.

    Args:
        policies: For the name of each folder, arguments of `experiments.running.policies.run_config`.
        folder: Gets the folders.
        progress: Progress display over them.

    Raises:
        FusionEnvError: See `experiments.running.run.run`.
    """
    collected = []
    for name in progress(list(policies), "runs"):
        run(run_config(**policies[name]), folder / name)
        recorded = open_recorded(folder / name)
        collected.append(Collected(name, recorded, list(recorded_episodes(recorded))))
    return collected
