"""Students and agents that broke: weights or actions that are not finite any more."""

import logging
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

from fusion_env.config import DistillConfig

__all__ = ["cannot_act", "has_finite_weights", "warn_of_divergence"]

_logger = logging.getLogger(__name__)


def has_finite_weights(agent: BaseAlgorithm) -> bool:
    """Tell whether all weights of an agent's networks are finite; so it is where there are none."""
    return all(bool(parameter.isfinite().all()) for parameter in _network(agent).parameters())


def cannot_act(agent: BaseAlgorithm) -> bool:
    """Tell whether an agent has no finite action for what it observed last.

    Finite weights can be so large that the distribution of the actions does not exist. Nothing random is drawn from
    the generators that learning uses, but for policies that draw whatever they are asked.
    """
    if not has_finite_weights(agent):
        return True
    try:
        action, _ = agent.predict(agent._last_obs, deterministic=True)  # type: ignore[arg-type]
    except ValueError:
        return next(_network(agent).parameters(), None) is not None  # PyTorch's distributions check their parameters
    return not bool(np.isfinite(action).all())


def _network(agent: BaseAlgorithm) -> nn.Module:
    """Return an agent's network; one without parameters where it has none."""
    policy = getattr(agent, "policy", None)
    return policy if isinstance(policy, nn.Module) else nn.Identity()


def warn_of_divergence(run: int, info: dict[str, Any], config: DistillConfig) -> None:
    """Log it where a step's info says that the student diverged.

    Args:
        run: Number of the run, from 0.
        info: The step's info.
        config: The task.
    """
    if info["diverged"]:
        _logger.warning(
            "run %d: the student diverged in round %d of %d with learning_rate=%g; its last finite weights are kept",
            run,
            info["round"],
            config.rounds,
            config.learning_rate,
        )
