"""Images for the metrics, which take the sources by keyword only."""

from collections.abc import Iterable

from torch import Tensor


def named(images: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return fused, infrared and visible images (or the fused ones alone) as keyword arguments."""
    return dict(zip(("fused", "ir", "vis"), images, strict=False))
