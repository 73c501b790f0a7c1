"""Images in memory: on the device, or on the host where that has no room, from where mini-batches are brought."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Batch", "Feed", "StoredImages", "stored_bytes"]


class Batch(NamedTuple):
    """Images of one size, float32 [B, 1, H, W] in 0..1."""

    ir: Tensor
    vis: Tensor
    """Visible luma."""
    target: Tensor
    """The teacher's fused luma."""


@dataclass(frozen=True)
class StoredImages:
    """N registered images of one size.

    Attributes:
        ir: Infrared, uint8 [N, 1, H, W].
        vis: Visible luma, uint8 [N, 1, H, W].
        target: The teacher's fused luma, float16 [N, 1, H, W] in 0..1 (finer than the 8 bits of a file).
        chroma: Cb and Cr of the visible image, uint8 [N, 2, H, W]; None where nobody needs them.
        streamed_to: The device that mini-batches are brought to, for images on the host; None for images that are on
            their device.
        clean: Infrared and visible luma that metrics compare with, uint8 [N, 2, H, W]; None where those are `ir` and
            `vis` themselves.
    """

    ir: Tensor
    vis: Tensor
    target: Tensor
    chroma: Tensor | None = None
    streamed_to: torch.device | None = None
    clean: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ir)

    @property
    def device(self) -> torch.device:
        """Where mini-batches are."""
        return self.streamed_to or self.ir.device

    def tensors(self) -> dict[str, Tensor]:
        """Return everything by name."""
        named = {"ir": self.ir, "vis": self.vis, "target": self.target, "chroma": self.chroma}
        named["clean"] = self.clean
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def batch(self, index: Tensor) -> Batch:
        """Return some of them on the device."""
        return _as_numbers(*(self._chosen(tensor, index) for tensor in (self.ir, self.vis, self.target)))

    def chroma_batch(self, index: Tensor) -> Tensor:
        """Return the chroma of some of them on the device, float32 [B, 2, H, W] in 0..1."""
        assert self.chroma is not None
        return self._chosen(self.chroma, index).float().div_(255)

    def clean_batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return infrared and visible luma of some of them to compare with, as in `batch`; only where they differ."""
        assert self.clean is not None
        ir, vis = self._chosen(self.clean, index).float().div_(255).split(1, 1)
        return ir, vis

    def _chosen(self, tensor: Tensor, index: Tensor) -> Tensor:
        if self.streamed_to is None:
            return tensor[index]
        return _gathered(tensor, index.cpu(), self.streamed_to).to(self.streamed_to, non_blocking=True)

    @staticmethod
    def empty(
        count: int, size: tuple[int, int], *, chroma: bool, clean: bool = False, device: torch.device
    ) -> "StoredImages":
        """Return room for some images, not filled in."""

        def room(channels: int, dtype: torch.dtype = torch.uint8) -> Tensor:
            return torch.empty((count, channels, *size), dtype=dtype, device=device)

        return StoredImages(
            room(1),
            room(1),
            room(1, torch.float16),
            room(2) if chroma else None,
            clean=room(2) if clean else None,
        )

    def fill(self, first: int, images: "StoredImages") -> None:
        """Take over some images, from number `first` on."""
        for name, tensor in images.tensors().items():
            self.tensors()[name][first : first + len(images)].copy_(tensor)


def stored_bytes(count: int, pixels: int, *, chroma: bool, clean: bool = False) -> int:
    """Return the memory that some images of so many pixels will take."""
    return count * pixels * (4 + 2 * chroma + 2 * clean)


def _as_numbers(ir: Tensor, vis: Tensor, target: Tensor) -> Batch:
    return Batch(ir.float().div_(255), vis.float().div_(255), target.float())


def _gathered(tensor: Tensor, index: Tensor, device: torch.device) -> Tensor:
    """Put some rows of a tensor on the host beside each other, where `device` can fetch them while the host goes on.

    Only this much is page-locked. PyTorch does not hand it out again before the device has fetched it.
    """
    shape = (len(index), *tensor.shape[1:])
    rows = torch.empty(shape, dtype=tensor.dtype, pin_memory=device.type == "cuda")
    return torch.index_select(tensor, 0, index, out=rows)


class Feed:
    """Gives an engine its mini-batches in a way that a CUDA graph can record.

    A graph cannot fetch from the host what was not chosen when it was recorded. Images on the host are therefore
    brought before each iteration, into tensors that keep their places.

    Args:
        images: What the mini-batches are made of.
        batch_size: Images in each.
    """

    def __init__(self, images: StoredImages, batch_size: int) -> None:
        self._images = images
        self._window: StoredImages | None = None
        if images.streamed_to is not None:
            height, width = images.ir.shape[2:]
            self._window = StoredImages.empty(batch_size, (height, width), chroma=False, device=images.streamed_to)

    def bring(self, numbers: NDArray[np.int64]) -> None:
        """Bring the images of the next mini-batch; not to be recorded. Without effect where they are on the device."""
        if self._window is not None:
            index = torch.from_numpy(numbers)
            for name, place in self._window.tensors().items():
                rows = _gathered(self._images.tensors()[name], index, place.device)
                place.copy_(rows, non_blocking=True)

    def batch(self, index: Tensor) -> Batch:
        """Return the mini-batch with these numbers, which were brought last."""
        if self._window is None:
            return self._images.batch(index)
        return _as_numbers(self._window.ir, self._window.vis, self._window.target)
