"""What every teacher offers: fusing a batch on the device, fusing one whole pair, and a fingerprint."""

import hashlib
from abc import ABC, abstractmethod
from itertools import chain
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from fusion_env.data.colour import rgb_to_luma
from fusion_env.data.pairs import ImagePair

__all__ = ["Teacher"]


class Teacher(nn.Module, ABC):
    """A fusion method that students are compared with and trained against.

    Subclasses implement `from_weights` and `fuse_luma`; a method that needs the colours overrides `forward` as well.

    Attributes:
        name: Name in the registry.
        revision: Raised whenever the method's results change for equal weights; part of the fingerprint.
        whole_image_only: True if the method has results for whole images only, so that crops must be cut from them.
    """

    name: ClassVar[str]
    revision: ClassVar[int] = 1
    whole_image_only: ClassVar[bool] = False

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

    @abstractmethod
    def fuse_luma(self, vis_luma: Tensor, ir: Tensor) -> Tensor:
        """Fuse visible luma and infrared.

        Args:
            vis_luma: [B, 1, H, W] in 0..1.
            ir: [B, 1, H, W] in 0..1.

        Returns:
            Fused luma, [B, 1, H, W] in 0..1.
        """

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse a batch of registered pairs.

        Args:
            ir: Infrared, [B, 1, H, W] in 0..1.
            vis: Visible RGB, [B, 3, H, W] in 0..1.

        Returns:
            Fused luma, [B, 1, H, W] in 0..1.

        Raises:
            ValueError: If a shape does not fit.
        """
        if ir.ndim != 4 or ir.shape[1] != 1:
            raise ValueError(f"ir must have shape [B, 1, H, W]. Got {tuple(ir.shape)}.")
        if vis.shape != (ir.shape[0], 3, *ir.shape[2:]):
            expected = (ir.shape[0], 3, *ir.shape[2:])
            raise ValueError(
                f"vis must be RGB of shape {expected}, as ir is {tuple(ir.shape)}. Got {tuple(vis.shape)}."
            )
        return self.fuse_luma(rgb_to_luma(vis), ir)

    @torch.inference_mode()
    def fuse_pair(self, pair: ImagePair) -> Tensor:
        """Fuse one whole pair of any size, on the device of the teacher's tensors (without any: the CPU).

        Args:
            pair: Infrared and visible image, uint8.

        Returns:
            Fused luma on the same device, float32 [1, H, W] in 0..1.
        """
        device = next(chain(self.parameters(), self.buffers()), torch.empty(0)).device
        ir = pair.ir.to(device).float()[None] / 255
        vis = pair.vis.to(device).float()[None] / 255
        return self(ir, vis)[0]

    def fingerprint(self) -> str:
        """Hash name, revision and every tensor, to tell cached results of different teachers apart.

        Returns:
            The first 16 hexadecimal digits of a SHA-256; independent of the device.
        """
        digest = hashlib.sha256(f"{self.name}/{self.revision}".encode())
        for key, tensor in sorted(self.state_dict().items()):
            digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]
