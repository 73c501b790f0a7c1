"""The runs of a recorded run as episodes: what the agent saw, did and was paid, and what the environment told."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.running.recorded import Beginnings, Recorded
from experiments.running.rounds import Row, row_action, row_info
from fusion_env.config import DistillConfig
from fusion_env.data import Progress, no_progress
from fusion_env.errors import ConfigError
from fusion_env.info import run_info
from fusion_env.observation import sees_time
from fusion_env.run import Run
from fusion_env.scoring import PARITY_ROUNDS, ends
from fusion_env.task import DistillationTask

__all__ = ["Episode", "Infos", "recorded_episodes"]

Infos = dict[str, Any]
"""Arrays [T + 1] by name, and mappings to such arrays."""


@dataclass(frozen=True)
class Episode:
    """One run of T rounds.

    Attributes:
        phase: ``"learn"``, or ``"evaluate"`` for a frozen agent.
        run: Number of the run, from 0.
        seed: What the environment was reset with; None where it continued its own stream.
        observations: float32 [T + 1, N], the first one from `reset`.
        actions: float32 [T, A], in the environment's action space.
        rewards: float64 [T].
        terminated: Whether the run ended with its last round.
        truncated: Whether its rounds were used up, or it was cut off: an interruption, an agent that broke.
        infos: The infos of `reset` and of every round, without ``report``, which `rounds.csv` does not have.
    """

    phase: str
    run: int
    seed: int | None
    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float64]
    terminated: bool
    truncated: bool
    infos: Infos


def recorded_episodes(recorded: Recorded, progress: Progress = no_progress) -> Iterator[Episode]:
    """Yield the runs in the order in which they began.

    Nothing is trained: observations come from the scores that were written down, and only what `reset` gave is computed
    again. With `stop_at_parity` and `score_images` the rows do not tell of a run whether parity was reached in the very
    last round: it counts as truncated.

    Raises:
        ConfigError: Rows are missing or damaged.
    """
    beginnings, groups = Beginnings(recorded.config, recorded.task), _by_run(recorded)
    last_runs = {beginnings.student(*key): key for key in groups}
    for phase, run in progress(list(groups), "runs"):
        begun = beginnings.reset(phase, run).run
        rows = groups[phase, run]
        try:
            infos = [row_info(row) for row in rows]
            rewards = np.array([float(row["reward"]) for row in rows])
        except (KeyError, ValueError) as error:
            path = recorded.directory.rounds.path
            raise ConfigError(f"{path} is damaged ({error} in {phase} run {run}): put it back") from error
        followed = last_runs[beginnings.student(phase, run)] != (phase, run)
        terminated, truncated = _end(rows, recorded.config.env, followed)
        actions = np.clip(np.array([row_action(row) for row in rows], np.float32), -1, 1)
        yield Episode(
            phase=phase,
            run=run,
            seed=beginnings.seed(phase, run),
            observations=_observations(recorded.task, begun, actions, infos),
            actions=actions,
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            infos=_stacked([_first_info(begun), *infos]),
        )


def _by_run(recorded: Recorded) -> dict[tuple[str, int], list[Row]]:
    """Return the rows of each run; those of several students alternate."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in recorded.rows:
        groups.setdefault((row["phase"], int(row["run"])), []).append(row)
    for (phase, run), rows in groups.items():
        if [int(row["round"]) for row in rows] != list(range(1, len(rows) + 1)):
            path = recorded.directory.rounds.path
            raise ConfigError(f"{path} is damaged: {phase} run {run} lacks rounds or has some twice; put it back")
    return groups


def _end(rows: list[Row], config: DistillConfig, followed: bool) -> tuple[bool, bool]:
    """Tell how a run ended: terminated, truncated.

    Args:
        rows: Of the run.
        config: Its task.
        followed: Whether another run followed in the same environment, so that this one was not cut off.
    """
    if rows[-1]["diverged"] == "True":
        return True, False
    gaps = [float(row["gap"]) for row in rows[-PARITY_ROUNDS:]]
    at_parity = config.score_images is None and len(gaps) == PARITY_ROUNDS and min(gaps) >= 0
    stopped = config.stop_at_parity and (at_parity or (followed and len(rows) < config.rounds))
    parity, timed = PARITY_ROUNDS * stopped, sees_time(config.observation)
    terminated, _ = ends(len(rows), budget=config.rounds, parity=parity, sees_time=timed)
    return terminated, not terminated


def _observations(
    task: DistillationTask, begun: Run, actions: NDArray[np.float32], infos: list[Infos]
) -> NDArray[np.float32]:
    """Observe as `fusion_env.run.Run` did, which keeps the last finite observation where the student diverged."""
    seen, before = [begun.observation], begun.student
    for number, (action, info) in enumerate(zip(actions, infos, strict=True), 1):
        if info["diverged"]:
            seen.append(seen[-1])
            continue
        losses = info["losses"]
        seen.append(
            task.observer.observe(
                info["student"],
                info["teacher"],
                before=before,
                losses=(losses["guidance"], losses["self_learning"]),
                guidance_share=info["guidance_share"],
                action=action.tolist(),
                used_budget=number / task.config.rounds,
            )
        )
        before = info["student"]
    return np.stack(seen)


def _first_info(begun: Run) -> Infos:
    info = run_info(begun)
    del info["report"]
    return info


def _stacked(infos: list[Infos]) -> Infos:
    """Turn mappings of one structure into one mapping to arrays; the keys are those of the last."""
    return {
        key: _stacked([info[key] for info in infos])
        if isinstance(value, dict)
        else np.array([info[key] for info in infos])
        for key, value in infos[-1].items()
    }
