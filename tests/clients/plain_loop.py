"""What a client did with an environment, done again in a plain loop."""

from collections.abc import Sequence

import gymnasium
import numpy as np
from numpy.typing import ArrayLike

from fusion_env.env import LastRun

ID = "fusion_env:fusion_env/FusionDistillTiny-v0"
ROUNDS = 2

Calls = Sequence[int | np.ndarray | None]
"""A seed or None for each `reset`, an action for each `step`."""


class Recorder(gymnasium.Wrapper):
    """Keeps the calls of a client."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.calls: list[int | np.ndarray | None] = []

    def reset(self, *, seed=None, options=None):
        self.calls.append(seed)
        return self.env.reset(seed=seed, options=options)

    def step(self, action):
        self.calls.append(np.array(action))
        return self.env.step(action)


def assert_same(env: gymnasium.Env, calls: Calls, rewards: ArrayLike, left: LastRun) -> None:
    """Make a client's calls on a fresh environment, and compare its rewards and the student it left, bit for bit."""
    got, expected = np.asarray(rewards), []
    for call in calls:
        if isinstance(call, np.ndarray):
            expected.append(env.step(call)[1])
        else:
            env.reset(seed=call)
    assert len(expected) > 0
    # Some clients keep rewards as float32.
    np.testing.assert_array_equal(got, np.array(expected, got.dtype))
    last_run, start = env.unwrapped.last_run, env.unwrapped.task.stage0
    for name, weights in left.last_student.items():
        assert (weights == last_run.last_student[name]).all()
    assert any((weights != start[name]).any() for name, weights in left.last_student.items())
