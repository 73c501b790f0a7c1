"""Observations and rewards brought to one scale while an agent learns, and the scale that it keeps afterwards."""

from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

__all__ = ["ATTRIBUTE", "keep_normalization", "normalized_as_learned"]

ATTRIBUTE = "observation_normalization"
"""Attribute of an agent: ``mean`` and ``var`` of the observations it learned from, ``epsilon`` and ``clip``."""


def keep_normalization(agent: BaseAlgorithm) -> None:
    """Let an agent that learned on `VecNormalize` keep the statistics of its observations; others are left alone.

    They become an attribute, which Stable-Baselines3's `save` writes into the agent's own file: without them the agent
    is of no use, and a file beside it would be lost.
    """
    wrapper = agent.get_vec_normalize_env()
    if wrapper is not None:
        seen: Any = wrapper.obs_rms
        moments = {"mean": seen.mean.tolist(), "var": seen.var.tolist()}
        setattr(agent, ATTRIBUTE, {**moments, "epsilon": wrapper.epsilon, "clip": wrapper.clip_obs})


def normalized_as_learned(env: VecEnv, agent: BaseAlgorithm) -> VecEnv:
    """Give an agent observations on the scale on which it learned, frozen; rewards stay as they are.

    Args:
        env: Environment for the agent to act in.
        agent: The agent, with what `keep_normalization` left on it, if anything.
    """
    kept = getattr(agent, ATTRIBUTE, None)
    if kept is None:
        return env
    wrapper = VecNormalize(env, training=False, norm_reward=False, epsilon=kept["epsilon"], clip_obs=kept["clip"])
    seen: Any = wrapper.obs_rms
    seen.mean, seen.var = np.array(kept["mean"]), np.array(kept["var"])
    return wrapper
