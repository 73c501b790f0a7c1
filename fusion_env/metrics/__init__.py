"""Image-fusion metrics as batched torch functions: luma ``[B, 1, H, W]`` in, one value for each image out.

Images are ``uint8`` levels or floats in 0..1; every metric rounds to whole levels and works on the 0..255 scale of the
literature, so a tensor and the file saved from it score the same. ``float64`` images are computed in double precision,
all others in float32, unless a metric says otherwise. NaN in an image gives NaN for that image. Nothing waits for a
GPU, and no gradients are recorded, except by `ssim_index`. One file holds one family; `names` lists them all.
"""

from fusion_env.metrics.base import Metric
from fusion_env.metrics.conventions import compute
from fusion_env.metrics.correlation import cc, psnr, scd
from fusion_env.metrics.edges import qabf
from fusion_env.metrics.fidelity import vif, vif_pair, viff
from fusion_env.metrics.gradient import ag, ag_forward, ei, ei_zero, sf, sf_uint8
from fusion_env.metrics.images import Images
from fusion_env.metrics.information import en, mi
from fusion_env.metrics.levels import gray_levels, to_levels
from fusion_env.metrics.quality import clip_iqa, quality_metric
from fusion_env.metrics.registry import get, metric, names, register
from fusion_env.metrics.similarity import ms_ssim, ssim, ssim_index, ssim_pair
from fusion_env.metrics.statistics import sd

__all__ = [
    "Images",
    "Metric",
    "ag",
    "ag_forward",
    "cc",
    "clip_iqa",
    "compute",
    "ei",
    "ei_zero",
    "en",
    "get",
    "gray_levels",
    "metric",
    "mi",
    "ms_ssim",
    "names",
    "psnr",
    "qabf",
    "quality_metric",
    "register",
    "scd",
    "sd",
    "sf",
    "sf_uint8",
    "ssim",
    "ssim_index",
    "ssim_pair",
    "to_levels",
    "vif",
    "vif_pair",
    "viff",
]
