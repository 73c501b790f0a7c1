"""Runs of the real environment: those that the surrogate is fitted to, and those of other policies to judge it by."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import agents
from experiments.running.config import RunConfig
from experiments.running.policies import run_config
from experiments.running.run import run
from fusion_env.action import ACTION_SIZE
from fusion_env.config import preset
from fusion_env.data import Progress

__all__ = ["SETTINGS", "RandomSchedules", "fit_runs", "held_out_runs", "make_runs"]

SETTINGS = {"student_init": "embedded", "teacher": "embedded", "threads": 1}
"""What differs from the preset `tiny`, whose own student has learned so little that crops decide more than policies."""

_PRESET = "tiny"
_FIT_SEED, _HELD_OUT_SEED = 1, 0
_SCHEDULES, _RANDOM, _LEARNED = 100, 8, 6
_CONSTANTS, _LINES, _TRAINED, _JUDGED = 8, 7, 10, 4
_LEARNERS = ("reinforce", "ppo", "sac")
# Agents meet the bounds often: their samples are clipped there.
_WIDER = 1.5


class RandomSchedules(agents.Random):
    """Draw a line from one action to another for each run, a constant in one run of three.

    Actions are uniform in a box half as large again as the space and clipped to it. It is for one environment.
    """

    def _forget_episodes(self) -> None:
        self._line, self._step = np.zeros((2, ACTION_SIZE)), 0

    def _act(self, obs: np.ndarray) -> tuple[np.ndarray, None]:
        if self._last_episode_starts[0]:  # type: ignore[index]  # they are set before the first step
            start, end, (chance, *_) = self._stream.uniform(self.action_space, 3)
            self._line, self._step = np.clip(_WIDER * np.array([start, start if chance < -1 / 3 else end]), -1, 1), 0
        action = agents.ActionSchedule(*self._line, preset(_PRESET).rounds).action(self._step)
        self._step += 1
        return action[None], None


def fit_runs() -> dict[str, RunConfig]:
    """Return the runs to fit to, by the name of their folder."""
    schedules = f"{__name__}:{RandomSchedules.__name__}"
    configs = {
        "schedules": _learning(schedules, _FIT_SEED, _SCHEDULES),
        "random": _learning("random", _FIT_SEED, _RANDOM),
    }
    configs |= {name: _learning(name, _FIT_SEED, _LEARNED) for name in _LEARNERS}
    return {f"fit-{name}": config for name, config in configs.items()}


def held_out_runs() -> dict[str, RunConfig]:
    """Return the runs of the policies to rank, by the name of their folder; a trained one is frozen first."""
    rng = np.random.default_rng(_HELD_OUT_SEED)

    def drawn() -> list[float]:
        return np.clip(rng.uniform(-_WIDER, _WIDER, ACTION_SIZE), -1, 1).tolist()

    fixed: dict[str, tuple[str, dict[str, Any]]] = {
        **{f"constant-{number}": ("constant", {"action": drawn()}) for number in range(_CONSTANTS)},
        **{f"linear-{number}": ("linear", {"start": drawn(), "end": drawn()}) for number in range(_LINES)},
        **{name: (name, {}) for name in ("constant", "linear", "random")},
    }
    configs = {
        label: _learning(name, _HELD_OUT_SEED, _JUDGED, agent_settings=settings)
        for label, (name, settings) in fixed.items()
    }
    for name in _LEARNERS:
        configs[name] = _learning(name, _HELD_OUT_SEED, _TRAINED, protocol="across", eval_runs=_JUDGED)
    return {f"held-out-{label}": config for label, config in configs.items()}


def _learning(name: str, seed: int, runs: int, **fields: Any) -> RunConfig:
    return run_config(name, _PRESET, SETTINGS, runs=runs, seed=seed, details=False, **fields)


def make_runs(configs: Mapping[str, RunConfig], folder: Path, progress: Progress) -> list[Path]:
    """Make the runs, each in its folder; finished ones are kept, and interrupted ones go on.

    Args:
        configs: The runs by the name of their folder.
        folder: Gets a folder for each.
        progress: Progress display over them.

    Returns:
        Their folders.

    Raises:
        FusionEnvError: See `experiments.running.run.run`.
    """
    for name in progress(list(configs), "runs"):
        run(configs[name], folder / name)
    return [folder / name for name in configs]
