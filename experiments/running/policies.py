"""What a policy's name means in an experiment: agent, settings, and what it changes in the task."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

import agents
from agents.stable_baselines import TD3
from experiments.running.config import RunConfig
from fusion_env import tasks
from fusion_env.action import ACTION_SIZE, encode_action, even_action, even_degradation
from fusion_env.config import DistillConfig
from fusion_env.errors import ConfigError

__all__ = ["EVAL_RUNS", "MOST_GUIDANCE", "PolicySetup", "names", "policy_setup", "run_config"]

EVAL_RUNS = 5
"""Runs of a frozen agent unless told otherwise."""

# The control: `constant` on a task without self-learning loss.
_GUIDANCE_ONLY = "guidance-only"

# Shares of each degradation's range.
_GENTLE, _MEDIUM = 0.25, 0.5

MOST_GUIDANCE = [1.0, *[-1.0] * (ACTION_SIZE - 1)]
"""The action of the largest guidance weight that there is, without degradation."""

# Guidance weight of a start that is mostly imitation.
_IMITATING = 0.9

# Spread of the first actions of everything that learns.
_FIRST_STD = 0.5


def names() -> tuple[str, ...]:
    """Return the names of all policies that come with the package."""
    return (*agents.names(), _GUIDANCE_ONLY)


def run_config(
    name: str,
    preset_name: str,
    settings: Mapping[str, Any],
    *,
    learning_runs: int = 1,
    agent_settings: Mapping[str, Any] | None = None,
    **fields: Any,
) -> RunConfig:
    """Return the configuration of a run of a policy.

    Args:
        name: The policy's; see `policy_setup`.
        preset_name: Starting point of the task's settings.
        settings: Fields of `DistillConfig` that differ from it, but for those that the policy itself sets.
        learning_runs: What `runs` is where it is not among `fields`; under `across` a policy that cannot learn has 0.
        agent_settings: Settings of the agent that differ from the policy's.
        **fields: Other fields of `RunConfig`; the settings of `task` go over the preset's.

    Raises:
        FusionEnvError: There is nothing of a name, or a value is out of range.
    """
    env = tasks.config(fields.get("task"), preset_name, **settings)
    setup = policy_setup(name, env)
    if fields.get("protocol") == "across":
        defaults = {"runs": learning_runs if setup.learns else 0, "eval_runs": EVAL_RUNS}
    else:
        defaults = {"runs": learning_runs}
    return RunConfig(
        env=env.replace(**setup.env),
        preset=preset_name,
        agent=setup.agent,
        # A saved agent has settings of its own.
        agent_settings={} if fields.get("policy") else _merged(setup.settings, agent_settings or {}),
        **defaults | fields,
    )


def _merged(usual: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an agent; without a first policy where its noise depends on the observation."""
    left_out = {"initial_mean", "initial_std"} if given.get("use_sde") else set()
    return {name: value for name, value in {**usual, **given}.items() if name not in left_out}


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
    of every degradation. A run is short, so that it matters where a learner starts: all that come with the package
    have the same first policy, normal around the strengths of `constant` with as little self-learning as `linear`.
    `planner` starts there, too; besides, it always tries as much guidance as there is without degradation, and where
    `constant` stands.

    Args:
        name: A name of `agents.names`, `guidance-only`, or something to import (``"module:Factory"``,
            ``"file.py:Class"``): an algorithm of Stable-Baselines3's family learns, a policy is not trained.
        config: The task.

    Raises:
        ConfigError: There is nothing of this name, or the task's `logit_scale` is too small for where it starts.
    """
    try:
        found = agents.algorithm("constant" if name == _GUIDANCE_ONLY else name)
    except (ValueError, ImportError) as error:
        raise ConfigError(str(error)) from error
    try:
        settings = _settings(name, found, config)
    except ValueError as error:
        raise ConfigError(f"policy {name!r}: {error}") from error
    if name == _GUIDANCE_ONLY:
        return PolicySetup("constant", settings, {"self_learning": False}, learns=False)
    unlearned = (agents.Constant, agents.Linear, agents.Planner, agents.Random, agents.Wrapped)
    return PolicySetup(name, settings, learns=found not in unlearned)


def _settings(name: str, found: type[BaseAlgorithm], config: DistillConfig) -> dict[str, Any]:
    """Return the settings of an agent's class that place it on the task."""
    scale = config.logit_scale
    if name in ("constant", _GUIDANCE_ONLY):
        return {"action": encode_action(**vars(even_degradation(_GENTLE)), logit_scale=scale).tolist()}
    if name == "linear":
        start = encode_action(guidance=_IMITATING, logit_scale=scale)
        end = encode_action(**vars(even_degradation(_MEDIUM)), logit_scale=scale)
        return {"start": start.tolist(), "end": end.tolist(), "rounds": config.rounds}
    if found is agents.Planner:
        start, equal = (even_action(_GENTLE, guidance=weight, logit_scale=scale) for weight in (_IMITATING, 0.5))
        return {"start": start.tolist(), "anchors": [MOST_GUIDANCE, equal.tolist()]}
    if name in agents.names() and issubclass(found, (agents.Reinforce, agents.FirstPolicy)):
        mean = even_action(_GENTLE, guidance=_IMITATING, logit_scale=scale).tolist()
        # A deterministic policy explores by its noise.
        spread = "action_noise" if issubclass(found, TD3) else "initial_std"
        return {"initial_mean": mean, spread: _FIRST_STD}
    return {}
