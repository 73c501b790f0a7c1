"""Let an agent learn on one environment, writing every round down; stop and resume between rounds."""

import io
import time
import warnings
from dataclasses import dataclass

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from tqdm import tqdm

import agents
from experiments.running.attempt import Attempt
from experiments.running.checkpoint import Checkpoint, load_newest, save_checkpoint
from experiments.running.config import RunConfig
from experiments.running.divergence import cannot_act, has_finite_weights, warn_of_divergence
from experiments.running.interruption import Interrupted
from experiments.running.log import open_log, pending_values
from experiments.running.normalisation import keep_normalization
from experiments.running.rounds import round_row
from fusion_env.env import FusionDistillEnv, LastRun
from fusion_env.errors import ConfigError
from fusion_env.task import DistillationTask

__all__ = ["Training", "make_env", "new_agent", "train_agent"]


@dataclass(frozen=True)
class Training:
    """What learning left behind.

    Attributes:
        agent: The agent.
        last_run: The last finished run; if the agent broke in the middle of one, that one, cut short.
        rounds: Rounds of all runs; fewer than configured where one ended early.
        seconds: Wall time, without set-up and scoring of the report split by others.
        agent_diverged: What to say where the agent broke, so that learning could not go on; None where all is well.
    """

    agent: BaseAlgorithm
    last_run: LastRun
    rounds: int
    seconds: float
    agent_diverged: str | None


def make_env(task: DistillationTask, normalize: bool = False) -> VecEnv:
    """Wrap an environment of a task for Stable-Baselines3.

    Args:
        task: The task.
        normalize: Bring observations and rewards to one scale by what has been seen of them (`VecNormalize`).
    """
    env = DummyVecEnv([lambda: Monitor(FusionDistillEnv.from_task(task))])
    return VecNormalize(env) if normalize else env


def new_agent(config: RunConfig, task: DistillationTask) -> BaseAlgorithm:
    """Make the agent of a run, with an environment, and check that its settings fit the rounds.

    Raises:
        ConfigError: The agent is unknown, or its settings cannot be used.
    """
    try:
        env = make_env(task, config.normalize)
        agent = agents.make(config.agent, env, seed=config.seed, **config.agent_settings)
        env.seed(config.seed)  # an algorithm of somebody's own may have no use for a seed
        if config.runs:
            with warnings.catch_warnings():  # `learn` checks again, and warns
                warnings.simplefilter("ignore")
                agents.check_budget(agent, config.learning_rounds)
            agents.save_state(agent, io.BytesIO())  # what cannot be saved could not be resumed
    except (ValueError, TypeError, ImportError, AssertionError, agents.StateError) as error:
        # Stable-Baselines3 asserts what its settings must be, in several lines.
        raise ConfigError(f"agent {config.agent}: {' '.join(str(error).split())}") from error
    return agent


def train_agent(attempt: Attempt, agent: BaseAlgorithm) -> Training:
    """Learn until the configured runs are finished, continuing from the directory's checkpoint where there is one.

    Writes rows, TensorBoard events and checkpoints.

    Args:
        attempt: A run with at least one learning run.
        agent: The agent as `new_agent` made it; where there is a checkpoint, the agent in it takes its place.

    Raises:
        ConfigError: The agent's very first action is not finite.
        Interrupted: A stop was asked for; if the agent's state was complete, a checkpoint of this moment is written.
    """
    config, directory = attempt.config, attempt.directory
    saved = load_newest(directory, config.agent, make_env(attempt.task, config.normalize))
    agent, at = saved or (agent, Checkpoint(0, 0, 0.0))
    agent.set_logger(open_log(directory.path, at.rounds, at.log))
    with tqdm(total=config.learning_rounds, initial=at.rounds, desc="rounds", disable=not attempt.show) as bar:
        recorder, problem = _Recorder(attempt, at, bar), None
        try:
            agent.learn(
                config.learning_rounds - at.rounds,
                callback=recorder,
                log_interval=1,
                reset_num_timesteps=at.rounds == 0,
            )
        except ValueError as error:
            if not cannot_act(agent):
                raise
            problem = recorder.problem()
            if not recorder.rounds:
                raise ConfigError(problem) from error
        else:
            if agents.gradient_updates(agent) and cannot_act(agent):
                problem = recorder.problem()
    directory.rounds.sync()
    keep_normalization(agent)
    env = recorder.training_env.get_attr("unwrapped")[0]
    last_run = env.last_run if recorder.runs == config.runs else env.abandon()
    return Training(agent, last_run, recorder.rounds, recorder.seconds(), problem)


class _Recorder(agents.CompleteStateCallback):
    """Writes every round down, keeps checkpoints, and ends learning when the runs are done or a stop is asked for."""

    def __init__(self, attempt: Attempt, at: Checkpoint, bar: tqdm) -> None:
        super().__init__()
        self.rounds, self.runs = at.rounds, at.runs
        self._saved, self._began = at.rounds, time.perf_counter() - at.seconds
        self._config, self._directory, self._stop, self._bar = attempt.config, attempt.directory, attempt.stop, bar
        self._directory.rounds.keep(at.rounds)

    def seconds(self) -> float:
        """Return the seconds of training, those of earlier attempts included."""
        return time.perf_counter() - self._began

    def _on_step(self) -> bool:
        info = self.locals["infos"][0]
        reward = self._reward()
        action = agents.executed_actions(self.model, self.locals)[0]
        self._directory.rounds.append(round_row("learn", self.runs, action, reward, info))
        warn_of_divergence(self.runs, info, self._config.env)
        self.rounds += 1
        self.runs += int(self.locals["dones"][0])
        self.logger.record("env/reward", reward)
        self.logger.record("env/gap", info["gap"])
        self._bar.update()
        self._bar.set_postfix(reward=f"{reward:+.3f}", gap=f"{info['gap']:+.3f}")
        return self.runs < self._config.runs

    def _reward(self) -> float:
        """Return what the environment paid, whatever the agent gets to see of it."""
        wrapper = self.model.get_vec_normalize_env()
        rewards = self.locals["rewards"] if wrapper is None else wrapper.get_original_reward()
        return float(rewards[0])

    def problem(self) -> str:
        """Say that the agent broke, and what to do."""
        rate = self.model.learning_rate
        cure = f"lower its learning_rate ({'a schedule' if callable(rate) else rate})" if rate else "correct the policy"
        kept = f"; the checkpoint of round {self._saved} is kept" if self._saved else ""
        return (
            f"agent {self._config.agent} diverged after {self.rounds} of {self._config.learning_rounds} rounds: its "
            f"weights or actions are not finite any more; {cure}{kept}"
        )

    def on_complete_state(self) -> None:
        if not has_finite_weights(self.model):
            raise ValueError("the agent's weights are not finite")
        if self.runs == self._config.runs:
            return
        if self.rounds > self._saved and (self._stop or self.rounds - self._saved >= self._config.checkpoint_every):
            self._directory.rounds.sync()  # a checkpoint stands for all rows up to it
            at = Checkpoint(self.rounds, self.runs, self.seconds(), pending_values(self.logger))
            save_checkpoint(self._directory, at, self.model, self.training_env)
            self._saved = self.rounds
        if self._stop:
            raise Interrupted(f"stopped after {self.rounds} of {self._config.total_rounds} rounds")
