"""Runs of the real environment: those that the surrogate is fitted to, and those of other policies to judge it by."""

from typing import Any

import numpy as np

import agents
from experiments.running.collected import Collected, collect
from fusion_env.action import ACTION_SIZE
from fusion_env.config import preset

__all__ = ["SETTINGS", "Collected", "Policies", "RandomSchedules", "collect", "fit_runs", "held_out_runs"]

Policies = dict[str, dict[str, Any]]
"""For the name of each folder, arguments of `experiments.running.policies.run_config`."""

SETTINGS = {
    "student_init": "embedded",
    "teacher": "embedded",
    "score_metrics": ("vif", "iqa"),  # the model knows the indicators of the observation, which SSIM is not
    "threads": 1,
}
"""What differs from the preset `tiny`, whose own student has learned so little that crops decide more than policies."""

_PRESET = "tiny"
_FIT_SEED, _HELD_OUT_SEED = 1, 0
_SCHEDULES, _RANDOM, _LEARNED = 80, 8, 6
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
        start, end = self._line
        action = agents.ActionSchedule(start, end, preset(_PRESET).rounds).action(self._step)
        self._step += 1
        return action[None], None


def fit_runs() -> Policies:
    """Return the policies to fit to."""
    schedules = f"{__name__}:{RandomSchedules.__name__}"
    policies = {
        "schedules": _policy(schedules, _FIT_SEED, _SCHEDULES),
        "random": _policy("random", _FIT_SEED, _RANDOM),
        **{name: _policy(name, _FIT_SEED, _LEARNED) for name in _LEARNERS},
    }
    return {f"fit-{label}": policy for label, policy in policies.items()}


def held_out_runs() -> Policies:
    """Return the policies to rank; those that learn are frozen for the runs that count."""
    rng = np.random.default_rng(_HELD_OUT_SEED)

    def drawn() -> list[float]:
        return np.clip(rng.uniform(-_WIDER, _WIDER, ACTION_SIZE), -1, 1).tolist()

    fixed: dict[str, tuple[str, dict[str, Any]]] = {
        **{f"constant-{number}": ("constant", {"action": drawn()}) for number in range(_CONSTANTS)},
        **{f"linear-{number}": ("linear", {"start": drawn(), "end": drawn()}) for number in range(_LINES)},
        **{name: (name, {}) for name in ("constant", "linear", "random")},
    }
    policies = {
        label: _policy(name, _HELD_OUT_SEED, _JUDGED, agent_settings=settings)
        for label, (name, settings) in fixed.items()
    }
    for name in _LEARNERS:
        policies[name] = _policy(name, _HELD_OUT_SEED, _TRAINED, protocol="across", eval_runs=_JUDGED)
    return {f"held-out-{label}": policy for label, policy in policies.items()}


def _policy(name: str, seed: int, runs: int, **fields: Any) -> dict[str, Any]:
    common = {"preset_name": _PRESET, "settings": SETTINGS, "details": False}
    return {"name": name, "seed": seed, "runs": runs, **common, **fields}
