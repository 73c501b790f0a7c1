"""The methods that are compared: a student, teachers, classical fusion, and folders of fused images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from experiments.evaluation.baselines import FuseLuma, classical
from experiments.paper.order import Order
from fusion_env import teachers
from fusion_env.data import ImagePair, read_visible, rgb_to_luma
from fusion_env.data.images import as_data_error
from fusion_env.errors import DataError, MissingRequirementsError
from fusion_env.fingerprint import fingerprint, sha256_of
from fusion_env.metrics import to_levels
from fusion_env.task import resolve_device
from student.fuse import Fuser
from student.listing import by_stem, match_names
from student.origin import open_student

__all__ = [
    "PUBLISHED",
    "Method",
    "absent_teachers",
    "classical_methods",
    "folder_method",
    "ordered_methods",
    "reader",
    "student_method",
    "teacher_method",
]

PUBLISHED = ("ldfusion", "sage", "tdfusion", "dcevo", "kdfuse", "timfusion", "text_if")
"""The networks that the paper compares, as teachers of this package; the first one is its teacher."""


@dataclass(frozen=True)
class Method:
    """A fusion method.

    Attributes:
        name: In tables, and of the folder of its images.
        fuse: Called with the name of a set and a pair of it; returns RGB levels, uint8 [3, H, W] on the CPU.
        origin: What it is made of, with hashes: other results have another one.
    """

    name: str
    fuse: Callable[[str, ImagePair], Tensor]
    origin: str


def ordered_methods(order: Order) -> list[Method]:
    """Return classical fusion, the student, and the teachers whose weights are there.

    Raises:
        MissingRequirementsError: The preset is ``paper``, and the paper's teacher has no weights.
    """
    missing = teachers.missing(PUBLISHED[0])
    if order.preset == "paper" and missing:
        raise MissingRequirementsError(f"the preset paper compares with its teacher: {missing}")
    absent = absent_teachers()
    present = [name for name in PUBLISHED if name not in absent]
    own = [] if order.preset == "paper" else ["embedded"]
    networks = [teacher_method(name, None, order.device) for name in (*own, *present)]
    return [*classical_methods(), *networks, student_method(order.student, order.device)]


def absent_teachers() -> dict[str, str]:
    """Return what is missing, for each of `PUBLISHED` without weights in ``$FUSION_ENV_WEIGHTS``."""
    return {name: text for name in PUBLISHED if (text := teachers.missing(name))}


def student_method(weights: str | None, device: str, name: str = "student") -> Method:
    """Return a student.

    Args:
        weights: File, folder or id on the hub; None: the embedded one.
        device: Where it runs.
        name: In tables.
    """
    network, told = open_student(weights)
    origin = f"{told} ({fingerprint('student', network.state_dict())})"
    fuser = Fuser(network, name=told, device=device)
    return Method(name, lambda _, pair: fuser(ir=pair.ir, vis=pair.vis), origin)


def teacher_method(name: str, weights: str | None, device: str, title: str = "") -> Method:
    """Return a teacher by its name.

    Args:
        name: One of ``teachers.names()``.
        weights: File or folder, where it needs one; None: in ``$FUSION_ENV_WEIGHTS``.
        device: Where it runs.
        title: In tables; empty: its name.
    """
    teacher = teachers.load(name, weights).to(resolve_device(device))
    return Method(title or name, lambda _, pair: _coloured(teacher.fuse_pair(pair), pair), teacher.describe())


def classical_methods() -> list[Method]:
    """Return averaging and the Laplacian pyramid: what fusion costs without a network."""
    return [Method(name, _classical(fuse), "no weights") for name, fuse in classical().items()]


def folder_method(name: str, folder: Path) -> Method:
    """Return a method of which there are only fused images.

    Args:
        name: In tables.
        folder: As for `reader`.
    """
    return Method(name, reader(folder), f"images in {folder} ({_digest(folder)})")


def reader(folder: Path) -> Callable[[str, ImagePair], Tensor]:
    """Return what reads fused images from files, as `Method.fuse`.

    Args:
        folder: Holds a folder of images for each set, called by the set's name; images are called by their pairs.
    """
    files = cache(lambda of: _files(folder / of))

    def read(of: str, pair: ImagePair) -> Tensor:
        path = match_names(files(of), [pair.name]).get(pair.name)
        if path is None:
            raise DataError(f"{folder / of}: no image called {pair.name!r}")
        fused = torch.from_numpy(read_visible(path)).permute(2, 0, 1)
        if fused.shape != pair.vis.shape:
            raise DataError(f"{path}: {list(fused.shape[1:])} (height, width), its pair {list(pair.vis.shape[1:])}")
        return fused

    return read


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; a method's folder holds one folder of fused images for each set")
    with as_data_error():
        listed = by_stem(folder)
    for first, *others in listed.values():
        if others:
            raise DataError(f"{others[0]} and {first.name} are one pair's result twice; remove one")
    return {stem: files[0] for stem, files in listed.items()}


def _digest(folder: Path) -> str:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return fingerprint("".join(f"{path.relative_to(folder)} {sha256_of(path)}\n" for path in files))


def _classical(fuse: FuseLuma) -> Callable[[str, ImagePair], Tensor]:
    def of_pair(_: str, pair: ImagePair) -> Tensor:
        ir, vis = pair.ir[None].float() / 255, pair.vis[None].float() / 255
        return _coloured(fuse(ir=ir, vis=rgb_to_luma(vis))[0], pair)

    return of_pair


def _coloured(luma: Tensor, pair: ImagePair) -> Tensor:
    """Give fused luma [1, H, W] the chroma of the visible image, and round it to levels."""
    vis = pair.vis.float() / 255
    return to_levels((vis + (luma.cpu() - rgb_to_luma(vis))).clamp(0, 1)).to(torch.uint8)
