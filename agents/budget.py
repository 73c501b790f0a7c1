"""Do the settings of an algorithm fit a number of steps? Counting of gradient updates."""

import math
import warnings

from stable_baselines3 import A2C, PPO, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

__all__ = ["check_budget", "gradient_updates", "planned_updates", "rollout_length"]

_FEW_UPDATES = 10


def gradient_updates(model: BaseAlgorithm) -> int:
    """Count the gradient updates of the policy so far.

    One update is one step of the optimiser that owns the *acting* policy's parameters, so that the number can be
    compared between algorithms: a minibatch of PPO, a rollout of A2C, a gradient step of SAC or TQC, every
    `policy_delay`-th gradient step of TD3, one group of windows of REINFORCE. Stable-Baselines3's own `n_updates`
    counts epochs for PPO and critic steps for TD3.

    The optimiser's own step counter is read where it keeps one (Adam, RMSprop), `n_updates` otherwise (SGD).

    Returns:
        The number; 0 for what does not learn by gradients.
    """
    optimizer = getattr(getattr(model, "actor", getattr(model, "policy", None)), "optimizer", None)
    if optimizer is None:
        return 0
    states = list(optimizer.state.values())
    if states and "step" in states[0]:
        return int(max(state["step"] for state in states))
    return model._n_updates


def planned_updates(model: BaseAlgorithm, total_timesteps: int) -> int | None:
    """Predict :func:`gradient_updates` of a fresh model after `total_timesteps`; None for what does not learn so.

    It is exact for PPO without `target_kl`, and for REINFORCE when the last step ends an episode everywhere.
    """
    if isinstance(model, OnPolicyAlgorithm):
        return _on_policy_updates(model, total_timesteps // model.n_envs)
    if isinstance(model, OffPolicyAlgorithm):
        return _off_policy_updates(model, total_timesteps)
    updates_per_step = getattr(model, "updates_per_step", 0)
    return updates_per_step * (total_timesteps // model.n_envs) if updates_per_step else None


def rollout_length(steps_left: int, longest: int) -> int:
    """Return the length of the next rollout when the steps left are cut into as few and as equal rollouts as possible.

    Where `longest` divides the steps it is the length of every rollout.
    """
    return math.ceil(steps_left / math.ceil(steps_left / longest))


def check_budget(model: BaseAlgorithm, total_timesteps: int, *, steps_before: int = 0) -> None:
    """Check that learning for `total_timesteps` runs exactly so many steps and updates the policy within them.

    The algorithms of :func:`agents.make` call this in `learn`.

    Args:
        model: An algorithm with its environment; one of Stable-Baselines3's own will do.
        total_timesteps: Steps of all environments together.
        steps_before: Steps of earlier calls of `learn` that this one continues: a part is judged as the whole.

    Raises:
        ValueError: More steps would be run than asked for, or the policy would hardly be updated within them; the
            message says what to set.

    Warns:
        UserWarning: Fewer than 10 gradient updates would be made.
    """
    whole = steps_before + total_timesteps
    _check_multiple(total_timesteps, model.n_envs, "the number of environments")
    if isinstance(model, OnPolicyAlgorithm):
        _check_on_policy(model, total_timesteps, whole)
    elif isinstance(model, OffPolicyAlgorithm):
        _check_off_policy(model, total_timesteps, whole)
    updates = planned_updates(model, whole)
    if updates is not None and updates < _FEW_UPDATES:
        warnings.warn(
            f"{type(model).__name__} makes {updates} gradient updates in {whole} steps: expect no learning. "
            "Give it more steps, or set more updates for each.",
            stacklevel=2,
        )


def _check_multiple(total_timesteps: int, unit: int, meaning: str) -> None:
    if total_timesteps % unit:
        below = total_timesteps // unit * unit
        near = f"{below} or {below + unit}" if below else str(unit)
        raise ValueError(
            f"total_timesteps must be a multiple of {unit} ({meaning}), or more steps would be run than asked for. "
            f"Got {total_timesteps}; {near} would do."
        )


def _check_positive(model: BaseAlgorithm, *names: str) -> None:
    for name in names:
        if getattr(model, name, 1) < 1:
            raise ValueError(f"{name} must be 1 or more, or nothing is learnt. Got {getattr(model, name)}.")


def _check_on_policy(model: OnPolicyAlgorithm, total_timesteps: int, whole: int) -> None:
    _check_positive(model, "n_steps", "n_epochs", "batch_size")
    rollout = model.n_steps * model.n_envs
    if rollout > whole:
        raise ValueError(
            f"n_steps must be at most {whole // model.n_envs} for {whole} steps of {model.n_envs} "
            f"environment(s): the policy is updated after n_steps steps of each. Got {model.n_steps}."
        )
    if not getattr(model, "exact_rollouts", False):
        _check_multiple(total_timesteps, rollout, "n_steps times the environments")
    shortest = min(_rollout_lengths(total_timesteps // model.n_envs, model.n_steps), default=2)
    if shortest * model.n_envs == 1 and isinstance(model, A2C) and model.normalize_advantage:
        raise ValueError(
            f"normalize_advantage=True needs 2 samples in a rollout, but {total_timesteps} steps with "
            f"n_steps={model.n_steps} end with a rollout of 1: its update would be NaN. Change one of the three."
        )


def _check_off_policy(model: OffPolicyAlgorithm, total_timesteps: int, whole: int) -> None:
    if not isinstance(model.train_freq, TrainFreq) or model.train_freq.unit is not TrainFrequencyUnit.STEP:
        raise ValueError(
            "train_freq must be a number of steps, such as 1: an episode can be the whole of a run. "
            f"Got {model.train_freq!r}."
        )
    if model.train_freq.frequency < 1:
        raise ValueError(f"train_freq must be 1 or more. Got {model.train_freq.frequency}.")
    _check_positive(model, "batch_size", "buffer_size", "policy_delay")
    _check_multiple(total_timesteps, model.train_freq.frequency * model.n_envs, "train_freq times the environments")
    if model.gradient_steps == 0:
        raise ValueError(
            "gradient_steps must not be 0: the policy would never be updated. Set 4, or -1 for one a step."
        )
    if model.learning_starts >= whole / 4:
        highest = math.ceil(whole / 4) - 1
        raise ValueError(
            f"learning_starts must be below a quarter of the {whole} steps: before it actions are random. "
            f"Got {model.learning_starts}; set at most {highest}."
        )


def _on_policy_updates(model: OnPolicyAlgorithm, steps: int) -> int:
    lengths = _rollout_lengths(steps, model.n_steps)
    if isinstance(model, PPO):
        return sum(model.n_epochs * math.ceil(length * model.n_envs / model.batch_size) for length in lengths)
    return len(lengths)


def _rollout_lengths(steps: int, longest: int) -> list[int]:
    lengths = []
    while steps > 0:
        lengths.append(rollout_length(steps, longest))
        steps -= lengths[-1]
    return lengths


def _off_policy_updates(model: OffPolicyAlgorithm, total_timesteps: int) -> int:
    steps_a_call = model.train_freq.frequency * model.n_envs  # type: ignore[union-attr]  # set up, it is a TrainFreq
    calls = total_timesteps // steps_a_call - model.learning_starts // steps_a_call
    updates = max(calls, 0) * (model.gradient_steps if model.gradient_steps >= 0 else steps_a_call)
    return updates // model.policy_delay if isinstance(model, TD3) else updates
