"""The deployable product: a small infrared-visible fusion network, its checkpoints and how to run it."""

from student.network import FusionStudent
from student.weights import WeightsError, load_into, load_state, load_student, save_state

__all__ = ["FusionStudent", "WeightsError", "load_into", "load_state", "load_student", "save_state"]
