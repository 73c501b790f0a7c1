"""Image pairs: folders, procedural scenes, colour conversion, splits and the on-device store."""

from fusion_env.data.colour import luma_levels, rgb_to_luma, rgb_to_ycbcr, ycbcr_to_rgb
from fusion_env.data.folder import PairedFolder
from fusion_env.data.images import read_infrared, read_luma, read_visible, write_png
from fusion_env.data.pairs import ImagePair, PairSource
from fusion_env.data.splits import Splits, make_splits
from fusion_env.data.store import ImageStore

__all__ = [
    "ImagePair",
    "ImageStore",
    "PairSource",
    "PairedFolder",
    "ProceduralScenes",
    "Splits",
    "luma_levels",
    "make_splits",
    "read_infrared",
    "read_luma",
    "read_visible",
    "rgb_to_luma",
    "rgb_to_ycbcr",
    "write_png",
    "ycbcr_to_rgb",
]


def __getattr__(name: str) -> object:
    if name != "ProceduralScenes":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fusion_env.data.procedural import ProceduralScenes

    return ProceduralScenes
