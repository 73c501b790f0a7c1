"""Let a frozen agent act in runs with seeds that it has not seen: the second half of the `across` protocol."""

from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from experiments.running.config import RunConfig
from experiments.running.divergence import warn_of_divergence
from experiments.running.interruption import Interrupted, StopRequest
from experiments.running.learn import make_env
from experiments.running.normalisation import normalized_as_learned
from experiments.running.result import read_result, write_result
from experiments.running.rounds import RoundsFile, round_row
from fusion_env.task import DistillationTask
from student.weights import save_state

__all__ = ["FrozenRun", "frozen_seed", "run_frozen"]

FILE = "evaluation.json"
# Learning uses the streams of the seed itself; these are children of it.
_PURPOSE = 1

_KEYS = ("seed", "rounds", "return", "diverged", "student", "teacher")
FrozenRun = dict[str, Any]
"""``seed``, ``rounds``, ``return`` (sum of rewards), ``diverged``; report scores of ``student`` and ``teacher``."""


def frozen_seed(seed: int, index: int) -> int:
    """Return the seed of the frozen agent's run `index`, from 0, in an experiment with this seed."""
    return int(np.random.SeedSequence(seed, spawn_key=(_PURPOSE, index)).generate_state(1)[0])


def run_frozen(
    config: RunConfig,
    task: DistillationTask,
    agent: BaseAlgorithm,
    run_dir: Path,
    *,
    learned_rounds: int,
    stop: StopRequest,
    show: bool,
) -> list[FrozenRun]:
    """Run the agent `eval_runs` times, deterministically and without learning.

    Run i of seed s has the same random streams whatever the agent, so that agents can be compared pair by pair. Each
    finished run is written to ``evaluation.json`` and not repeated.

    Args:
        config: What to run.
        task: Its task.
        agent: The agent; only its `predict` is used.
        run_dir: Directory of the run; its ``student.safetensors`` becomes the student of the last run.
        learned_rounds: Rows of ``rounds.csv`` that were written while the agent learned.
        stop: Looked at after every round.
        show: Show a progress bar.

    Returns:
        One entry for each run.

    Raises:
        Interrupted: A stop was asked for.
    """
    path = run_dir / FILE
    results: list[FrozenRun] = read_result(path, list, _KEYS) if path.exists() else []
    done = sum(result["rounds"] for result in results)
    env, file = normalized_as_learned(make_env(task), agent), RoundsFile(run_dir, keep=learned_rounds + done)
    with tqdm(total=config.eval_runs * config.env.rounds, initial=done, desc="frozen agent", disable=not show) as bar:
        for index in range(len(results), config.eval_runs):
            seed = frozen_seed(config.seed, index)
            results.append(_run_once(env, agent, file, config.runs + index, seed, stop, bar))
            file.sync()
            save_state(env.unwrapped.envs[0].unwrapped.last_run.student, run_dir / "student.safetensors")
            write_result(path, results)
    return results


def _run_once(
    env: VecEnv, agent: BaseAlgorithm, file: RoundsFile, run: int, seed: int, stop: StopRequest, bar: tqdm
) -> FrozenRun:
    agent.set_random_seed(seed)  # for policies that draw; a run does not depend on how many went before
    env.seed(seed)
    observation, state, starts, rewards = env.reset(), None, np.ones(1, bool), []
    while True:
        action, state = agent.predict(observation, state=state, episode_start=starts, deterministic=True)
        observation, reward, starts, infos = env.step(action)
        rewards.append(float(reward[0]))
        warn_of_divergence(run, infos[0], env.unwrapped.envs[0].unwrapped.config)
        file.append(round_row("evaluate", run, np.clip(action[0], -1, 1), rewards[-1], infos[0]))
        bar.update()
        if starts[0]:
            last = env.unwrapped.envs[0].unwrapped.last_run
            return {
                "seed": seed,
                "rounds": len(rewards),
                "return": sum(rewards),
                "diverged": last.diverged,
                "student": last.report,
                "teacher": last.teacher_report,
            }
        if stop:
            raise Interrupted("stopped while the frozen agent was running; finished runs are kept")
