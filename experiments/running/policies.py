"""What a policy's name means in an experiment: agent, settings, and what it changes in the task."""

from dataclasses import dataclass, field
from typing import Any

import agents
from fusion_env.action import encode_action, even_action, even_degradation
from fusion_env.config import DistillConfig
from fusion_env.errors import ConfigError

__all__ = ["GUIDANCE_ONLY", "PolicySetup", "policy_setup"]

GUIDANCE_ONLY = "guidance-only"
"""The control: `constant` on a task without self-learning loss."""

# Shares of each degradation's range.
_GENTLE, _MEDIUM = 0.25, 0.5

# Guidance weight of a start that is mostly imitation.
_IMITATING = 0.9


@dataclass(frozen=True)
class PolicySetup:
    """How a policy enters an experiment.

    Attributes:
        agent: Name for `agents.make`.
        settings: Settings for it.
        env: Changes of the task's configuration.
        learns: Whether learning runs can change what it does.
    """

    agent: str
    settings: dict[str, Any] = field(default_factory=dict)
    env: dict[str, Any] = field(default_factory=dict)
    learns: bool = True


def policy_setup(name: str, config: DistillConfig) -> PolicySetup:
    """Return the setup of a policy on a task.

    The hand-made policies act in the middle of what the agents can do: `constant` weighs both losses equally at a
    quarter of every degradation; `linear` goes from little self-learning without degradation to equal weights at half
    of every degradation. REINFORCE has one run to learn in, so that it matters where it starts: `reinforce-paper`
    where `constant` stands, `reinforce` at the same strengths with as little self-learning as `linear`, which
    docs/results/benchmark-results.md gives the reason for.

    Args:
        name: A name of `agents.names`, `guidance-only`, or something to import (``"module:Factory"``,
            ``"file.py:Class"``): an algorithm of Stable-Baselines3's family learns, a policy is not trained.
        config: The task.

    Raises:
        ConfigError: There is nothing of this name.
    """
    try:
        found = agents.algorithm("constant" if name == GUIDANCE_ONLY else name)
    except (ValueError, ImportError) as error:
        raise ConfigError(str(error)) from error
    gentle, medium = (vars(even_degradation(share)) for share in (_GENTLE, _MEDIUM))
    middle = encode_action(guidance=0.5, **gentle, logit_scale=config.logit_scale).tolist()
    if name == GUIDANCE_ONLY:
        return PolicySetup("constant", {"action": middle}, {"self_learning": False}, learns=False)
    if name == "constant":
        return PolicySetup(name, {"action": middle}, learns=False)
    if name == "linear":
        start = encode_action(guidance=_IMITATING, logit_scale=config.logit_scale).tolist()
        end = encode_action(guidance=0.5, **medium, logit_scale=config.logit_scale).tolist()
        return PolicySetup(name, {"start": start, "end": end, "rounds": config.rounds}, learns=False)
    if found is agents.Reinforce:
        guidance = 0.5 if name == "reinforce-paper" else _IMITATING
        start = even_action(_GENTLE, guidance=guidance, logit_scale=config.logit_scale).tolist()
        return PolicySetup(name, {"initial_mean": start})
    return PolicySetup(name, learns=found not in (agents.Random, agents.Wrapped))
