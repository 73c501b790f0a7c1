"""Compare fusion methods with pixel averaging: metrics, quality score, and pixels that become black or white."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from experiments.output import markdown_table
from fusion_env import metrics
from fusion_env.data import PairedFolder, PairSource, ProceduralScenes, luma_levels
from fusion_env.data.scene_seeds import scene_seed
from fusion_env.perception.embedded_quality import load_embedded_quality

__all__ = [
    "CLIPPED",
    "METRICS",
    "Comparison",
    "Fuse",
    "check_sources",
    "compare_with_averaging",
    "comparison_table",
]

METRICS = ("ag", "ei", "sd", "en", "vif", "viff", "qabf", "ssim", "iqa")
CLIPPED = "at 0 or 255"
"""Share of the pixels, in per cent."""

Comparison = dict[str, dict[str, float]]
"""For each method the mean of each metric, and of `CLIPPED`."""

Fuse = Callable[..., Tensor]
"""Maps infrared [1, 1, H, W] and visible RGB [1, 3, H, W], 0..1, to fused luma."""


@torch.inference_mode()
def compare_with_averaging(source: PairSource, indices: Sequence[int], methods: Mapping[str, Fuse]) -> Comparison:
    """Score fusion methods and pixel averaging on whole images.

    Args:
        source: Image pairs.
        indices: Which of them.
        methods: Fusion methods by name.

    Returns:
        Means over the images, with ``"average"`` first.
    """
    quality = load_embedded_quality()
    means = {name: dict.fromkeys((*METRICS, CLIPPED), 0.0) for name in ("average", *methods)}
    for index in indices:
        pair = source.load(index)
        ir, rgb = pair.ir[None].float() / 255, pair.vis[None].float() / 255
        vis = luma_levels(pair.vis)[None].float() / 255
        for name, mean in means.items():
            fused = (ir + vis) / 2 if name == "average" else methods[name](ir=ir, vis=rgb)
            levels = metrics.to_levels(fused)
            values = metrics.compute([metric for metric in METRICS if metric != "iqa"], fused, ir=ir, vis=vis)
            values["iqa"] = quality(levels / 255)
            values[CLIPPED] = 100 * ((levels == 0) | (levels == 255)).float().mean()
            for column, value in values.items():
                mean[column] += float(value) / len(indices)
    return means


def comparison_table(comparison: Comparison) -> str:
    """Write a comparison as a Markdown table, methods as rows."""
    rows = [[method, *values.values()] for method, values in comparison.items()]
    return markdown_table(["", *(name.upper() for name in METRICS), f"{CLIPPED} (%)"], rows, decimals=3)


def check_sources(folders: Sequence[Path]) -> dict[str, tuple[PairSource, list[int]]]:
    """List what a network is measured on: unseen scenes, and real pairs, none of which is trained on.

    Args:
        folders: Each with a list ``val.txt``, or measured whole.

    Returns:
        By a title, a source and which of its pairs.
    """
    scenes = ProceduralScenes(24, 192, 256, scene_seed("embedded check"))
    sources: dict[str, tuple[PairSource, list[int]]] = {
        "Unseen procedural scenes (24, 192x256)": (scenes, list(range(len(scenes))))
    }
    for root in folders:
        folder = PairedFolder(root)
        named = folder.split_names["val"] if folder.split_names else folder.names
        title = f"{root.name}, {len(named)} of {len(folder)} pairs"
        sources[title] = folder, [folder.names.index(name) for name in named]
    return sources
