"""Compare fusion methods with pixel averaging: fusion metrics, and the pixels that are driven to black or white."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from experiments.output import markdown_table
from fusion_env import metrics
from fusion_env.data import PairSource, luma_levels

__all__ = ["CLIPPED", "METRICS", "Comparison", "compare_with_averaging", "comparison_table"]

METRICS = ("ag", "ei", "sd", "en", "vif", "viff", "qabf", "ssim")
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
    means = {name: dict.fromkeys((*METRICS, CLIPPED), 0.0) for name in ("average", *methods)}
    for index in indices:
        pair = source.load(index)
        ir, rgb = pair.ir[None].float() / 255, pair.vis[None].float() / 255
        vis = luma_levels(pair.vis)[None].float() / 255
        for name, mean in means.items():
            fused = (ir + vis) / 2 if name == "average" else methods[name](ir=ir, vis=rgb)
            levels = metrics.to_levels(fused)
            clipped = 100 * ((levels == 0) | (levels == 255)).float().mean()
            for column, value in {**metrics.compute(METRICS, fused, ir=ir, vis=vis), CLIPPED: clipped}.items():
                mean[column] += float(value) / len(indices)
    return means


def comparison_table(comparison: Comparison) -> str:
    """Write a comparison as a Markdown table, methods as rows."""
    rows = [[method, *values.values()] for method, values in comparison.items()]
    return markdown_table(["", *(name.upper() for name in METRICS), f"{CLIPPED} (%)"], rows, decimals=3)
