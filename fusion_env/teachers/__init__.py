"""Teachers: the fusion methods that a student is trained against, by name.

``ldfusion`` is the paper's teacher with its official weights, ``embedded`` the same architecture with weights that come
with this package, ``laplacian`` a classical method, ``folder`` the results of any other method as images.
"""

from fusion_env.teachers.base import Teacher
from fusion_env.teachers.folder import FolderTeacher
from fusion_env.teachers.laplacian import LaplacianTeacher
from fusion_env.teachers.ldfusion import EmbeddedLDFusion, LDFusion
from fusion_env.teachers.registry import load, names, register

__all__ = [
    "EmbeddedLDFusion",
    "FolderTeacher",
    "LDFusion",
    "LaplacianTeacher",
    "Teacher",
    "load",
    "names",
    "register",
]
