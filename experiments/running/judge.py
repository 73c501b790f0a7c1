"""Let a frozen agent act in runs with seeds that it has not seen: the second half of the `across` protocol."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

import agents
from experiments.running.attempt import Attempt
from experiments.running.divergence import warn_of_divergence
from experiments.running.interruption import Interrupted
from experiments.running.learn import make_env
from experiments.running.normalisation import normalized_as_learned
from experiments.running.reports import delivered_reports
from experiments.running.rounds import round_row
from fusion_env.report import Report
from fusion_env.run import LastRun
from fusion_env.task import DistillationTask
from student.weights import save_state

__all__ = [
    "FAILED_E",
    "FrozenRun",
    "frozen_result",
    "frozen_seed",
    "mean_reports",
    "planning_rounds",
    "ranked_reports",
    "run_frozen",
]

# Learning uses the streams of the seed itself; these are children of it.
_PURPOSE = 1

FrozenRun = dict[str, Any]
"""``seed``, ``rounds``, ``return`` (sum of rewards), ``diverged``, ``best_round``, ``report`` (`delivered_reports`),
and of frozen agents ``planning_rounds``."""

FAILED_E = -1.0
"""E of a run that failed, where policies are ranked and whatever it delivers: breaking must not pay.

E of a student that is worth looking at is above 0; the quality score in it can be negative.
"""


def mean_reports(judged: Sequence[FrozenRun]) -> dict[str, Report]:
    """Return the scores of what runs deliver, averaged over them."""
    return _average([run["report"] for run in judged])


def ranked_reports(judged: Sequence[FrozenRun]) -> dict[str, Report]:
    """Average likewise, but with `FAILED_E` and an MAE of 1 where the student diverged or the agent could not go on."""
    return _average([_worst(run["report"]) if run["diverged"] else run["report"] for run in judged])


def _worst(reports: dict[str, Report]) -> dict[str, Report]:
    lost = {
        name: {**report, "e": min(report["e"], FAILED_E), "mae": 1.0, "ssim_teacher": 0.0}
        for name, report in reports.items()
    }
    return {**lost, "teacher": reports["teacher"]}


def _average(reports: Sequence[dict[str, Report]]) -> dict[str, Report]:
    return {
        name: {key: float(np.mean([one[name][key] for one in reports])) for key in report}
        for name, report in reports[0].items()
    }


def frozen_seed(seed: int, index: int) -> int:
    """Return the seed of the frozen agent's run `index`, from 0, in an experiment with this seed."""
    return int(np.random.SeedSequence(seed, spawn_key=(_PURPOSE, index)).generate_state(1)[0])


def run_frozen(attempt: Attempt, agent: BaseAlgorithm, learned_rounds: int) -> list[FrozenRun]:
    """Run the agent `eval_runs` times, deterministically and without learning.

    Run i of seed s has the same random streams whatever the agent, so that agents can be compared pair by pair. What
    each finished run came to and its student are written down; it is not repeated.

    Args:
        attempt: The run.
        agent: The agent; only its `predict` is used.
        learned_rounds: Rows that were written while the agent learned.

    Returns:
        One entry for each run.

    Raises:
        Interrupted: A stop was asked for.
    """
    config, directory = attempt.config, attempt.directory
    results: list[FrozenRun] = directory.evaluation.read() or []
    done = sum(result["rounds"] for result in results)
    directory.rounds.keep(learned_rounds + done)
    env, total = normalized_as_learned(make_env(attempt.task), agent), config.eval_runs * config.env.rounds
    with tqdm(total=total, initial=done, desc="frozen agent", disable=not attempt.show) as bar:
        for index in range(len(results), config.eval_runs):
            results.append(_run_once(attempt, env, agent, index, bar))
            directory.rounds.sync()
            save_state(env.get_attr("last_run")[0].student, directory.student)
            directory.evaluation.write(results)
    return results


def frozen_result(task: DistillationTask, seed: int, last: LastRun) -> FrozenRun:
    """Return what is written down of a finished run."""
    return {
        "seed": seed,
        "rounds": len(last.actions),
        "return": sum(last.rewards),
        "diverged": last.diverged,
        "best_round": last.best_round,
        "report": delivered_reports(task, last),
    }


def planning_rounds(agent: BaseAlgorithm) -> int:
    """Return the rounds that an agent has spent on copies of the environment; 0 for those that do not plan."""
    return agent.planning_rounds if isinstance(agent, agents.Planner) else 0


def _run_once(attempt: Attempt, env: VecEnv, agent: BaseAlgorithm, index: int, bar: tqdm) -> FrozenRun:
    config, run, seed = attempt.config, attempt.config.runs + index, frozen_seed(attempt.config.seed, index)
    agent.set_random_seed(seed)  # for policies that draw; a run does not depend on how many went before
    env.seed(seed)
    observation: Any = env.reset()
    planned_before = planning_rounds(agent)
    state: Any = None
    starts = np.ones(1, bool)
    while True:
        if isinstance(agent, agents.Planner):
            action, state = agent.plan(env, state, starts)
        else:
            action, state = agent.predict(observation, state=state, episode_start=starts, deterministic=True)
        observation, reward, starts, infos = env.step(action)
        warn_of_divergence(run, infos[0], config.env)
        attempt.directory.rounds.append(
            round_row("evaluate", run, np.clip(action[0], -1, 1), float(reward[0]), infos[0])
        )
        bar.update()
        if starts[0]:
            result = frozen_result(attempt.task, seed, env.get_attr("last_run")[0])
            return result | {"planning_rounds": planning_rounds(agent) - planned_before}
        if attempt.stop:
            raise Interrupted("stopped while the frozen agent was running; finished runs are kept")
