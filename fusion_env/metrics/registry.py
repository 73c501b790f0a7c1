"""The metrics by name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from fusion_env.errors import unknown_name
from fusion_env.metrics.gradient import ag, ei
from fusion_env.metrics.information import vif
from fusion_env.metrics.similarity import ssim
from fusion_env.metrics.statistics import en, sd

__all__ = ["Metric", "compute", "get", "names"]


@dataclass(frozen=True)
class Metric:
    """One metric and what a caller must know to use it."""

    name: str
    """Name in settings, tables and result files."""
    function: Callable[..., Tensor]
    """``function(fused)``, or ``function(fused, ir, vis)`` where sources are needed; returns ``[B]``."""
    needs_sources: bool
    """Whether the infrared and visible images are arguments, too."""
    minimum_size: int
    """Smallest height and width in pixels."""
    higher_is_better: bool
    """Direction in which the literature reads it."""


_METRICS = {
    metric.name: metric
    for metric in (
        Metric("ag", ag, needs_sources=False, minimum_size=2, higher_is_better=True),
        Metric("ei", ei, needs_sources=False, minimum_size=1, higher_is_better=True),
        Metric("sd", sd, needs_sources=False, minimum_size=1, higher_is_better=True),
        Metric("en", en, needs_sources=False, minimum_size=1, higher_is_better=True),
        Metric("vif", vif, needs_sources=True, minimum_size=41, higher_is_better=True),
        Metric("ssim", ssim, needs_sources=True, minimum_size=11, higher_is_better=True),
    )
}


def names() -> tuple[str, ...]:
    """Return the names of all metrics."""
    return tuple(_METRICS)


def get(name: str) -> Metric:
    """Return a metric by name.

    Raises:
        UnknownNameError: If there is no such metric; the message suggests the nearest name.
    """
    if name not in _METRICS:
        raise unknown_name("metric", name, _METRICS)
    return _METRICS[name]


def compute(
    selected: Iterable[str], fused: Tensor, ir: Tensor | None = None, vis: Tensor | None = None
) -> dict[str, Tensor]:
    """Compute several metrics of the same images.

    Args:
        selected: Names of metrics, in the order wanted.
        fused: Luma ``[B, 1, H, W]``, ``uint8`` or floats in 0..1.
        ir: Infrared images, same shape and dtype; may be left out if no selected metric needs sources.
        vis: Luma of the visible images, likewise.

    Returns:
        One ``[B]`` tensor for each name.

    Raises:
        UnknownNameError: If a name is not a metric; nothing has been computed then.
        ValueError: If a selected metric needs a source that is missing.
    """
    metrics = [get(name) for name in selected]
    needing = [metric.name for metric in metrics if metric.needs_sources]
    if needing and (ir is None or vis is None):
        missing = " and ".join(name for name, image in (("ir", ir), ("vis", vis)) if image is None)
        raise ValueError(f"{', '.join(needing)} need the source images. Got no {missing}")
    return {
        metric.name: metric.function(fused, ir, vis) if metric.needs_sources else metric.function(fused)
        for metric in metrics
    }
