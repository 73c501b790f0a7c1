"""Teachers: the fusion methods that a student is trained against, by name; `catalogue` says what there is.

``ldfusion`` is the paper's teacher with its official weights, ``embedded`` the same architecture with weights that come
with this package; ``sage``, ``timfusion``, ``kdfuse``, ``tdfusion``, ``dcevo`` and ``text_if`` are the other networks
of the paper's comparison. ``laplacian`` is a classical method, ``folder`` reads the results of any other method,
``exported`` runs a network exported to one file, ``ensemble`` combines several teachers, and `from_callable` takes any
function.
"""

from fusion_env.teachers.base import Published, Teacher
from fusion_env.teachers.dcevo import DCEvo
from fusion_env.teachers.ensemble import Ensemble
from fusion_env.teachers.exported import ExportedTeacher
from fusion_env.teachers.folder import FolderTeacher
from fusion_env.teachers.function import FunctionTeacher, from_callable
from fusion_env.teachers.kdfuse import KDFuse
from fusion_env.teachers.laplacian import LaplacianTeacher
from fusion_env.teachers.ldfusion import EmbeddedLDFusion, LDFusion
from fusion_env.teachers.listing import Catalogue, TeacherEntry, catalogue
from fusion_env.teachers.published import PublishedTeacher
from fusion_env.teachers.registry import get, load, missing, names, register
from fusion_env.teachers.sage import SAGE
from fusion_env.teachers.tdfusion import TDFusion
from fusion_env.teachers.text_if import TextIF
from fusion_env.teachers.timfusion import TIMFusion

__all__ = [
    "SAGE",
    "Catalogue",
    "DCEvo",
    "EmbeddedLDFusion",
    "Ensemble",
    "ExportedTeacher",
    "FolderTeacher",
    "FunctionTeacher",
    "KDFuse",
    "LDFusion",
    "LaplacianTeacher",
    "Published",
    "PublishedTeacher",
    "TDFusion",
    "TIMFusion",
    "Teacher",
    "TeacherEntry",
    "TextIF",
    "catalogue",
    "from_callable",
    "get",
    "load",
    "missing",
    "names",
    "register",
]
