"""Environments whose returns and optima are known, and policies for them, importable from other processes."""

import copy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv


class Forked(gym.Env):
    """An environment that can be copied where it stands."""

    def fork(self, seed: int | None = None) -> "Forked":
        other = copy.deepcopy(self)
        if seed is not None:
            other._np_random = np.random.default_rng(seed)
        return other


class Target(Forked):
    """Pay minus the squared distance to a hidden action; the observation is almost constant."""

    def __init__(self, length: int = 6, constant: float | None = None, bound: float = 1.0, dims: int = 2) -> None:
        self.observation_space = gym.spaces.Box(-10, 10, (3,), np.float32)
        self.action_space = gym.spaces.Box(-bound, bound, (dims,), np.float32)
        self.length, self.constant = length, constant
        self.optimum = np.linspace(0.5, -0.5, dims, dtype=np.float32) * bound
        self.actions: list[np.ndarray] = []
        self.rewards: list[float] = []

    def _obs(self) -> np.ndarray:
        return np.array([1.0, self.steps / self.length, -1.0], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.steps = 0
        return self._obs(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.action_space.contains(action)
        self.steps += 1
        reward = -float(np.sum((action - self.optimum) ** 2)) if self.constant is None else self.constant
        self.actions.append(action)
        self.rewards.append(reward)
        return self._obs(), reward, False, self.steps >= self.length, {}


class Walk(Forked):
    """Pay the closeness to a target that jumps about; the whole state can be saved and restored."""

    def __init__(self, length: int = 7, low: float = -1.0, high: float = 1.0) -> None:
        self.observation_space = gym.spaces.Box(-10, 10, (3,), np.float32)
        self.action_space = gym.spaces.Box(low, high, (2,), np.float32)
        self.length = length
        self.log: list[np.ndarray] = []

    def _obs(self) -> np.ndarray:
        return np.concatenate([self.target, [self.steps / self.length]]).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.steps, self.target = 0, self.np_random.uniform(-1, 1, 2)
        return self._obs(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.log.append(np.array(action))
        self.steps += 1
        reward = -float(np.abs(action - self.target).sum())
        self.target = np.clip(self.target + self.np_random.normal(0, 0.1, 2), -1, 1)
        return self._obs(), reward, False, self.steps >= self.length, {"step": self.steps}

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.np_random.bit_generator.state, "steps": self.steps, "target": self.target.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.np_random.bit_generator.state = state["rng"]
        self.steps, self.target = state["steps"], np.array(state["target"])


def monitored_walk() -> Monitor:
    return Monitor(Walk())


def vector_env(count: int, length: int = 6) -> DummyVecEnv:
    """Several targets in one process."""
    return DummyVecEnv([lambda: Monitor(Target(length)) for _ in range(count)])


def falling(remaining: float) -> float:
    """A learning rate that shows where in the run an algorithm believes itself to be."""
    return 0.001 + 0.002 * remaining


class Follower:
    """Repeat the first two numbers of the observation, scaled; remember the calls of each environment in the state."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self.calls: list[dict[str, Any]] = []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        self.calls.append({"state": state, "episode_start": episode_start, "deterministic": deterministic})
        counts = np.zeros(len(observation), int) if state is None else np.where(episode_start, 0, state)
        return self.scale * np.asarray(observation)[..., :2], counts + 1


class SavedFollower(Follower):
    """A policy that saves itself."""

    def save(self, path: str) -> None:
        Path(path).write_text(str(self.scale))

    @classmethod
    def load(cls, path: str) -> "SavedFollower":
        return cls(float(Path(path).read_text()))


def follower_for(env: gym.Env, scale: float = 0.5) -> Follower:
    """A factory that looks at the environment."""
    assert env.action_space.shape == (2,)
    return Follower(scale)
