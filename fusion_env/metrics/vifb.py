"""The metrics as the VIFB benchmark defines and publishes them: on colour planes, with some other normalisations.

Source: Zhang, Ye & Xiao, "VIFB: A visible and infrared image fusion benchmark", CVPRW 2020. The difference from the
grey convention of `fusion_env.metrics` is below 1.5 % for most images and large (6 to 140 %) for strongly coloured
ones; never put both into one table.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import log

import torch
from torch import Tensor

from fusion_env.errors import unknown_name
from fusion_env.metrics.base import evaluate
from fusion_env.metrics.edges import qabf
from fusion_env.metrics.gradient import ag, ei, sf
from fusion_env.metrics.images import Images
from fusion_env.metrics.information import en, mi
from fusion_env.metrics.similarity import ssim
from fusion_env.metrics.statistics import sd

__all__ = ["METRICS", "compute"]


def compute(
    selected: Iterable[str], fused: Tensor, *, ir: Tensor | None = None, vis: Tensor | None = None
) -> dict[str, Tensor]:
    """Compute metrics in the convention of VIFB.

    Each plane of F is compared with the same plane of the sources, and the planes' values are averaged. Images of one
    plane are repeated where another one has three. AG divides its sum by (M-1)(N-1), MI takes the natural logarithm, SF
    takes the planes for one M x 3N image, laid side by side, and divides both sums by its number of pixels.

    Args:
        selected: Names, from `METRICS`.
        fused: ``[B, 3, H, W]`` RGB or ``[B, 1, H, W]`` grey, ``uint8`` or floats in 0..1.
        ir: Infrared images, likewise, same size and dtype; may be left out if no selected metric needs sources.
        vis: Visible images, likewise.

    Returns:
        One ``[B]`` tensor for each name.

    Raises:
        UnknownNameError: If a metric does not exist in this convention.
        ValueError: If an image has neither one nor three planes, or a source is missing.
    """
    names = tuple(selected)
    for name in names:
        if name not in METRICS:
            raise unknown_name("metric of the VIFB convention", name, METRICS)
    given = {"fused": fused, "ir": ir, "vis": vis}
    for name, image in given.items():
        if image is not None and (image.ndim != 4 or image.shape[1] not in (1, 3)):
            raise ValueError(f"{name} must be [B, 3, H, W] or [B, 1, H, W]. Got shape {list(image.shape)}")
    planes = max(image.shape[1] for image in given.values() if image is not None)
    sources = {name: None if image is None else _split(image, planes) for name, image in (("ir", ir), ("vis", vis))}
    plain = evaluate([METRICS[name] for name in names if name != "sf"], _split(fused, planes), **sources)
    values = {name: value.unflatten(0, (-1, planes)).mean(dim=1) for name, value in plain.items()}
    if "sf" in names:
        values["sf"] = METRICS["sf"](torch.cat(fused.split(1, dim=1), dim=-1))
    return {name: values[name] for name in names}


def _split(image: Tensor, planes: int) -> Tensor:
    """Turn ``[B, C, H, W]`` into ``[B * planes, 1, H, W]``."""
    return image.expand(-1, planes, -1, -1).flatten(0, 1)[:, None]


def _ag(images: Images) -> Tensor:
    height, width = images.fused.shape[-2:]
    return ag.function(images) * (height * width / ((height - 1) * (width - 1)))


def _mi(images: Images) -> Tensor:
    return mi.function(images) * log(2.0)


def _sf(images: Images) -> Tensor:
    levels = images.fused
    across = (levels[..., 1:] - levels[..., :-1]).square_().sum(dim=(1, 2, 3))
    down = (levels[..., 1:, :] - levels[..., :-1, :]).square_().sum(dim=(1, 2, 3))
    return ((across + down) / levels[0].numel()).sqrt_()


METRICS = {
    metric.name: metric
    for metric in (
        replace(ag, function=_ag, summary="as AG, the sum divided by (M-1)(N-1)"),
        ei,
        replace(sf, function=_sf, summary="as SF, both sums divided by the number of pixels"),
        sd,
        en,
        replace(mi, function=_mi, summary="as MI, natural logarithm"),
        qabf,
        ssim,
    )
}
"""The metrics of one plane, by name; `compute` applies them to colour images."""
