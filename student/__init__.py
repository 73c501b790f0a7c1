"""The deployable product: a small infrared-visible fusion network, its checkpoints and how to run it.

``student.fuse(ir, vis)`` fuses with the embedded student, ``student.load(WEIGHTS)`` makes another one ready.
"""

from student.fuse import Fuser, fuse, load
from student.network import FusionStudent
from student.weights import WeightsError, load_into, load_state, load_student, save_state

__all__ = [
    "Fuser",
    "FusionStudent",
    "WeightsError",
    "fuse",
    "load",
    "load_into",
    "load_state",
    "load_student",
    "save_state",
]
