"""One file that holds an agent and its environment between two rounds."""

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from fusion_env.errors import SnapshotError
from student.checkpoint import write_atomic

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands.

    Attributes:
        rounds: Rounds done.
        runs: Runs finished.
        seconds: Training time so far.
    """

    rounds: int
    runs: int
    seconds: float


def save_checkpoint(path: Path, at: Checkpoint, agent: BaseAlgorithm, env: DummyVecEnv) -> None:
    """Write the agent and the state of its single environment, atomically."""
    agent_file, file = io.BytesIO(), io.BytesIO()
    agent.save(agent_file)
    state = {
        "version": _VERSION,
        **vars(at),
        "agent": torch.frombuffer(bytearray(agent_file.getvalue()), dtype=torch.uint8),
        "env": env.envs[0].unwrapped.state_dict(),
    }
    torch.save(state, file)
    write_atomic(path, file.getvalue())


def load_checkpoint(path: Path, algorithm: type[BaseAlgorithm], env: DummyVecEnv) -> tuple[BaseAlgorithm, Checkpoint]:
    """Put an environment into the saved state and return the saved agent, attached to it.

    Raises:
        SnapshotError: The file is damaged or of another format.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception as error:  # torch.load raises many types for a damaged file
        raise SnapshotError(f"checkpoint {path} is damaged ({error}): delete it to start again") from error
    if state.get("version") != _VERSION:
        raise SnapshotError(f"checkpoint {path} has format version {state.get('version')!r}, not {_VERSION}")
    env.reset()  # readies the wrappers; the environment's own state follows
    monitor: Monitor = env.envs[0]
    monitor.unwrapped.load_state_dict(state["env"])
    monitor.rewards = list(monitor.unwrapped.run_rewards)
    agent = algorithm.load(io.BytesIO(state["agent"].numpy().tobytes()), env=env, force_reset=False)
    return agent, Checkpoint(state["rounds"], state["runs"], state["seconds"])


class Clock:
    """Seconds of training, those of earlier attempts included."""

    def __init__(self, before: float) -> None:
        self._start = time.perf_counter() - before

    def seconds(self) -> float:
        """Return the seconds so far."""
        return time.perf_counter() - self._start
