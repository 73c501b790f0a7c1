"""What a metric is, and how several of them are computed together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fusion_env.metrics.images import Images
from fusion_env.metrics.levels import check_images

__all__ = ["Metric", "evaluate"]

# Pixels of one batch that are worked on together: on a CPU what fits its caches, elsewhere what bounds the memory.
CHUNK_PIXELS_CPU = 2**18
CHUNK_PIXELS_GPU = 2**22


@dataclass(frozen=True)
class Metric:
    """One metric and what a caller must know to use it; calling it computes it.

    The decorator `fusion_env.metrics.metric` makes one of a function. `compute` takes the object as well as a name,
    so that a metric of your own needs no registration.
    """

    name: str
    """Name in settings, tables and result files."""
    function: Callable[[Images], Tensor]
    """Maps images (at most one chunk of a batch) to ``[B]``; the sources are there only where `needs_sources`."""
    needs_sources: bool
    """Whether the infrared and visible images are needed, too."""
    minimum_size: int
    """Smallest height and width in pixels."""
    higher_is_better: bool
    """Direction in which the literature reads it."""
    summary: str
    """The definition in one line."""
    range: str
    """Range of the values, in words."""

    def __call__(self, fused: Tensor, *, ir: Tensor | None = None, vis: Tensor | None = None) -> Tensor:
        """Compute the metric.

        Args:
            fused: Luma ``[B, 1, H, W]``, ``uint8`` or floats in 0..1.
            ir: Infrared images, same shape and dtype; ignored where the metric needs no sources.
            vis: Luma of the visible images, likewise.

        Returns:
            ``[B]``, ``float64`` for ``float64`` images and ``float32`` for all others.

        Raises:
            ValueError: If shapes are wrong or differ, or a source is missing.
            TypeError: If dtypes are wrong or differ, or the function returns anything but one value for each image.
            DataError: If the images are too small.
        """
        return evaluate([self], fused, ir=ir, vis=vis)[self.name]


@torch.no_grad()
def evaluate(
    metrics: Sequence[Metric], fused: Tensor, *, ir: Tensor | None = None, vis: Tensor | None = None
) -> dict[str, Tensor]:
    """Compute metrics of the same images, sharing intermediate results; see `Metric.__call__`.

    The batch is worked off in chunks, so that the memory needed beside the images does not grow with it.

    Args:
        metrics: The metrics, in the order wanted.
        fused: Luma ``[B, 1, H, W]``, ``uint8`` or floats in 0..1.
        ir: Infrared images, same shape and dtype; ignored where no metric needs sources.
        vis: Luma of the visible images, likewise.

    Returns:
        One ``[B]`` tensor for each name.
    """
    if not metrics:
        return {}
    given = {"fused": fused}
    needing = [metric.name for metric in metrics if metric.needs_sources]
    if needing:
        sources = {name: image for name, image in (("ir", ir), ("vis", vis)) if image is not None}
        missing = " and ".join(name for name in ("ir", "vis") if name not in sources)
        if missing:
            raise ValueError(f"{', '.join(needing)} need the source images. Got no {missing}")
        given |= sources
    largest = max(metrics, key=lambda metric: metric.minimum_size)
    check_images(largest.minimum_size, needed_by=largest.name, **given)
    limit = CHUNK_PIXELS_CPU if fused.is_cpu else CHUNK_PIXELS_GPU
    size = max(1, limit // fused[0].numel())
    chunks = zip(*(image.split(size) for image in given.values()), strict=True)
    wanted = frozenset(metric.function for metric in metrics)
    parts = [_values(metrics, Images(*chunk, wanted=wanted)) for chunk in chunks]  # type: ignore[misc]
    return {metric.name: torch.cat([part[metric.name] for part in parts]) for metric in metrics}


def _values(metrics: Sequence[Metric], images: Images) -> dict[str, Tensor]:
    return {metric.name: _checked(metric, metric.function(images), len(images.fused)) for metric in metrics}


def _checked(metric: Metric, values: object, count: int) -> Tensor:
    if not isinstance(values, Tensor) or values.shape != (count,):
        got = f"shape {list(values.shape)}" if isinstance(values, Tensor) else f"a {type(values).__name__}"
        raise TypeError(
            f"metric {metric.name!r} must return one value for each image, a tensor of shape [{count}] here, such as "
            f"values.mean(dim=(1, 2, 3)). Got {got}."
        )
    return values
