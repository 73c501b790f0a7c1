"""Image pairs: folders, procedural scenes, colour conversion, and splits."""

from fusion_env.data.colour import luma_levels, rgb_to_luma, rgb_to_ycbcr, ycbcr_to_rgb
from fusion_env.data.folder import PairedFolder
from fusion_env.data.images import read_infrared, read_luma, read_visible, write_png
from fusion_env.data.pairs import (
    ImagePair,
    PairSource,
    Progress,
    check_source,
    joint_error,
    load_pair,
    no_progress,
)
from fusion_env.data.procedural import ProceduralScenes
from fusion_env.data.sources import SourceSettings, absolute_data, missing_source, open_source, sources
from fusion_env.data.splits import Splits, make_splits

__all__ = [
    "ImagePair",
    "PairSource",
    "PairedFolder",
    "ProceduralScenes",
    "Progress",
    "SourceSettings",
    "Splits",
    "absolute_data",
    "check_source",
    "joint_error",
    "load_pair",
    "luma_levels",
    "make_splits",
    "missing_source",
    "no_progress",
    "open_source",
    "read_infrared",
    "read_luma",
    "read_visible",
    "rgb_to_luma",
    "rgb_to_ycbcr",
    "sources",
    "write_png",
    "ycbcr_to_rgb",
]
