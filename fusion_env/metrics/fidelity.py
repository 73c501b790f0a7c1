"""Visual information fidelity: what of the sources' detail a fused image still tells, VIF (vifp) and VIFF."""

from collections.abc import Iterator
from math import inf, log
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fusion_env.filters import Window, gaussian_window, halve, local_moments, stack_rows_first, strips
from fusion_env.metrics.images import Images
from fusion_env.metrics.levels import check_images, to_levels
from fusion_env.metrics.registry import metric

__all__ = ["vif", "vif_pair", "viff"]

_WINDOWS = tuple(gaussian_window(size, size / 5) for size in (17, 9, 5, 3))
_MINIMUM_SIZE = 41
_VIF_NOISE = 2.0
_VIFF_NOISE = 0.005 * 255**2
# Added to each logarithm; the factor turns Han's log10 into ln.
_VIFF_TINY = 1e-7 * log(10.0)
_VIFF_WEIGHTS = (1 / 2.15, 0.0, 0.15 / 2.15, 1 / 2.15)
# Makes 0 / 0 of a constant source 1.
_TINY = 1e-10
# Variances up to this are those of flat regions.
_FLAT = 1e-10


@metric(
    needs_sources=True,
    minimum_size=_MINIMUM_SIZE,
    summary="pixel-domain VIF (Sheikh-Bovik vifp), summed over the sources",
    range="0..about 2, more with added contrast",
)
def vif(images: Images) -> Tensor:
    """Compute the visual information fidelity (VIF) of fused images: ``vif_pair(vis, F) + vif_pair(ir, F)``.

    Higher is better (more of the sources' information is kept); about 2 for perfect fidelity to both sources, more
    where F raises their contrast. The order of the sources does not matter. At least 41x41 pixels.

    Variants: CDDFuse publishes this sum as "VIFF", TDFusion half of it; Han's VIFF is another metric (`viff`), and so
    is the wavelet VIF of pyiqa. IVIF_ZOO pads with zeros and shifts the window, +2.5 %.

    Returns:
        ``[B]``; see `vif_pair` for the precision.
    """
    if viff.function in images.wanted:
        return images.once(_both)[0]
    return _accumulate(images, _VifSums())[0]


@metric(
    needs_sources=True,
    minimum_size=_MINIMUM_SIZE,
    summary="VIF for fusion (Han 2013): of the source with the smaller gain at each pixel (AgentFuse)",
    range="0..about 1, more with added contrast",
)
def viff(images: Images) -> Tensor:
    """Compute the visual information fidelity for fusion (VIFF) of Han et al.

    On the four scales of `vif_pair`, F is modelled as ``g S + v`` of either source, with the noise ``s_n^2 = 0.005 *
    255^2``. Each pixel counts for one source only, the visible one where its g is the smaller: ``N = log10(1 + g^2
    s_S^2 / (s_v^2 + s_n^2))`` and ``D = log10(1 + s_S^2 / s_n^2)``. A scale's value is ``sum(N + 1e-7) / sum(D +
    1e-7)``, and VIFF their mean with the weights 1, 0, 0.15, 1. Higher is better; 0 where nothing is left, 1 for F
    equal to both sources, above 1 where F has more contrast than the source picked. At least 41x41 pixels.

    The order of the sources matters only in flat regions, where both g are 0 and infrared is picked.

    Source: Han, Cai, Cao & Xu, "A new image fusion performance metric based on visual information fidelity",
    Information Fusion 2013, on grey levels; most likely the VIFF of the AgentFuse paper. Variants: the "VIFF" of
    CDDFuse is `vif`. On 0..1 data with the same noise the number is another one. For colour, Han takes CIELAB's L.

    Returns:
        ``[B]``, computed in double precision whatever the dtype: in flat regions, which source is picked hangs on
        rounding noise.
    """
    if vif.function in images.wanted:
        return images.once(_both)[1]
    return _accumulate(images, _ViffSums())[0]


@torch.no_grad()
def vif_pair(source: Tensor, fused: Tensor) -> Tensor:
    """Compute the pixel-domain VIF of fused images against one source; the order of the arguments matters.

    On four scales, with local moments under Gaussian windows of 17, 9, 5 and 3 pixels (sigma = size / 5, no padding),
    F is modelled as ``g S + v``. The value is ``sum log(1 + g^2 s_S^2 / (s_v^2 + 2)) / sum log(1 + s_S^2 / 2)``, both
    sums over all pixels of all scales. From the second scale on, the images are first filtered and every second pixel
    is kept. Higher is better; 0 where nothing of S is left, 1 for F = S, above 1 where F has more contrast. A constant
    source has nothing to lose and gives 1. At least 41x41 pixels.

    Source: Sheikh & Bovik, "Image information and visual quality", IEEE TIP 2006, in the authors' pixel-domain version
    ``vifp_mscale``; sewar, piq (``vif_p``), torchmetrics and CDDFuse compute the same.

    Args:
        source: Luma ``[B, 1, H, W]`` of the reference, ``uint8`` or floats in 0..1.
        fused: Luma of the fused images, same shape and dtype.

    Returns:
        ``[B]``, computed in double precision whatever the dtype: the value of a nearly flat region hangs on the
        correlation of tiny differences, and in float32 an image with saturated regions is off by up to 2 %.
    """
    check_images(_MINIMUM_SIZE, source=source, fused=fused)
    levels = to_levels(fused)
    sums = _VifSums()
    for scale, channel in _channels(stack_rows_first(levels, to_levels(source))):
        sums.add(scale, channel)
    return sums.value().to(levels.dtype)


class _Channel(NamedTuple):
    """The model ``F = g S + v`` at each pixel of a strip, for S sources; float64."""

    variance_f: Tensor
    """``[h, 1, B, w]`` variance of F; 0 in flat regions."""
    variance_s: Tensor
    """``[h, S, B, w]`` variances of the sources; 0 in flat regions."""
    gain: Tensor
    """``[h, S, B, w]`` g, at least 0; 0 where the source is flat."""
    explained: Tensor
    """``[h, S, B, w]`` ``g^2 s_S^2``, the part of F's variance that the source explains; v has the rest."""


def _both(images: Images) -> tuple[Tensor, ...]:
    """Compute VIF and VIFF in one pass: nearly all of the work is the model, which is the same."""
    return _accumulate(images, _VifSums(), _ViffSums())


def _accumulate(images: Images, *sums: "_VifSums | _ViffSums") -> tuple[Tensor, ...]:
    for scale, channel in _channels(stack_rows_first(images.fused, images.ir, images.vis)):
        for each in sums:
            each.add(scale, channel)
    return tuple(each.value().to(images.fused.dtype) for each in sums)


def _channels(images: Tensor) -> Iterator[tuple[int, _Channel]]:
    """Model F on each scale, strip by strip.

    Args:
        images: Levels ``[H, 1 + S, B, W]``, F first.

    Yields:
        Index of the scale, and the model for one strip.
    """
    for scale, window in enumerate(_WINDOWS):
        if scale > 0:
            images = torch.cat([halve(strip.double(), window) for strip in strips(images, window, stride=2)])
        for strip in strips(images, window):
            yield scale, _channel(strip.double(), window)


def _channel(images: Tensor, window: Window) -> _Channel:
    _, _, variance_f, variance_s, covariance = local_moments(images, window)
    F.threshold(variance_f, _FLAT, 0.0, inplace=True)
    F.threshold(variance_s, _FLAT, 0.0, inplace=True)
    # A negative g counts as 0, and so does that of a flat source. Rounding must not explain more than there is.
    covariance.clamp_(min=0.0)
    gain = covariance / F.threshold(variance_s, 0.0, inf)
    explained = torch.minimum(covariance.mul_(gain), variance_f)
    return _Channel(variance_f, variance_s, gain, explained)


def _log_gains(variance_f: Tensor, explained: Tensor, noise: float) -> Tensor:
    """Sum ``log(1 + explained / (variance_f - explained + noise))`` over the pixels: ``[S, B]``."""
    whole = variance_f + noise
    return _log_sum(whole) - _log_sum(whole - explained)


def _log_sum(factors: Tensor, unit: float = 1.0) -> Tensor:
    """Sum ``log(factors / unit)`` over the pixels: ``[h, S, B, w]`` -> ``[S, B]``."""
    # The logarithm of a product costs less than many logarithms. Variances of levels are at most 2^14, so the largest
    # product is 2^899, which float64 holds; and if all factors are a unit of 2, the result is exactly 0.
    products = (rows.prod(dim=0).mul_(unit ** -len(rows)) for rows in factors.split(64))
    return torch.stack([product.log_().sum(dim=-1) for product in products]).sum(dim=0)


class _VifSums:
    """Sums of VIF over the pixels of all scales, for each source and image."""

    def __init__(self) -> None:
        self._kept = self._available = torch.tensor(_TINY, dtype=torch.float64)

    def add(self, scale: int, channel: _Channel) -> None:
        self._kept = self._kept + _log_gains(channel.variance_f, channel.explained, _VIF_NOISE)
        self._available = self._available + _log_sum(channel.variance_s + _VIF_NOISE, unit=_VIF_NOISE)

    def value(self) -> Tensor:
        """Return VIF summed over the sources, ``[B]``."""
        return (self._kept / self._available).sum(dim=0)


class _ViffSums:
    """Sums of VIFF over the pixels of each scale, for each image; the sources are infrared, visible."""

    def __init__(self) -> None:
        self._kept: list[Tensor] = []
        self._available: list[Tensor] = []

    def add(self, scale: int, channel: _Channel) -> None:
        gain_ir, gain_vis = channel.gain.split(1, dim=1)
        # In a flat F both g are 0.
        visible = (gain_vis < gain_ir).logical_and_(channel.variance_f > 0.0)
        explained, variance_s = (
            torch.where(visible, plane[:, 1:], plane[:, :1]) for plane in (channel.explained, channel.variance_s)
        )
        tiny = _VIFF_TINY * explained[:, 0, 0].numel()
        kept = _log_gains(channel.variance_f, explained, _VIFF_NOISE)[0] + tiny
        available = _log_sum(variance_s.add_(_VIFF_NOISE), unit=_VIFF_NOISE)[0] + tiny
        if scale == 0:
            # A comparison hides NaN: the other source is picked.
            kept += 0.0 * channel.variance_s.sum(dim=(0, 1, 3))
        if scale == len(self._kept):
            self._kept.append(kept)
            self._available.append(available)
        else:
            self._kept[scale] += kept
            self._available[scale] += available

    def value(self) -> Tensor:
        """Return VIFF ``[B]``."""
        scales = zip(_VIFF_WEIGHTS, self._kept, self._available, strict=True)
        first, *others = (weight * kept / available for weight, kept, available in scales)
        return sum(others, start=first)
