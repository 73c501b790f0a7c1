"""Policy-learning algorithms for any Gymnasium environment with `Box` spaces, on Stable-Baselines3's interface."""

from agents.gaussian_policy import GaussianPolicy
from agents.registry import algorithm, hyperparams, make, names
from agents.reinforce import Reinforce

__all__ = ["GaussianPolicy", "Reinforce", "algorithm", "hyperparams", "make", "names"]
