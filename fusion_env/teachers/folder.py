"""Results of any other fusion method, as a folder of images."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from fusion_env.data.images import as_data_error, read_luma
from fusion_env.data.pairs import ImagePair
from fusion_env.errors import DataError, MissingRequirementsError
from fusion_env.fingerprint import fingerprint
from fusion_env.teachers.base import Teacher
from fusion_env.teachers.registry import register
from student.listing import by_stem, match_names
from student.sixteen_bit import Scale

__all__ = ["FolderTeacher"]

_SHOWN_NAMES = 20
_AS_STATED = Scale()


@register("folder")
class FolderTeacher(Teacher):
    """Fused images on disk, one for each pair, found by name as `student.listing` says.

    Crops cannot be fused, only cut from the stored images: `whole_image_only` is true and calling the teacher on
    tensors is an error.

    Args:
        folder: Folder of fused images, grey or colour (then their luma counts).
        scale: How the values of 16-bit files become levels.

    Raises:
        MissingRequirementsError: If the folder does not exist or holds no images.
        DataError: If two files have one name and different extensions.
    """

    whole_image_only = True

    def __init__(self, folder: Path, scale: Scale = _AS_STATED) -> None:
        super().__init__()
        if not folder.is_dir():
            raise MissingRequirementsError(
                f'teacher "folder": {folder} is not a folder; see the setting teacher_weights.'
            )
        self.folder = folder
        with as_data_error():
            listed = by_stem(folder)
        for first, *others in listed.values():
            if others:
                raise DataError(f"{others[0]} and {first.name} are one pair's result twice; remove one.")
        if not listed:
            raise MissingRequirementsError(f'teacher "folder": {folder} holds no images.')
        self._paths = {stem: files[0] for stem, files in listed.items()}
        self.checksums = {folder.resolve().name: self._digest()}
        self.set_scale(scale)

    @classmethod
    def from_weights(cls, weights: Path | None) -> "FolderTeacher":
        """Open a folder.

        Args:
            weights: The folder of fused images.

        Raises:
            MissingRequirementsError: If it is not named, does not exist or holds no images.
        """
        if weights is None:
            raise MissingRequirementsError(
                'teacher "folder": no folder is given; let the setting teacher_weights point to one that holds a fused '
                "image for each pair, named like the pair."
            )
        return cls(weights)

    def set_scale(self, scale: Scale) -> None:
        """Say how the values of 16-bit files become levels; see `Teacher.set_scale`."""
        self._scale = scale
        self.settings = {"with": scale.describe()} if scale != _AS_STATED else {}

    def check(self, names: Iterable[str]) -> None:
        """Check that every pair has a result.

        Args:
            names: Names of the pairs.

        Raises:
            MissingRequirementsError: If results are missing; names the first 20 and counts all.
        """
        names = list(names)
        found = match_names(self._paths, names)
        missing = [name for name in names if name not in found]
        if not missing:
            self._paths = found
        else:
            more = f" and {len(missing) - _SHOWN_NAMES} more" if len(missing) > _SHOWN_NAMES else ""
            shown = ", ".join(missing[:_SHOWN_NAMES]) + more
            raise MissingRequirementsError(
                f'teacher "folder": {self.folder} has no fused image for {len(missing)} of {len(names)} pairs: {shown}.'
            )

    def fuse_pair(self, pair: ImagePair) -> Tensor:
        """Read a pair's result.

        Args:
            pair: The pair; its name finds the file.

        Returns:
            Fused luma on the CPU, float32 [1, H, W] in 0..1.

        Raises:
            MissingRequirementsError: If there is none.
            DataError: If it cannot be read or has another size than the pair.
        """
        self.check([pair.name])
        path = self._paths[pair.name]
        fused = torch.from_numpy(read_luma(path, self._scale)).float()[None] / 255
        if fused.shape != pair.ir.shape:
            raise DataError(
                f"{path} is {list(fused.shape[1:])} (height, width), but its pair is {list(pair.ir.shape[1:])}; "
                "fused images must have the size of their pair."
            )
        return fused

    def fuse_luma(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Refuse: only whole images are known.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            f'teacher "folder" ({self.folder}) cannot fuse tensors: it only has results for whole images. '
            "Use fuse_pair and cut crops from its result."
        )

    def fingerprint(self) -> str:
        """Hash the names and contents of all images, as they were when the folder was opened, and how they are read."""
        (digest,) = self.checksums.values()
        return fingerprint(f"{digest}{self._scale}") if self._scale != _AS_STATED else digest[:16]

    def _digest(self) -> str:
        digest = hashlib.sha256(f"{self.name}/{self.revision}".encode())
        for stem, path in self._paths.items():
            digest.update(os.fsencode(stem))
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()
