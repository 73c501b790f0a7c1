"""Play the recorded actions of judged runs again, without the agent, and score the students that they make."""

from collections.abc import Sequence

import numpy as np

from experiments.running.judge import frozen_result, frozen_seed, ranked_reports
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError
from fusion_env.task import DistillationTask

__all__ = ["judged_again"]


def judged_again(
    task: DistillationTask, *, protocol: str, seed: int, runs: Sequence[Sequence[Sequence[float]]]
) -> dict[str, float]:
    """Return what a policy's judged runs come to, by the columns of a benchmark.

    Args:
        task: The task.
        protocol: ``"across"``: the runs have the seeds of a frozen agent; ``"online"``: one run with the seed itself.
        seed: Of agent and environment.
        runs: The actions of each run, round by round. Where they end before the run does, it is lost, as for an agent
            that could not go on; without runs, all were.

    Returns:
        ``report_gap``, ``report_mae``, ``mean_reward``, ``judged_rounds``, ``failed_runs``.

    Raises:
        ConfigError: A run has actions after its end.
    """
    env, judged = FusionDistillEnv.from_task(task), []
    for index, actions in enumerate(runs or [[]]):
        own = frozen_seed(seed, index) if protocol == "across" else seed
        env.reset(seed=own)
        for action in actions:
            if env.run.over:
                raise ConfigError(f"judged run {index + 1} has {len(actions)} actions, but ends before the last")
            env.step(np.asarray(action))
        last = (env.last_run if env.run.over else None) or env.abandon()
        judged.append(frozen_result(task, own, last))
    reports = ranked_reports(judged)
    return {
        "report_gap": reports["final"]["e"] - reports["teacher"]["e"],
        "report_mae": reports["final"]["mae"],
        "mean_reward": float(np.mean([run["return"] for run in judged])) / task.config.rounds,
        "judged_rounds": sum(run["rounds"] for run in judged),
        "failed_runs": sum(run["diverged"] for run in judged),
    }
