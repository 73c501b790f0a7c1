"""Image pairs: folders, published data sets, procedural scenes, labels, colour conversion, and splits."""

from fusion_env.data.colour import luma_levels, rgb_to_luma, rgb_to_ycbcr, ycbcr_to_rgb
from fusion_env.data.folder import PairedFolder
from fusion_env.data.images import read_infrared, read_luma, read_visible, write_png
from fusion_env.data.labels import Box, read_boxes, read_mask
from fusion_env.data.layouts import DataSet, data_sets
from fusion_env.data.named_set import NamedSet, named
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
    "Box",
    "DataSet",
    "ImagePair",
    "NamedSet",
    "PairSource",
    "PairedFolder",
    "ProceduralScenes",
    "Progress",
    "SourceSettings",
    "Splits",
    "absolute_data",
    "check_source",
    "data_sets",
    "joint_error",
    "load_pair",
    "luma_levels",
    "make_splits",
    "missing_source",
    "named",
    "no_progress",
    "open_source",
    "read_boxes",
    "read_infrared",
    "read_luma",
    "read_mask",
    "read_visible",
    "rgb_to_luma",
    "rgb_to_ycbcr",
    "sources",
    "write_png",
    "ycbcr_to_rgb",
]
