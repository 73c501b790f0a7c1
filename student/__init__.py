"""The deployable product: a small infrared-visible fusion network, its checkpoints and how to run it."""

from student.checkpoint import WeightsError, load_into, load_state, load_student, save_state
from student.network import FusionStudent

__all__ = ["FusionStudent", "WeightsError", "load_into", "load_state", "load_student", "save_state"]
