"""What images may come as, and how results go back to it: numpy arrays, torch tensors, PIL images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

__all__ = ["AnyImage", "Form", "as_unit"]

AnyImage = NDArray[Any] | Tensor | Image.Image

_WHITE = {torch.uint8: 255, torch.uint16: 65535}
_MODES = ("L", "RGB", "I;16", "I;16L", "I;16B", "I;16N")
_ROUNDING = 1e-3
"""How far beyond 0..1 floating-point pictures may be, as resampling leaves them."""


@dataclass(frozen=True)
class Form:
    """What an image came as.

    Attributes:
        kind: Its type.
        dtype: Type of its numbers.
        axes: Its axes in order, of "B", "C", "H" and "W".
        device: Where it lay.
    """

    kind: type
    dtype: torch.dtype
    axes: str
    device: torch.device

    def restore(self, unit: Tensor) -> Any:
        """Return pictures [B, C, H, W] in 0..1 in this form; levels are rounded half up."""
        if self.dtype in _WHITE:
            unit = (unit.float() * _WHITE[self.dtype] + 0.5).to(torch.int32)
        result = unit.to(self.dtype).to(self.device)
        for place, axis in ((1, "C"), (0, "B")):  # what was not there has length 1
            if axis not in self.axes:
                result = result.squeeze(place)
        if self.kind is Tensor:
            return result
        array = result.numpy()
        if "C" in self.axes:
            array = np.moveaxis(array, -3, -1)
        array = np.ascontiguousarray(array)
        return Image.fromarray(array) if self.kind is Image.Image else array


def as_unit(name: str, image: AnyImage) -> tuple[Tensor, Form]:
    """Bring an image to float32 [B, C, H, W] in 0..1 with 1 or 3 channels.

    Args:
        name: The argument's name, for messages.
        image: See `student.fuse`.

    Raises:
        TypeError: It is no image, or holds numbers of another type.
        ValueError: It has another shape, values outside 0..1, or NaN.
    """
    kind: type
    if isinstance(image, Image.Image):
        if image.mode not in _MODES:
            raise ValueError(f'{name} has the PIL mode {image.mode!r}; convert it to "L" or "RGB" first.')
        array = np.asarray(image)
        kind, axes = Image.Image, _axes(name, array.shape, first=False)
        values = _from_numpy(name, array, axes)
    elif isinstance(image, Tensor):
        kind, axes, values = Tensor, _axes(name, image.shape, first=True), image.detach()
    elif isinstance(image, np.ndarray):
        kind, axes = np.ndarray, _axes(name, image.shape, first=False)
        values = _from_numpy(name, image, axes)
    else:
        raise TypeError(f"{name} must be a numpy array, a torch tensor or a PIL image. Got {type(image).__name__}.")
    form = Form(kind, values.dtype, axes, values.device)
    for place, axis in ((-3, "C"), (0, "B")):
        if axis not in axes:
            values = values.unsqueeze(place)
    return _unit(name, values), form


def _from_numpy(name: str, array: NDArray[Any], axes: str) -> Tensor:
    native = array.astype(array.dtype.newbyteorder("="), copy=True)  # torch takes no other order, nor read-only memory
    try:
        values = torch.from_numpy(native)
    except TypeError:
        raise TypeError(f"{name} must hold uint8, uint16 or floating-point values. Got {array.dtype}.") from None
    return values.movedim(-1, -3) if "C" in axes else values


def _axes(name: str, shape: tuple[int, ...], first: bool) -> str:
    """Tell the axes from a shape; a picture is never as small as 3 pixels."""
    channels, plain = ("CHW", "HW") if first else ("HWC", "HW")
    place = -3 if first else -1
    if len(shape) == 2:
        return plain
    if len(shape) in (3, 4) and shape[place] in (1, 3):
        return channels if len(shape) == 3 else f"B{channels}"
    if len(shape) == 3 and not first and shape[-1] > 4:
        return f"B{plain}"
    shapes = "[H, W], [C, H, W] or [B, C, H, W]" if first else "(H, W), (H, W, C), (B, H, W) or (B, H, W, C)"
    raise ValueError(
        f"{name} must have shape {shapes} with 1 or 3 channels (leave out alpha first). Got {tuple(shape)}."
    )


def _unit(name: str, values: Tensor) -> Tensor:
    if values.dtype in _WHITE:
        return values.to(torch.float32) / _WHITE[values.dtype]
    if not values.is_floating_point():
        raise TypeError(f"{name} must hold uint8, uint16 or floating-point values. Got {values.dtype}.")
    values = values.to(torch.float32)
    low, high = (float(bound) for bound in torch.aminmax(values)) if values.numel() else (0.0, 0.0)
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # NaN fails, too
        raise ValueError(
            f"{name} has floating-point values from {low:.4g} to {high:.4g}; they must lie in 0..1: divide by the "
            "largest value that the camera can give."
        )
    return values.clamp(0, 1)
