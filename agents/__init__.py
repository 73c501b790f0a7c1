"""Policy-learning algorithms and curricula for any Gymnasium environment with `Box` spaces, on one interface.

:func:`make` creates any of them by name; all have Stable-Baselines3's `learn`, `predict`, `save`, `load`, `set_logger`.
"""

from agents.budget import check_budget, planned_updates, steps_to_first_update
from agents.callbacks import CompleteStateCallback, executed_actions
from agents.first_policy import FirstPolicy
from agents.gaussian_policy import GaussianPolicy
from agents.planner import Planner
from agents.random_actions import Random, RandomSearch
from agents.registry import algorithm, check_settings, hyperparams, make, names
from agents.reinforce import Reinforce
from agents.schedules import ActionSchedule, Constant, Linear
from agents.state import StateError, load_state, save_state
from agents.updates import UpdateCounter, gradient_updates
from agents.wrapped import Policy, Wrapped, wrap

__all__ = [
    "ActionSchedule",
    "CompleteStateCallback",
    "Constant",
    "FirstPolicy",
    "GaussianPolicy",
    "Linear",
    "Planner",
    "Policy",
    "Random",
    "RandomSearch",
    "Reinforce",
    "StateError",
    "UpdateCounter",
    "Wrapped",
    "algorithm",
    "check_budget",
    "check_settings",
    "executed_actions",
    "gradient_updates",
    "hyperparams",
    "load_state",
    "make",
    "names",
    "planned_updates",
    "save_state",
    "steps_to_first_update",
    "wrap",
]
