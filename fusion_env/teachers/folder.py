"""Results of any other fusion method, as a folder of images."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from fusion_env.data.images import read_luma
from fusion_env.data.pairs import ImagePair
from fusion_env.errors import DataError, MissingRequirementsError
from fusion_env.teachers.base import Teacher
from fusion_env.teachers.registry import register

__all__ = ["FolderTeacher"]

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_SHOWN_NAMES = 20


@register("folder")
class FolderTeacher(Teacher):
    """Fused images on disk, one for each pair, found by file name without extension.

    Crops cannot be fused, only cut from the stored images: `whole_image_only` is true and calling the teacher on
    tensors is an error.

    Args:
        folder: Folder of fused images, grey or colour (then their luma counts).

    Raises:
        MissingRequirementsError: If the folder does not exist or holds no images.
        DataError: If two files have one name and different extensions.
    """

    whole_image_only = True

    def __init__(self, folder: Path) -> None:
        super().__init__()
        if not folder.is_dir():
            raise MissingRequirementsError(
                f'teacher "folder": {folder} is not a folder; see the setting teacher_weights.'
            )
        self.folder = folder
        self._paths: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in _SUFFIXES:
                if path.stem in self._paths:
                    raise DataError(
                        f"{path} and {self._paths[path.stem].name} are one pair's result twice; remove one."
                    )
                self._paths[path.stem] = path
        if not self._paths:
            raise MissingRequirementsError(
                f'teacher "folder": {folder} holds no images ({", ".join(sorted(_SUFFIXES))}).'
            )
        self.checksums = {folder.resolve().name: self._digest()}

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

    def check(self, names: Iterable[str]) -> None:
        """Check that every pair has a result.

        Args:
            names: Names of the pairs.

        Raises:
            MissingRequirementsError: If results are missing; names the first 20 and counts all.
        """
        names = list(names)
        missing = [name for name in names if name not in self._paths]
        if missing:
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
        fused = torch.from_numpy(read_luma(path)).float()[None] / 255
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
        """Hash the names and contents of all images, as they were when the folder was opened."""
        (digest,) = self.checksums.values()
        return digest[:16]

    def _digest(self) -> str:
        digest = hashlib.sha256(f"{self.name}/{self.revision}".encode())
        for stem, path in self._paths.items():
            digest.update(stem.encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()
