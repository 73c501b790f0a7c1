"""Count the updates of a policy: the steps that changed how it acts."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

__all__ = ["UpdateCounter", "gradient_updates"]

# What Stable-Baselines3's policies call the parts that judge and do not act.
_JUDGING = ("value", "critic", "vf_")


def gradient_updates(model: BaseAlgorithm) -> int:
    """Count the updates of the policy so far.

    One update is one step of the optimiser that owns the *acting* policy's parameters, so that the number can be
    compared between algorithms: a minibatch of PPO, a rollout of A2C, a gradient step of SAC or TQC, every
    `policy_delay`-th gradient step of TD3 or CrossQ, one group of windows of REINFORCE. What moves these parameters
    without an optimiser counts its own moves: a population of ARS, a line search of TRPO. Stable-Baselines3's own
    `n_updates` counts epochs for PPO and critic steps for TD3.

    The optimiser's own step counter is read where it keeps one (Adam, RMSprop, and Optax for SBX), `n_updates`
    otherwise (SGD). It counts a step of length zero, too: :class:`UpdateCounter` does not.

    Returns:
        The number; 0 for what does not learn.
    """
    jax_state = _jax_state(model)
    if jax_state is not None:
        return int(jax_state.step)
    optimizer = getattr(getattr(model, "actor", getattr(model, "policy", None)), "optimizer", None)
    if not isinstance(optimizer, torch.optim.Optimizer):
        return model._n_updates
    state = optimizer.state
    steps = [state[item]["step"] for item in _torch_parameters(model) if "step" in state.get(item, ())]
    if steps:
        return int(max(steps))
    # An optimiser that counts and has no state yet made no step, however often the critic's did.
    counts = not isinstance(optimizer, torch.optim.SGD)
    return 0 if counts and not state else model._n_updates // getattr(model, "policy_delay", 1)


class UpdateCounter:
    """Count the updates that changed the acting policy, between moments at which it is looked at.

    What :func:`gradient_updates` gained since the last look counts where a parameter of the acting policy has another
    value than then, and nothing otherwise: a learning rate or an advantage of zero, a line search that found nothing.

    Args:
        model: The algorithm.
        count: Updates before this moment.
    """

    def __init__(self, model: BaseAlgorithm, count: int = 0) -> None:
        self.count = count
        self._parameters, self._steps = _acting_parameters(model), gradient_updates(model)

    def look(self, model: BaseAlgorithm) -> None:
        """Count what was made since the last look."""
        parameters, steps = _acting_parameters(model), gradient_updates(model)
        if not all(map(np.array_equal, parameters, self._parameters)):
            self.count += max(steps - self._steps, 1)  # what changed was updated, whatever a counter says
        self._parameters, self._steps = parameters, steps


def _acting_parameters(model: BaseAlgorithm) -> list[np.ndarray]:
    """Copy the parameters that decide about actions; none where there are none."""
    jax_state = _jax_state(model)
    if jax_state is not None:
        return list(_leaves(jax_state.params))
    return [parameter.detach().cpu().numpy().copy() for parameter in _torch_parameters(model)]


def _torch_parameters(model: BaseAlgorithm) -> list[nn.Parameter]:
    network = getattr(model, "actor", getattr(model, "policy", None))
    if not isinstance(network, nn.Module):
        return []
    return [item for name, item in network.named_parameters() if not any(part in name for part in _JUDGING)]


def _jax_state(model: BaseAlgorithm) -> Any:
    """Return the state of an actor of SBX: its parameters and the number of its steps; None for other algorithms."""
    return getattr(getattr(model, "policy", None), "actor_state", None)


def _leaves(tree: Any) -> Iterator[np.ndarray]:
    if isinstance(tree, Mapping):
        for name in sorted(tree):  # compiled functions of JAX return them so, whatever the order was
            yield from _leaves(tree[name])
    else:
        yield np.array(tree)
