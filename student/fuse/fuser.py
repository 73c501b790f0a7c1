"""Fuse images in memory: `load` makes a student ready for a device once, `fuse` is the short way for one pair."""

import copy
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from student.console import counted
from student.fuse.colour import fuse_images, luma_levels, luma_of
from student.fuse.forms import AnyImage, as_unit
from student.fuse.tiling import MIN_TILE, fuse_tiled
from student.layout import arranged
from student.network import FusionStudent
from student.numerics import own_numerics
from student.on_cpu import quickest
from student.origin import open_student

__all__ = ["Fuser", "fuse", "load"]

T = TypeVar("T", NDArray[np.generic], Tensor, Image.Image)

_SAME = 1e-6
"""What values of a flat picture differ by at most, after rounding; a step of 16 bits is 1.5e-5."""

_NO_MEMORY = ("out of memory", "allocate memory", "ALLOC_FAILED")
"""What errors say where memory is short, on CPUs, on GPUs, and in the libraries of the latter."""

_GREY = 8 / 255
"""Largest difference between the channels of a picture that counts as grey; JPEG leaves some."""


def load(
    weights: str | Path | None = None,
    *,
    device: str = "auto",
    half: bool = False,
    tile: int | None = None,
    compiled: bool = False,
    exposure: str | None = None,
) -> "Fuser":
    """Load a student, ready to fuse.

    Args:
        weights: A file that `student.save_state` wrote or the official ``final.pt``, a folder that ``save_pretrained``
            wrote, or the id ``OWNER/NAME`` of a repository on the Hugging Face hub; None for the embedded student.
        device: See `Fuser`, as for the others.
        half: Compute in float16.
        tile: Fuse in tiles of this side.
        compiled: Compile the network.
        exposure: Brightness and contrast are those of the ``"sources"``, or what the ``"network"`` makes; None for what
            the weights say. See `student.exposure`.

    Raises:
        WeightsError: The weights cannot be found, read or used.
        ValueError: The device is not there, or cannot do what is asked; or there is no such exposure.
    """
    network, name = open_student(weights, exposure)
    return Fuser(network, name=name, device=device, half=half, tile=tile, compiled=compiled)


def fuse(ir: AnyImage, vis: T, *, device: str = "auto") -> T:
    """Fuse registered infrared and visible images with the embedded student.

    Args:
        ir: Infrared. numpy: (H, W), (H, W, C), (B, H, W) or (B, H, W, C); torch: [H, W], [C, H, W] or [B, C, H, W];
            PIL: "L", "RGB" or "I;16", pixels as stored (if a camera turned them, ``ImageOps.exif_transpose`` first).
            C is 1 or 3, H and W are at least 16. Values are uint8, uint16 (65535 is white: divide counts of 12 or 14
            bits by their largest value), or floating-point in 0..1. Of a colour image the luma counts.
        vis: Visible image of the same height and width, in any of these forms. Its colours are kept.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:N"``; ``"auto"`` for CUDA if it is there.

    Returns:
        The fused image, of the type, shape, type of numbers and device of ``vis``. Where one of the two has the same
        value everywhere, it is the other.

    Raises:
        TypeError: An image has another type.
        ValueError: Shapes or values are wrong, the two sizes differ, or the two seem to be swapped.

    >>> import numpy as np
    >>> ir, vis = np.zeros((48, 64), np.uint8), np.zeros((48, 64, 3), np.uint8)
    >>> fuse(ir, vis, device="cpu").shape
    (48, 64, 3)
    """
    return _embedded(device)(ir=ir, vis=vis)


@cache
def _embedded(device: str) -> "Fuser":
    return load(device=device)


class Fuser:
    """A student ready to fuse images on one device, the fastest way known there.

    A `FusionStudent` runs channels-last, on the CPU in the layers of `student.on_cpu`. Other networks run as they are.

    Args:
        network: ``network(ir=ir, vis=luma) -> fused luma``, all [B, 1, H, W] in 0..1. It is copied.
        name: What messages call it.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:N"``; ``"auto"`` for CUDA if it is there.
        half: Compute in float16, on CUDA only: CPUs are not faster with it.
        tile: Fuse in tiles of this many pixels a side (from 64), which gives the same picture in much less memory
            and twice the time; see `student.fuse.tiling`. None for the whole image at once.
        compiled: Let ``torch.compile`` fuse operations, on CUDA only; the first image of a size takes longer.

    Raises:
        ValueError: The device is not there, or cannot do what is asked.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str = "the student",
        device: str = "auto",
        half: bool = False,
        tile: int | None = None,
        compiled: bool = False,
    ) -> None:
        self.device = _resolve(device)
        if self.device.type != "cuda" and (half or compiled):
            asked = "half" if half else "compiled"
            raise ValueError(f"{asked}=True needs a CUDA device, as it is no faster elsewhere. Got {self.device}.")
        if tile is not None and (tile < MIN_TILE or not isinstance(network, FusionStudent) or compiled):
            raise ValueError(
                f"tile must be at least {MIN_TILE}, of a FusionStudent that is not compiled. Got {tile} for "
                f"{type(network).__name__}."
            )
        self.name, self.tile = name, tile
        self.dtype = torch.float16 if half else torch.float32
        network = arranged(copy.deepcopy(network).eval().to(self.dtype), self.device)
        if tile is None and isinstance(network, FusionStudent):
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if compiled:
            network.compile(dynamic=True)
        self.network = network

    def describe(self) -> str:
        """Say in one line what fuses, where and how."""
        tiles = "" if self.tile is None else f", in tiles of {self.tile} pixels"
        exposed = (
            ", brightness and contrast of the sources" if getattr(self.network, "exposure_of_sources", False) else ""
        )
        return f"{self.name} on {self.device}, {str(self.dtype).removeprefix('torch.')}{tiles}{exposed}"

    @own_numerics()
    def __call__(self, *, ir: AnyImage, vis: T) -> T:
        """Fuse registered images; arguments, result and errors are those of `student.fuse`."""
        ir_unit, ir_form = as_unit("ir", ir)
        vis_unit, form = as_unit("vis", vis)
        _check_together(ir_unit, vis_unit)
        if ir_unit.shape[1] == 3:
            ir_unit = luma_levels(ir_unit) if ir_form.dtype == torch.uint8 else luma_of(ir_unit)
        at_once = len(vis_unit) if self.device.type == "cuda" else 1  # on CPUs more only takes more memory
        parts = zip(ir_unit.split(at_once), vis_unit.split(at_once), strict=True)
        # Put together outside inference mode, so that the result is a tensor like any other.
        return form.restore(torch.cat([self._fuse_unit(*part) for part in parts]))

    @torch.inference_mode()
    def _fuse_unit(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse pictures in 0..1, [B, 1, H, W] and [B, C, H, W]."""
        try:
            ir, vis = ir.to(self.device), vis.to(self.device)
            if vis.shape[1] == 3:
                return fuse_images(self._fuse_luma, ir=ir, vis=vis)
            return self._fuse_luma(ir=ir, vis=vis).float().clamp(0, 1)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not any(text in str(error) for text in _NO_MEMORY):
                raise
            count, _, height, width = vis.shape
            images = f"{counted(count, 'image')} of {height} x {width} pixels"
            fewer = "pass fewer, or " if count > 1 else ""
            raise MemoryError(
                f"not enough memory on {self.device} for {images} at once: {fewer}set a tile, such as "
                f"{min(1024, max(MIN_TILE, (self.tile or 2048) // 2))}."
            ) from error

    def _fuse_luma(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        ir, vis = ir.to(self.dtype), vis.to(self.dtype)
        if self.tile is not None and isinstance(self.network, FusionStudent):
            fused = fuse_tiled(self.network, ir=ir, vis=vis, tile=self.tile)
        else:
            fused = quickest(self.network)(ir=ir, vis=vis)
        # Of a flat picture the network's normalisations would show nothing but its own rounding.
        flat_ir, flat_vis = _flat(ir), _flat(vis)
        if not (flat_ir | flat_vis).any():  # the usual case, which needs no memory for a choice
            return fused
        return torch.where(flat_ir, vis, torch.where(flat_vis, ir, fused))


def _flat(image: Tensor) -> Tensor:
    """Tell for each picture [B, 1, H, W] whether it has one value throughout, as [B, 1, 1, 1]."""
    low, high = image.flatten(1).aminmax(dim=1)
    return (high - low < _SAME).view(-1, 1, 1, 1)


def _resolve(device: str) -> torch.device:
    try:
        resolved = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        torch.empty(0, device=resolved).cpu()
    except (RuntimeError, AssertionError) as error:  # the latter where PyTorch is built without CUDA
        reason = str(error).strip().split("\n")[0].split(". ")[0].rstrip(".!")
        raise ValueError(f'device {device!r} cannot be used: {reason}. Set "cpu" or "auto".') from error
    return resolved


def _check_together(ir: Tensor, vis: Tensor) -> None:
    """Refuse two batches that are no registered pairs."""
    if len(ir) != len(vis):
        raise ValueError(
            f"ir and vis must be equally many. Got {len(ir)} and {len(vis)}; channels come last in numpy arrays, and "
            "before height and width in tensors."
        )
    sizes = [" x ".join(map(str, image.shape[-2:])) for image in (ir, vis)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"ir is {sizes[0]} and vis {sizes[1]} pixels (height x width). A pair must be registered, pixel by pixel: "
            "warp one onto the other first, for instance by student.fuse.align or --align."
        )
    if _coloured(ir) and not _coloured(vis):
        raise ValueError("ir has colours and vis has none: are they swapped? The order is infrared, visible.")


def _coloured(image: Tensor) -> bool:
    return image.shape[1] == 3 and bool((image.amax(1) - image.amin(1)).max() > _GREY)
