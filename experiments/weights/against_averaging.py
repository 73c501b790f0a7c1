"""Compare a fusion method with pixel averaging on the plain fusion metrics."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from experiments.output import markdown_table
from fusion_env import metrics
from fusion_env.data import PairSource, luma_levels

__all__ = ["METRICS", "Comparison", "compare_with_averaging", "comparison_table"]

METRICS = ("ag", "ei", "sd", "en", "vif", "ssim")

Comparison = dict[str, dict[str, float]]
"""For each method the mean of each metric."""

Fuse = Callable[..., Tensor]
"""Maps infrared [1, 1, H, W] and visible RGB [1, 3, H, W], 0..1, to fused luma."""


@torch.inference_mode()
def compare_with_averaging(source: PairSource, indices: Sequence[int], methods: dict[str, Fuse]) -> Comparison:
    """Score fusion methods and pixel averaging on whole images.

    Args:
        source: Image pairs.
        indices: Which of them.
        methods: Fusion methods by name.

    Returns:
        Means over the images, with ``"average"`` first.
    """
    sums = {name: dict.fromkeys(METRICS, 0.0) for name in ("average", *methods)}
    for index in indices:
        pair = source.load(index)
        ir, rgb = pair.ir[None].float() / 255, pair.vis[None].float() / 255
        vis = luma_levels(pair.vis)[None].float() / 255
        for name in sums:
            fused = (ir + vis) / 2 if name == "average" else methods[name](ir=ir, vis=rgb)
            for metric, value in metrics.compute(METRICS, fused, ir=ir, vis=vis).items():
                sums[name][metric] += float(value) / len(indices)
    return sums


def comparison_table(comparison: Comparison) -> str:
    """Write a comparison as a Markdown table, methods as rows."""
    rows = [[method, *(values[metric] for metric in METRICS)] for method, values in comparison.items()]
    return markdown_table(["", *(name.upper() for name in METRICS)], rows, decimals=3)
