"""A planner: try several actions on copies of the environment, and do what came out best."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import is_vectorized_observation
from stable_baselines3.common.vec_env import VecEnv

from agents.schedules import Vector, vector_inside
from agents.settings import hint
from agents.stepwise import Unlearned

__all__ = ["OBJECTIVES", "PlanState", "Planner"]

OBJECTIVES: dict[str, Callable[[Sequence[float]], float]] = {
    "best": max,
    "last": lambda rewards: rewards[-1],
    "sum": sum,
}
"""What a trial is judged by: the best of its rewards, the last one, or their sum."""

PlanState = tuple[NDArray[np.int64], NDArray[np.floating]]
"""Of each environment the steps of its episode [E] and the action that it holds [E, ...]."""


class Planner(Unlearned):
    """Plan with a rolling horizon on copies of the environment, which its method ``fork()`` makes.

    Every `execute` steps, `candidates` actions are tried, each on a copy of its own and held there for `lookahead`
    steps or until the episode ends: the action so far, the `anchors`, and of those that are left one half drawn around
    the action so far and one half uniformly. The best is then done for `execute` steps; of equals the first, so that
    nothing changes without a reason. The draws around it are normal with a standard deviation of
    ``width / sqrt(number of the plan in its episode)``.

    The copies are of the innermost environment: wrappers see nothing of them, and must not change actions; a time limit
    among them does not end a copy. The environment itself, its random streams included, stays as it is.

    `learn` acts; `plan` does so outside of it. `predict` knows no environment that it could copy, and returns the
    action of the last plan.

    Args:
        policy: None.
        env: See :class:`Unlearned`, as for the other arguments. Its innermost environment must have ``fork(seed)``.
        candidates: Actions to try, the one so far and the anchors among them.
        lookahead: Steps for which each is tried; None for the rest of the episode, which must have an end.
        execute: Steps for which the best is done; at most `lookahead`.
        objective: Judge a trial by the ``"best"`` of its rewards, by the ``"last"`` or by their ``"sum"``.
        start: The first action so far: one number, or one per dimension, in the units of the action space; None is 0,
            or the bound nearest to it.
        anchors: Actions that every plan tries, each like `start`.
        width: Standard deviation of the first draws around the action so far, where the bounds are 1 from the centre.
        foresight: Copies draw what the environment itself will draw. Otherwise all copies of a plan have one other
            seed: what comes of an action is then an estimate.
        **common: The other arguments of :class:`Unlearned`.

    Attributes:
        planning_rounds: Steps of copies so far.
        watch: Called with `planning_rounds` after each step of a copy, to show progress; None calls nothing.

    Raises:
        ValueError: A setting is out of range, or the environment has no ``fork``.
    """

    def __init__(
        self,
        policy: None = None,
        env: GymEnv | str | None = None,
        candidates: int = 8,
        lookahead: int | None = 5,
        execute: int = 5,
        objective: str = "last",
        start: Vector | None = None,
        anchors: Sequence[Vector] = (),
        width: float = 0.5,
        foresight: bool = True,
        **common: Any,
    ) -> None:
        self.candidates, self.lookahead, self.execute = candidates, lookahead, execute
        self.objective, self.start, self.anchors = objective, start, anchors
        self.width, self.foresight = width, foresight
        self.planning_rounds = 0
        self.watch: Callable[[int], None] | None = None
        self._state: PlanState | None = None
        super().__init__(policy, env, **common)

    def _setup_model(self) -> None:
        super()._setup_model()
        space = self.action_space
        self._start = vector_inside("start", self.start, space).astype(space.dtype)
        self._anchors = [vector_inside("anchors", anchor, space).astype(space.dtype) for anchor in self.anchors]
        for name, low in {"candidates": 1 + len(self._anchors), "lookahead": 1, "execute": 1}.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{name} must be {low} or more. Got {value}.")
        if self.lookahead is not None and self.execute > self.lookahead:
            raise ValueError(
                f"execute must be at most lookahead={self.lookahead}, as far as is seen. Got {self.execute}."
            )
        if self.objective not in OBJECTIVES:
            known = ", ".join(OBJECTIVES)
            raise ValueError(f"no objective {self.objective!r}.{hint(self.objective, OBJECTIVES)} Known: {known}.")
        if not (math.isfinite(self.width) and self.width >= 0):
            raise ValueError(f"width must be a standard deviation of 0 or more. Got {self.width!r}.")
        if self.env is not None and not self.env.has_attr("fork"):
            raise ValueError(
                "the planner tries actions on copies of the environment, and this one cannot make any: it needs a "
                f"method fork(seed=None) that returns an independent copy. Got {self.env.get_attr('unwrapped')[0]}."
            )

    def _act(self, obs: np.ndarray) -> tuple[np.ndarray, None]:
        actions, self._state = self.plan(self.env, self._state, self._last_episode_starts)
        self.logger.record("plan/rounds", self.planning_rounds)
        return actions, None

    def _forget_episodes(self) -> None:
        self._state = None

    def plan(
        self, env: VecEnv, state: PlanState | None = None, episode_start: ArrayLike | None = None
    ) -> tuple[np.ndarray, PlanState]:
        """Return the next action of each environment; it plans where it is time to.

        Args:
            env: The environments as they stand before the step.
            state: What the call before returned; None begins an episode in each.
            episode_start: Whether an episode begins, for each environment [E]; None stands for no.

        Returns:
            Actions [E, ...], and the state for the next call.

        Raises:
            ValueError: A copy has other actions than the environment, or pays what is not finite; or `state` or
                `episode_start` belong to another number of environments.
        """
        if state is None:
            state = np.zeros(env.num_envs, np.int64), np.repeat(self._start[None], env.num_envs, axis=0)
        steps, held = state[0].copy(), state[1].copy()
        if len(steps) != env.num_envs:
            raise ValueError(f"the state must be that of {env.num_envs} environment(s). Got one of {len(steps)}.")
        if episode_start is not None:
            begins = np.asarray(episode_start, bool)
            if begins.shape != steps.shape:
                raise ValueError(f"episode_start must be that of {env.num_envs} environment(s). Got {begins.size}.")
            steps[begins], held[begins] = 0, self._start
        for index in np.flatnonzero(steps % self.execute == 0).tolist():
            held[index] = self._best(env, index, held[index], int(steps[index]) // self.execute)
        return held.copy(), (steps + 1, held)

    def _best(self, env: VecEnv, index: int, held: NDArray[np.floating], plans: int) -> NDArray[np.floating]:
        """Return the best candidate of an environment that has made so many plans in its episode."""
        other = int(torch.randint(2**31, (), generator=self._stream.generator, device="cpu"))
        seed = () if self.foresight else (other,)
        tried = self._draw(held, self.width / math.sqrt(plans + 1))
        return tried[int(np.argmax([self._try(env, index, action, seed) for action in tried]))]

    def _draw(self, held: NDArray[np.floating], width: float) -> list[NDArray[np.floating]]:
        space = self.action_space
        named = [held, *(anchor for anchor in self._anchors if not np.array_equal(anchor, held))]
        free = self.candidates - len(named)
        noise = self._stream.normal(((free + 1) // 2, *space.shape), torch.device("cpu")).numpy()
        near = np.clip(held + width * noise * (space.high - space.low) / 2, space.low, space.high).astype(space.dtype)
        return [*named, *near, *self._stream.uniform(space, free // 2)]

    def _try(self, env: VecEnv, index: int, action: NDArray[np.floating], seed: tuple[int, ...]) -> float:
        fork = env.env_method("fork", *seed, indices=index)[0]
        if fork.action_space != self.action_space:
            raise ValueError(
                f"the planner cannot act through wrappers that change actions: they take {self.action_space}, and what "
                f"fork() returns takes {fork.action_space}. Wrap it without them."
            )
        rewards = []
        for _ in itertools.count() if self.lookahead is None else range(self.lookahead):
            _, reward, terminated, truncated, _ = fork.step(action)
            rewards.append(float(reward))
            self.planning_rounds += 1
            if self.watch is not None:
                self.watch(self.planning_rounds)
            if not math.isfinite(rewards[-1]):
                raise ValueError(f"a copy of the environment paid {reward} for {action.tolist()}: correct it.")
            if terminated or truncated:
                break
        return OBJECTIVES[self.objective](rewards)

    def predict(  # type: ignore[override]  # observations are arrays
        self,
        observation: np.ndarray,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, None]:
        """Return the action of the last plan, in the first environment; `start` before that. Nothing is planned.

        Args:
            observation: One observation or a batch [E, ...]; only the shape is looked at.
            state: Makes no difference.
            episode_start: Makes no difference.
            deterministic: Makes no difference.

        Returns:
            Action [A] or actions [E, A], and None.
        """
        action = self._start if self._state is None else self._state[1][0]
        is_batch = is_vectorized_observation(observation, self.observation_space)
        return (np.repeat(action[None], len(observation), axis=0) if is_batch else action.copy()), None

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "watch"]
