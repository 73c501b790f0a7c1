"""Let an agent learn on one environment, writing every round down; stop and resume between rounds."""

import io
import logging
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_wrapper
from tqdm import tqdm

import agents
from agents.stepwise import Unlearned
from experiments.running.attempt import Attempt
from experiments.running.checkpoint import Checkpoint, load_newest, save_checkpoint
from experiments.running.config import RunConfig
from experiments.running.divergence import cannot_act, has_finite_weights, warn_of_divergence
from experiments.running.interruption import Interrupted
from experiments.running.last_step import RunsOver, WatchedEnv
from experiments.running.log import log_picture, open_log, pending_values
from experiments.running.normalisation import keep_normalization
from experiments.running.rounds import round_row
from fusion_env.errors import ConfigError
from fusion_env.run import LastRun
from fusion_env.sb3_vec_env import StudentsVecEnv
from fusion_env.task import DistillationTask

__all__ = ["Training", "make_env", "new_agent", "train_agent"]

_logger = logging.getLogger(__name__)

_PICTURES = 8  # of each run, about

# What `new_agent` has warned about; `learn` of the agents of this package checks again.
_JUDGED_BEFORE = r".*(expect no learning|only when an episode ends)"


@dataclass(frozen=True)
class Training:
    """What learning left behind.

    Attributes:
        agent: The agent.
        last_runs: The last run of each student; if the agent broke in the middle of one, that one, cut short.
        rounds: Rounds of all runs; fewer than configured where one ended early.
        updates: Updates that changed the policy, as :class:`agents.UpdateCounter` counts them.
        seconds: Wall time, without set-up and scoring of the report split by others.
        agent_diverged: What to say where the agent broke, so that learning could not go on; None where all is well.
    """

    agent: BaseAlgorithm
    last_runs: list[LastRun]
    rounds: int
    updates: int
    seconds: float
    agent_diverged: str | None


def make_env(task: DistillationTask, num_envs: int = 1, normalize: bool = False) -> VecEnv:
    """Make the environments of a task for Stable-Baselines3.

    Args:
        task: The task.
        num_envs: Students that are trained beside each other.
        normalize: Bring observations and rewards to one scale by what has been seen of them (`VecNormalize`).
    """
    env = WatchedEnv(StudentsVecEnv(task, num_envs, render_mode="rgb_array"))
    return VecNormalize(env) if normalize else env


def new_agent(config: RunConfig, task: DistillationTask) -> BaseAlgorithm:
    """Make the agent of a run, with an environment, and check that its settings fit the rounds.

    Raises:
        ConfigError: The agent is unknown, or its settings cannot be used.
    """
    try:
        env = make_env(task, config.num_envs, config.normalize)
        agent = agents.make(config.agent, env, seed=config.seed, **config.agent_settings)
        env.seed(config.seed)  # an algorithm of somebody's own may have no use for a seed
        if config.runs:
            if unwrap_vec_wrapper(agent.env, WatchedEnv) is None:  # type: ignore[arg-type]  # None is not wrapped
                raise ValueError("it does not learn on the environment that it was given: hand `env` on to it")
            _check_budget(config, agent)
            agents.save_state(agent, io.BytesIO())  # what cannot be saved could not be resumed
    except (ValueError, TypeError, ImportError, AssertionError, agents.StateError) as error:
        # Stable-Baselines3 asserts what its settings must be, in several lines.
        raise ConfigError(f"agent {config.agent}: {' '.join(str(error).split())}") from error
    return agent


def _check_budget(config: RunConfig, agent: BaseAlgorithm) -> None:
    """Check that the agent learns within the rounds, and from what it learns within them."""
    budget = {"total_timesteps": config.learning_rounds, "episode_steps": config.env.rounds}
    agents.check_budget(agent, **budget)
    first = agents.steps_to_first_update(agent, **budget)
    if config.protocol == "online" and first is not None and first >= config.learning_rounds:
        _logger.warning(
            "agent %s is updated for the first time after the last of %d rounds, so that nothing it learns is used: "
            "give it more rounds or runs, let it update sooner (n_steps, horizon), or choose protocol across",
            config.agent,
            config.learning_rounds,
        )


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
    saved = load_newest(directory, config.agent, make_env(attempt.task, config.num_envs, config.normalize))
    agent, at = saved or (agent, Checkpoint(0, [0] * config.num_envs, 0.0))
    agent.set_logger(open_log(directory.path, at.rounds, at.log, attempt.writers))
    with tqdm(total=config.learning_rounds, initial=at.rounds, desc="rounds", disable=not attempt.show) as bar:
        recorder, problem = _Recorder(attempt, at, bar, agent), None
        try:
            with suppress(RunsOver), warnings.catch_warnings():
                warnings.filterwarnings("ignore", _JUDGED_BEFORE)
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
    students = recorder.training_env.get_attr("unwrapped")
    last_runs = [recorder.delivered.get(index) or student.abandon() for index, student in enumerate(students)]
    recorder.training_env.close()
    updates = recorder.updates()
    if not updates and not isinstance(agent, Unlearned):
        _logger.warning(
            "agent %s learned nothing in %d rounds: no update changed its policy", config.agent, recorder.rounds
        )
    return Training(agent, last_runs, recorder.rounds, updates, recorder.seconds(), problem)


class _Recorder(agents.CompleteStateCallback):
    """Writes every round down, keeps checkpoints, and ends learning when the runs are done or a stop is asked for."""

    def __init__(self, attempt: Attempt, at: Checkpoint, bar: tqdm, agent: BaseAlgorithm) -> None:
        super().__init__()
        self._counter = agents.UpdateCounter(agent, at.updates)
        self.rounds, self._runs, self.delivered = at.rounds, list(at.runs), dict(at.delivered)
        self._saved, self._began = at.rounds, time.perf_counter() - at.seconds
        self._config, self._directory, self._stop, self._bar = attempt.config, attempt.directory, attempt.stop, bar
        self._picture_every = max(1, attempt.config.env.rounds // _PICTURES)
        self._directory.rounds.keep(at.rounds)

    def seconds(self) -> float:
        """Return the seconds of training, those of earlier attempts included."""
        return time.perf_counter() - self._began

    def updates(self) -> int:
        """Return the updates so far, those of earlier attempts included."""
        self._counter.look(self.model)
        return self._counter.count

    def _on_training_start(self) -> None:
        if isinstance(self.model, agents.Planner):
            self.model.watch = lambda rounds: self._bar.set_postfix(planned=rounds)
        self._env: WatchedEnv = unwrap_vec_wrapper(self.training_env, WatchedEnv)  # type: ignore[assignment]

    def _on_step(self) -> bool:
        step = self._env.last_step
        for student, (action, reward, info) in enumerate(zip(step.actions, step.rewards, step.infos, strict=True)):
            run = self._runs[student] * len(self._runs) + student
            self._directory.rounds.append(round_row("learn", run, action, float(reward), info))
            warn_of_divergence(run, info, self._config.env)
            if step.dones[student]:
                self._finish_run(student)
        self.rounds += len(self._runs)
        self._env.is_over = self.is_over
        reward, gap = float(step.rewards.mean()), float(np.mean([info["gap"] for info in step.infos]))
        self.logger.record("env/reward", reward)
        self.logger.record("env/gap", gap)
        # After the last step of a run the environment has begun the next one, and would draw that.
        if step.infos[0]["round"] % self._picture_every == 0 and not step.dones[0]:
            log_picture(self.logger, self._env.get_attr("unwrapped", indices=0)[0].render(), self.rounds)
        self._bar.update(len(self._runs))
        self._bar.set_postfix(reward=f"{reward:+.3f}", gap=f"{gap:+.3f}")
        return True

    def _finish_run(self, student: int) -> None:
        self._runs[student] += 1
        if self._runs[student] * len(self._runs) == self._config.runs:  # its part; it goes on until all have theirs
            self.delivered[student] = self.training_env.get_attr("last_run", indices=student)[0]

    @property
    def is_over(self) -> bool:
        """Whether every student has finished its part of the runs."""
        return len(self.delivered) == len(self._runs)

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
        updates = self.updates()
        if self.is_over:
            return
        if self.rounds > self._saved and (self._stop or self.rounds - self._saved >= self._config.checkpoint_every):
            self._directory.rounds.sync()  # a checkpoint stands for all rows up to it
            at = Checkpoint(
                self.rounds, self._runs, self.seconds(), pending_values(self.logger), updates, self.delivered
            )
            save_checkpoint(self._directory, at, self.model, self.training_env)
            self._saved = self.rounds
        if self._stop:
            raise Interrupted(f"stopped after {self.rounds} of {self._config.total_rounds} rounds")
