"""A stand-in for the environment that a laptop steps thousands of times a second: a fitted model of a round."""

from fusion_env.surrogate.env import FusionDistillSurrogateEnv
from fusion_env.surrogate.model import Surrogate, load_surrogate
from fusion_env.surrogate.vector_env import FusionDistillSurrogateVectorEnv

__all__ = ["FusionDistillSurrogateEnv", "FusionDistillSurrogateVectorEnv", "Surrogate", "load_surrogate"]
