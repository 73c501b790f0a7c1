"""Image pairs of any sizes, held on the device as 8-bit levels and cut into batches there."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fusion_env.data.colour import luma_levels
from fusion_env.data.pairs import ImagePair, PairSource, Progress, joint_error, no_progress
from fusion_env.errors import DataError

__all__ = ["ImageStore"]

Indices = NDArray[np.int64]


class ImageStore:
    """Hold infrared and visible luma of some pairs in two flat uint8 buffers.

    Images keep their own sizes: nothing is scaled, cropped or padded, and a batch of crops is one gather per
    buffer. Positions in the store count from 0 in the order of `indices`. All pairs are loaded here, so that a bad
    file is known before training starts.

    Args:
        source: The pairs.
        indices: Which pairs of the source to hold, and in which order.
        device: Where the buffers live and batches are made.
        progress: Progress display over the pairs.

    Attributes:
        names: Names of the pairs.
        heights: Height in pixels of each pair, int64 ``[N]`` on the host, read-only.
        widths: Width in pixels of each pair, likewise.
        device: Where the buffers live.

    Raises:
        IndexError: If an index is not in the source.
        DataError: If there is nothing to hold, or naming every pair that cannot be loaded.
    """

    def __init__(
        self,
        source: PairSource,
        indices: Sequence[int],
        device: str | torch.device = "cpu",
        progress: Progress = no_progress,
    ) -> None:
        if len(indices) == 0:
            raise DataError(f"{source.name}: no image pairs chosen to be loaded")
        outside = [index for index in indices if not 0 <= index < len(source)]
        if outside:
            raise IndexError(f"indices must be 0 to {len(source) - 1} in {source.name}. Got {outside}")
        self.device = torch.device(device)
        self.names = tuple(source.names[index] for index in indices)
        sizes = np.array([source.sizes[index] for index in indices], dtype=np.int64)
        self.heights, self.widths = sizes[:, 0].copy(), sizes[:, 1].copy()
        areas = self.heights * self.widths
        self._offsets = np.cumsum(areas) - areas
        for array in (self.heights, self.widths, self._offsets):
            array.flags.writeable = False
        ir, vis = self._load(source, indices, int(areas.sum()), progress)
        self._ir, self._vis = ir.to(self.device), vis.to(self.device)

    def __len__(self) -> int:
        """Return the number of pairs held."""
        return len(self.names)

    @property
    def nbytes(self) -> int:
        """Memory that the images take on the device, in bytes."""
        return self._ir.nbytes + self._vis.nbytes

    def crops(
        self,
        image: ArrayLike | Tensor,
        top: ArrayLike | Tensor,
        left: ArrayLike | Tensor,
        flip: ArrayLike | Tensor,
        size: int,
    ) -> tuple[Tensor, Tensor]:
        """Cut square crops, one per entry of the arguments.

        Args:
            image: Positions in the store ``[B]``. This and the next three are arrays, sequences or tensors; on the
                host they are checked for free, tensors on the device are copied back first.
            top: First row of each crop ``[B]``.
            left: First column of each crop ``[B]``.
            flip: Whether to mirror each crop left to right, bool ``[B]``.
            size: Side of the crops in pixels.

        Returns:
            Infrared and visible luma, float32 ``[B, 1, size, size]`` in 0..1 on the device.

        Raises:
            DataError: If images are smaller than the crop; all of them are named.
            IndexError: If a position is not in the store or a crop reaches out of its image.
        """
        plan = self._checked_plan({"image": image, "top": top, "left": left, "flip": flip}, size)
        corner, width, mirrored = (row[:, None] for row in plan.to(self.device))
        steps = torch.arange(size, device=self.device)
        rows = corner + steps * width
        columns = torch.where(mirrored.bool(), size - 1 - steps, steps)
        pixels = (rows[:, :, None] + columns[:, None, :]).flatten()
        shape = (plan.shape[1], 1, size, size)
        ir, vis = (_unit(buffer.index_select(0, pixels)).view(shape) for buffer in (self._ir, self._vis))
        return ir, vis

    def whole(self, position: int) -> tuple[Tensor, Tensor]:
        """Return one pair uncropped.

        Args:
            position: Position in the store.

        Returns:
            Infrared and visible luma, float32 ``[1, 1, H, W]`` in 0..1 on the device.

        Raises:
            IndexError: If the position is not in the store.
        """
        self._check_positions(np.array([position]))
        height, width = int(self.heights[position]), int(self.widths[position])
        pixels = slice(int(self._offsets[position]), int(self._offsets[position]) + height * width)
        ir, vis = (_unit(buffer[pixels]).view(1, 1, height, width) for buffer in (self._ir, self._vis))
        return ir, vis

    def check_crop_size(self, size: int, image: ArrayLike | Tensor | None = None) -> None:
        """Make sure that images are large enough to be cropped.

        Args:
            size: Side of the crops in pixels, at least 1.
            image: Positions in the store ``[B]``; None means all.

        Raises:
            ValueError: If the size is not positive.
            DataError: Naming all images that are smaller than the crop (20 at most, then a count).
            IndexError: If a position is not in the store.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1 pixel. Got {size}")
        image = np.arange(len(self)) if image is None else _host("image", image)
        self._check_positions(image)
        small = np.unique(image[np.minimum(self.heights, self.widths)[image] < size])
        if small.size:
            raise joint_error(
                f"crops of {size} x {size} do not fit; make them smaller, or enlarge with small_images='reflect'",
                [f"{self.names[p]}: {self.heights[p]} x {self.widths[p]} (height x width)" for p in small],
            )

    def random_crop_origins(
        self, rng: np.random.Generator, image: ArrayLike | Tensor, size: int
    ) -> tuple[Indices, Indices]:
        """Draw where to crop, every position in an image being equally likely.

        Args:
            rng: Source of randomness.
            image: Positions in the store ``[B]``.
            size: Side of the crops in pixels.

        Returns:
            First row and first column of each crop, int64 ``[B]``, for `crops`.

        Raises:
            DataError: If images are smaller than the crop; all of them are named.
            IndexError: If a position is not in the store.
        """
        image = _host("image", image)
        self.check_crop_size(size, image)
        top = rng.integers(0, self.heights[image] - size, endpoint=True)
        left = rng.integers(0, self.widths[image] - size, endpoint=True)
        return top, left

    def _checked_plan(self, crops: dict[str, ArrayLike | Tensor], size: int) -> Tensor:
        """Turn crops into three rows, int64 ``[3, B]``: first pixel in the buffers, image width, mirrored."""
        image, top, left, mirrored = given = [_host(argument, values) for argument, values in crops.items()]
        if len({len(values) for values in given}) > 1:
            raise ValueError(f"{', '.join(crops)} must have one length. Got {', '.join(str(len(v)) for v in given)}")
        self.check_crop_size(size, image)
        heights, widths = self.heights[image], self.widths[image]
        outside = np.flatnonzero((top < 0) | (left < 0) | (top + size > heights) | (left + size > widths))
        if outside.size:
            first = int(outside[0])
            raise IndexError(
                f"crop {first} (top {top[first]}, left {left[first]}, size {size}) reaches out of "
                f"{self.names[image[first]]!r}, which is {heights[first]} x {widths[first]} (height x width)"
            )
        return torch.from_numpy(np.stack([self._offsets[image] + top * widths + left, widths, mirrored]))

    def _load(
        self, source: PairSource, indices: Sequence[int], pixels: int, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        ir, vis = torch.empty(pixels, dtype=torch.uint8), torch.empty(pixels, dtype=torch.uint8)
        problems = []
        for position in progress(range(len(indices)), f"loading {source.name}"):
            try:
                pair = source.load(indices[position])
                self._check_loaded(position, pair)
                area = slice(int(self._offsets[position]), int(self._offsets[position]) + pair.ir.numel())
                ir[area] = pair.ir.flatten()
                vis[area] = luma_levels(pair.vis).flatten()
            except DataError as error:
                problems.append(str(error))
        if problems:
            raise joint_error(f"{source.name}: cannot load all image pairs", problems)
        return ir, vis

    def _check_loaded(self, position: int, pair: ImagePair) -> None:
        promised = (int(self.heights[position]), int(self.widths[position]))
        if tuple(pair.ir.shape[1:]) != promised:
            raise DataError(
                f"{pair.name}: loaded as {list(pair.ir.shape[1:])}, but its source promised {list(promised)}"
            )

    def _check_positions(self, image: Indices) -> None:
        outside = image[(image < 0) | (image >= len(self))]
        if outside.size:
            raise IndexError(f"positions must be 0 to {len(self) - 1}. Got {outside.tolist()}")


def _host(argument: str, values: ArrayLike | Tensor) -> Indices:
    array = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iub":
        raise ValueError(f"{argument} must be whole numbers or booleans [B]. Got {array.dtype} {list(array.shape)}")
    return array.astype(np.int64, copy=False)


def _unit(levels: Tensor) -> Tensor:
    """Map levels to 0..1; the division happens in the fresh float copy."""
    return levels.float().div_(255)
