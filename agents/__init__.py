"""Policy-learning algorithms for any Gymnasium environment with `Box` spaces, on Stable-Baselines3's interface."""

from agents.gaussian_policy import GaussianPolicy
from agents.registry import hyperparams, make, names
from agents.reinforce import Reinforce

__all__ = ["GaussianPolicy", "Reinforce", "hyperparams", "make", "names"]
