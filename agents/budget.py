"""Do the settings of an algorithm fit a number of steps?"""

import math
import warnings

from stable_baselines3 import A2C
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

__all__ = ["check_budget", "planned_updates", "rollout_length", "steps_to_first_update"]

_FEW_UPDATES = 10


def planned_updates(model: BaseAlgorithm, total_timesteps: int, *, episode_steps: int | None = None) -> int | None:
    """Predict :func:`agents.gradient_updates` of a fresh model after `total_timesteps`.

    It is exact for algorithms without `target_kl`, and for REINFORCE when the last step ends an episode everywhere.

    Args:
        model: An algorithm with its environment: one of this package, of Stable-Baselines3, SB3-Contrib or SBX.
        total_timesteps: Steps of all environments together.
        episode_steps: Steps of an episode, which ARS counts by.

    Returns:
        The number; None for what does not learn, or does so in a way that is not known here.
    """
    if isinstance(model, OnPolicyAlgorithm):
        return _on_policy_updates(model, total_timesteps // model.n_envs)
    if isinstance(model, OffPolicyAlgorithm):
        return _off_policy_updates(model, total_timesteps)
    if hasattr(model, "pop_size"):
        return total_timesteps // (_population(model) * episode_steps) if episode_steps else None
    updates_per_step = getattr(model, "updates_per_step", 0)
    return updates_per_step * (total_timesteps // model.n_envs) if updates_per_step else None


def steps_to_first_update(
    model: BaseAlgorithm, total_timesteps: int, *, episode_steps: int | None = None
) -> int | None:
    """Predict after how many steps a fresh model is updated first; arguments and None as for `planned_updates`."""
    if isinstance(model, OnPolicyAlgorithm):
        return model.n_envs * _rollout_lengths(total_timesteps // model.n_envs, model.n_steps)[0]
    if isinstance(model, OffPolicyAlgorithm):
        calls_before = model.learning_starts // _steps_a_call(model)
        calls = math.ceil(_policy_delay(model) / _gradient_steps_a_call(model))
        return (calls_before + calls) * _steps_a_call(model)
    if hasattr(model, "pop_size"):
        return _population(model) * episode_steps if episode_steps else None
    horizon = getattr(model, "horizon", None)
    return horizon and model.n_envs * min(horizon, episode_steps or horizon)


def rollout_length(steps_left: int, longest: int) -> int:
    """Return the length of the next rollout when the steps left are cut into as few and as equal rollouts as possible.

    Where `longest` divides the steps it is the length of every rollout.
    """
    return math.ceil(steps_left / math.ceil(steps_left / longest))


def check_budget(
    model: BaseAlgorithm, total_timesteps: int, *, steps_before: int = 0, episode_steps: int | None = None
) -> None:
    """Check that learning for `total_timesteps` runs exactly so many steps and updates the policy within them.

    The algorithms of :func:`agents.make` call this in `learn`.

    Args:
        model: An algorithm with its environment; one of Stable-Baselines3, SB3-Contrib or SBX will do.
        total_timesteps: Steps of all environments together.
        steps_before: Steps of earlier calls of `learn` that this one continues: a part is judged as the whole.
        episode_steps: Steps of an episode, where it is known: ARS and REINFORCE learn by episodes.

    Raises:
        ValueError: More steps would be run than asked for, or the policy would hardly be updated within them, or not
            at all; the message says what to set.

    Warns:
        UserWarning: Fewer than 10 gradient updates would be made, or the updates of REINFORCE wait for the ends of
            episodes.
    """
    whole = steps_before + total_timesteps
    _check_multiple(total_timesteps, model.n_envs, "the number of environments")
    if isinstance(model, OnPolicyAlgorithm):
        _check_on_policy(model, total_timesteps, whole)
    elif isinstance(model, OffPolicyAlgorithm):
        _check_off_policy(model, total_timesteps, whole)
    elif hasattr(model, "pop_size"):  # ARS
        _check_population(model, total_timesteps, episode_steps)
    updates = planned_updates(model, whole, episode_steps=episode_steps)
    if updates is not None and model.learning_rate == 0:
        raise ValueError("learning_rate must be above 0, or nothing is learnt. Got 0.")
    if updates is not None and updates < _FEW_UPDATES:
        warnings.warn(
            f"{type(model).__name__} makes {updates} gradient updates in {whole} steps: expect no learning. "
            "Give it more steps, or set more updates for each.",
            stacklevel=2,
        )
    horizon, longest = getattr(model, "horizon", 0), min(whole // model.n_envs, episode_steps or whole)
    if horizon > longest:
        warnings.warn(
            f"horizon={horizon} is more than {longest} steps: the policy is updated only when an episode ends. "
            f"Set at most {longest}.",
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
    gradient_steps = _off_policy_gradient_steps(model, whole)
    if _policy_delay(model) > gradient_steps:
        raise ValueError(
            f"policy_delay must be at most {gradient_steps}, the gradient steps of {whole} steps, or the policy is "
            f"never updated. Got {_policy_delay(model)}."
        )


def _check_population(model: BaseAlgorithm, total_timesteps: int, episode_steps: int | None) -> None:
    _check_positive(model, "n_delta", "n_eval_episodes")
    if episode_steps:
        unit = _population(model) * episode_steps
        meaning = f"2 n_delta n_eval_episodes = {_population(model)} episodes of {episode_steps} steps for each update"
        _check_multiple(total_timesteps, unit, meaning)


def _on_policy_updates(model: OnPolicyAlgorithm, steps: int) -> int:
    lengths = _rollout_lengths(steps, model.n_steps)
    if hasattr(model, "n_epochs") and hasattr(model, "batch_size"):  # PPO, in whatever package
        return sum(model.n_epochs * math.ceil(length * model.n_envs / model.batch_size) for length in lengths)
    return len(lengths)


def _rollout_lengths(steps: int, longest: int) -> list[int]:
    lengths = []
    while steps > 0:
        lengths.append(rollout_length(steps, longest))
        steps -= lengths[-1]
    return lengths


def _off_policy_updates(model: OffPolicyAlgorithm, total_timesteps: int) -> int:
    return _off_policy_gradient_steps(model, total_timesteps) // _policy_delay(model)


def _off_policy_gradient_steps(model: OffPolicyAlgorithm, total_timesteps: int) -> int:
    calls = total_timesteps // _steps_a_call(model) - model.learning_starts // _steps_a_call(model)
    return max(calls, 0) * _gradient_steps_a_call(model)


def _steps_a_call(model: OffPolicyAlgorithm) -> int:
    return model.train_freq.frequency * model.n_envs  # type: ignore[union-attr]  # set up, it is a TrainFreq


def _gradient_steps_a_call(model: OffPolicyAlgorithm) -> int:
    return model.gradient_steps if model.gradient_steps >= 0 else _steps_a_call(model)


def _policy_delay(model: OffPolicyAlgorithm) -> int:
    """Return how many gradient steps of the critic there are for each of the actor."""
    return getattr(model, "policy_delay", 1)


def _population(model: BaseAlgorithm) -> int:
    """Return how many episodes ARS compares for each update."""
    return model.pop_size * model.n_eval_episodes  # type: ignore[attr-defined]
