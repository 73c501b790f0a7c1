"""Several metrics of the same images at once, in the grey convention or in that of VIFB."""

from collections.abc import Iterable

from torch import Tensor

from fusion_env.errors import unknown_name
from fusion_env.metrics import vifb
from fusion_env.metrics.base import Metric, evaluate
from fusion_env.metrics.registry import get

__all__ = ["compute"]


def compute(
    selected: Iterable[str | Metric],
    fused: Tensor,
    *,
    ir: Tensor | None = None,
    vis: Tensor | None = None,
    convention: str = "gray",
) -> dict[str, Tensor]:
    """Compute several metrics of the same images; they share what they have in common.

    The values are bit for bit those of the single functions.

    Args:
        selected: Names of metrics or metrics, in the order wanted.
        fused: Luma ``[B, 1, H, W]``, ``uint8`` or floats in 0..1.
        ir: Infrared images, same shape and dtype; may be left out if no selected metric needs sources.
        vis: Luma of the visible images, likewise.
        convention: ``"gray"``, or ``"vifb"`` for the values of the VIFB benchmark: names only, and images may have
            three planes; see `fusion_env.metrics.vifb`.

    Returns:
        One ``[B]`` tensor for each name.

    Raises:
        UnknownNameError: If a name is not a metric, or of no metric of this convention, or the convention is unknown;
            nothing has been computed then.
        ValueError: If a selected metric needs a source that is missing, or two different ones have the same name.
    """
    if convention == "vifb":
        return vifb.compute(selected, fused, ir=ir, vis=vis)  # type: ignore[arg-type]  # it refuses what is no name
    if convention != "gray":
        raise unknown_name("convention", convention, ("gray", "vifb"))
    chosen: dict[str, Metric] = {}
    for item in selected:
        metric = item if isinstance(item, Metric) else get(item)
        if chosen.setdefault(metric.name, metric) != metric:
            raise ValueError(f"two different metrics are called {metric.name!r}: give one of them another name")
    return evaluate(tuple(chosen.values()), fused, ir=ir, vis=vis)
