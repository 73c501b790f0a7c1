"""Let an agent learn on one environment, writing every round down; stop and resume between rounds."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from tqdm import tqdm

import agents
from experiments.checkpoint import Checkpoint, Clock, load_checkpoint, save_checkpoint
from experiments.rounds_file import RoundsFile, round_row
from experiments.run_config import RunConfig
from fusion_env.env import FusionDistillEnv, LastRun
from fusion_env.task import DistillationTask

__all__ = ["Interrupted", "train_agent"]

CHECKPOINT_FILE = "checkpoint.pt"
CHECKPOINT_EVERY = 10


class Interrupted(Exception):
    """The run was stopped on request; its directory can be resumed."""


def train_agent(
    config: RunConfig, task: DistillationTask, run_dir: Path, *, show: bool
) -> tuple[BaseAlgorithm, LastRun, float]:
    """Learn until the configured runs are finished, continuing from the directory's checkpoint where there is one.

    Args:
        config: What to run.
        task: Its task.
        run_dir: Gets ``rounds.csv``, TensorBoard events and ``checkpoint.pt``.
        show: Show a progress bar.

    Returns:
        The agent, the last finished run, and the seconds of training.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the checkpoint is written.
    """
    env = DummyVecEnv([lambda: Monitor(FusionDistillEnv.from_task(task))])
    path = run_dir / CHECKPOINT_FILE
    at = Checkpoint(0, 0, 0.0)
    if path.exists():
        agent, at = load_checkpoint(path, agents.algorithm(config.agent), env)
    else:
        agent = agents.make(config.agent, env, seed=config.seed, **config.agent_settings)
    agent.set_logger(configure(str(run_dir), ["tensorboard"]))
    with (
        _stop_on_request() as stop,
        tqdm(total=config.total_rounds, initial=at.rounds, desc="rounds", disable=not show) as bar,
    ):
        recorder = _Recorder(config, RoundsFile(run_dir, keep=at.rounds), path, at, bar, stop)
        agent.learn(
            config.total_rounds - at.rounds, callback=recorder, log_interval=1, reset_num_timesteps=at.rounds == 0
        )
    if recorder.runs < config.runs:
        raise Interrupted(f"stopped after {recorder.rounds} of {config.total_rounds} rounds")
    return agent, env.envs[0].unwrapped.last_run, recorder.clock.seconds()


class _Recorder(BaseCallback):
    """Writes every round down, keeps a checkpoint, and ends learning when the runs are done or a stop is asked for."""

    def __init__(
        self, config: RunConfig, file: RoundsFile, checkpoint: Path, at: Checkpoint, bar: tqdm, stop: list[int]
    ) -> None:
        super().__init__()
        self.rounds, self.runs, self.clock = at.rounds, at.runs, Clock(at.seconds)
        self._config, self._file, self._checkpoint, self._bar, self._stop = config, file, checkpoint, bar, stop

    def _on_step(self) -> bool:
        info = self.locals["infos"][0]
        reward = float(self.locals["rewards"][0])
        self._file.append(round_row(self.runs, np.asarray(self.locals["clipped_actions"][0]), reward, info))
        self.rounds += 1
        self.runs += int(self.locals["dones"][0])
        self.logger.record("env/reward", reward)
        self.logger.record("env/gap", info["gap"])
        self._bar.update()
        self._bar.set_postfix(reward=f"{reward:+.3f}", gap=f"{info['gap']:+.3f}")
        if self.runs == self._config.runs:
            return False
        if self._stop or self.rounds % CHECKPOINT_EVERY == 0:
            at = Checkpoint(self.rounds, self.runs, self.clock.seconds())
            save_checkpoint(self._checkpoint, at, self.model, self.training_env)
        return not self._stop


@contextmanager
def _stop_on_request() -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM in the yielded list; a second one interrupts at once."""
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
