"""Image-fusion metrics as batched torch functions: luma ``[B, 1, H, W]`` in, one value for each image out.

Images are ``uint8`` levels or floats in 0..1; every metric rounds to whole levels and works on the 0..255 scale of the
literature, so a tensor and the file saved from it score the same. ``float64`` images are computed in double precision,
all others in float32. NaN in an image gives NaN for that image. Nothing waits for a GPU, and no gradients are recorded,
except by `ssim_index`. One file holds one family; `registry` lists them all.
"""

from fusion_env.metrics.gradient import ag, ei
from fusion_env.metrics.information import vif, vif_pair
from fusion_env.metrics.levels import gray_levels, to_levels
from fusion_env.metrics.registry import Metric, compute, get, names
from fusion_env.metrics.similarity import ssim, ssim_index, ssim_pair
from fusion_env.metrics.statistics import en, sd

__all__ = [
    "Metric",
    "ag",
    "compute",
    "ei",
    "en",
    "get",
    "gray_levels",
    "names",
    "sd",
    "ssim",
    "ssim_index",
    "ssim_pair",
    "to_levels",
    "vif",
    "vif_pair",
]
