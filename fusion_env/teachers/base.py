"""What every teacher offers: fusing a batch on the device, fusing one whole pair, and a fingerprint."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from fusion_env.data.colour import rgb_to_luma
from fusion_env.data.pairs import ImagePair
from fusion_env.errors import TeacherError
from fusion_env.fingerprint import fingerprint
from student.sixteen_bit import Scale

__all__ = ["Published", "Teacher", "check_batch", "check_fused"]

_SHOWN_DIGITS = 12
_RANGE_MARGIN = 1e-3


@dataclass(frozen=True)
class Published:
    """Where the makers of a network publish its weights.

    Attributes:
        summary: What the network is, one line.
        repository: Where its code and weights are, without ``https://``.
        licence: Of the repository.
        files: Names of the files that hold the weights; all of them are needed.
        folder: Their folder below ``$FUSION_ENV_WEIGHTS``; empty: the teacher's name.
    """

    summary: str
    repository: str
    licence: str
    files: tuple[str, ...]
    folder: str = ""


class Teacher(nn.Module, ABC):
    """A fusion method that students are compared with and trained against.

    Subclasses implement `from_weights` and `fuse_luma`; a method that needs the colours overrides `forward` as well.

    Attributes:
        name: Name in the registry.
        revision: Raised whenever the method's results change for equal weights; part of the fingerprint.
        smallest: Least height and width that `forward` passes on to the method.
        whole_image_only: True if the method has results for whole images only, so that crops must be cut from them.
        published: Where the weights come from, for networks of other makers; see `PublishedTeacher`.
        needs_weights: False if the teacher takes no weights.
        channels_last: True if its network may be, and on a GPU is the faster for it, in channels-last memory order.
        checksums: SHA-256 of every file that was read for this teacher, by file name.
        settings: What beside name, revision and tensors decides the results, JSON-ready; part of the fingerprint.
    """

    name: str
    revision: ClassVar[int] = 1
    smallest: ClassVar[int] = 1
    whole_image_only: bool = False
    published: ClassVar[Published | None] = None
    needs_weights: ClassVar[bool] = True
    channels_last: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.checksums: dict[str, str] = {}
        self.settings: dict[str, object] = {}

    @classmethod
    @abstractmethod
    def from_weights(cls, weights: Path | None) -> "Teacher":
        """Build the teacher from its weights.

        Args:
            weights: File or folder; None if the caller names none.

        Raises:
            MissingRequirementsError: If weights are needed and are not there.
            ValueError: If the teacher takes none.
        """
        raise NotImplementedError(
            f"{cls.__module__}.{cls.__qualname__} has no class method from_weights(weights), which teachers.load "
            "calls; define it, or hand over the object itself (teacher=...)."
        )

    @classmethod
    def missing(cls, weights: Path | None) -> str | None:
        """Say, before any work, which weights `from_weights` would not find.

        Args:
            weights: As for `from_weights`.

        Returns:
            What is missing and where its makers publish it; None if nothing is, or if only loading can tell.
        """
        return None

    def check(self, names: Iterable[str]) -> None:
        """Check, before any work, that the teacher can fuse these pairs; most can fuse any.

        Args:
            names: Names of the pairs.

        Raises:
            MissingRequirementsError: If it has no result for some of them.
        """

    def set_scale(self, scale: Scale) -> None:
        """Say how the values of 16-bit files become levels, to a teacher that reads images; most read none.

        Args:
            scale: The same as for the data.
        """

    @abstractmethod
    def fuse_luma(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse infrared and visible luma.

        Args:
            ir: Infrared, [B, 1, H, W] in 0..1.
            vis: Visible luma, [B, 1, H, W] in 0..1.

        Returns:
            Fused luma, [B, 1, H, W] in 0..1.
        """

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse a batch of registered pairs.

        Args:
            ir: Infrared, float32 [B, 1, H, W] in 0..1.
            vis: Visible RGB, float32 [B, 3, H, W] in 0..1.

        Returns:
            Fused luma, [B, 1, H, W] in 0..1.

        Raises:
            ValueError: If a type, shape or value does not fit.
        """
        check_batch(ir=ir, vis=vis, smallest=self.smallest)
        return self.fuse_luma(ir=ir, vis=rgb_to_luma(vis))

    @torch.inference_mode()
    def fuse_pair(self, pair: ImagePair) -> Tensor:
        """Fuse one whole pair of any size, on the device of the teacher's tensors (without any: the CPU).

        Args:
            pair: Infrared and visible image, uint8.

        Returns:
            Fused luma on the same device, float32 [1, H, W] in 0..1.

        Raises:
            TeacherError: The result is no fused image; names the pair.
        """
        device = next(chain(self.parameters(), self.buffers()), torch.empty(0)).device
        ir = pair.ir.to(device).float()[None] / 255
        vis = pair.vis.to(device).float()[None] / 255
        return self.fuse_named(pair.name, ir=ir, vis=vis)[0]

    def fuse_named(self, name: str, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse images, or crops, of one pair; see `forward`.

        Args:
            name: The pair's, for error messages.
            ir: Infrared, float32 [B, 1, H, W] in 0..1.
            vis: Visible RGB, float32 [B, 3, H, W] in 0..1.

        Returns:
            Fused luma, float32 [B, 1, H, W] in 0..1.

        Raises:
            TeacherError: The result is no fused image; names the pair.
        """
        try:
            return check_fused(self(ir=ir, vis=vis), ir, f"teacher {self.name!r}")
        except TeacherError as error:
            raise TeacherError(f"pair {name!r}: {error}") from error

    def fingerprint(self) -> str:
        """Hash name, revision, settings and every tensor, to tell cached results of different teachers apart.

        Returns:
            The first 16 hexadecimal digits of a SHA-256; independent of the device and of the weights' file format.
        """
        settings = json.dumps(self.settings, sort_keys=True) if self.settings else ""
        return fingerprint(f"{self.name}/{self.revision}{settings}", self.state_dict())

    def describe(self) -> str:
        """Say what is used, for people and result files: name, files read with checksums, settings, fingerprint."""
        files = [f"{file} sha256 {digest[:_SHOWN_DIGITS]}" for file, digest in self.checksums.items()]
        own = "weights of the package" if any(True for _ in self.parameters()) else "no weights"
        origin = ", ".join(files) or ("weights given in Python" if self.needs_weights else own)
        settings = "".join(f", {key} {value}" for key, value in self.settings.items())
        return f"{self.name} ({origin}{settings}, {self.fingerprint()})"


def check_batch(*, ir: Tensor, vis: Tensor, smallest: int = 1) -> None:
    """Check the inputs of `Teacher.forward`.

    Args:
        ir: Must be float32 [B, 1, H, W] in 0..1, B at least 1.
        vis: Must be float32 [B, 3, H, W] in 0..1.
        smallest: Least height and width.

    Raises:
        ValueError: If a type, shape or value does not fit.
    """
    for name, image in (("ir", ir), ("vis", vis)):
        if not isinstance(image, Tensor) or image.dtype != torch.float32:
            got = image.dtype if isinstance(image, Tensor) else type(image).__name__
            raise ValueError(f"{name} must be a float32 tensor in 0..1. Got {got}.")
    if ir.ndim != 4 or ir.shape[1] != 1 or len(ir) == 0:
        raise ValueError(f"ir must have shape [B, 1, H, W], B at least 1. Got {tuple(ir.shape)}.")
    expected = (ir.shape[0], 3, *ir.shape[2:])
    if vis.shape != expected:
        raise ValueError(f"vis must be RGB of shape {expected}, as ir is {tuple(ir.shape)}. Got {tuple(vis.shape)}.")
    if min(ir.shape[2:]) < smallest:
        raise ValueError(f"Height and width must be at least {smallest} pixels. Got {tuple(ir.shape[2:])}.")
    _check_range("ir", ir)
    _check_range("vis", vis)


def _check_range(name: str, image: Tensor) -> None:
    if image.is_meta:  # costs are counted on tensors without values
        return
    low, high = (float(value) for value in image.aminmax())
    if not (low >= -_RANGE_MARGIN and high <= 1 + _RANGE_MARGIN):  # false for NaN as well
        raise ValueError(f"{name} must be in 0..1; divide 8-bit levels by 255. Got {low:.3g} to {high:.3g}.")


def check_fused(fused: object, ir: Tensor, maker: str) -> Tensor:
    """Check what foreign code made of a batch.

    Args:
        fused: Should be fused luma, a floating-point tensor of the shape of ``ir``.
        ir: The infrared batch, [B, 1, H, W].
        maker: Who made it, for the error message.

    Returns:
        ``fused`` as float32.

    Raises:
        TeacherError: If it is anything else, or holds NaN or infinite values.
    """
    if not isinstance(fused, Tensor) or not fused.is_floating_point() or fused.shape != ir.shape:
        got = f"{fused.dtype} {tuple(fused.shape)}" if isinstance(fused, Tensor) else type(fused).__name__
        raise TeacherError(f"{maker} must return fused luma as a float tensor {tuple(ir.shape)}. Got {got}.")
    if not (fused.is_meta or bool(torch.isfinite(fused).all())):
        raise TeacherError(f"{maker} returned NaN or infinite values.")
    return fused.float()
