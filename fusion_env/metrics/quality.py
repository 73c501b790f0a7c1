"""Quality scores of a network as metrics of the fused image."""

from functools import cache, partial

import torch
from torch import Tensor, nn

from fusion_env.metrics.base import Metric
from fusion_env.metrics.images import Images
from fusion_env.metrics.registry import metric

__all__ = ["cached_clip_iqa", "clip_iqa", "quality_metric"]


def quality_metric(name: str, scorer: nn.Module) -> Metric:
    """Make a metric of a no-reference quality score, ready for `compute`.

    The scorer gets the fused luma rounded to whole levels and divided by 255, as every other metric sees it.

    Args:
        name: Name of the metric.
        scorer: Maps float32 images ``[B, 1, H, W]`` in 0..1, on its own device, to ``[B]``; higher is better.
    """
    return Metric(
        name,
        partial(_score, scorer),
        needs_sources=False,
        minimum_size=1,
        higher_is_better=True,
        summary=f"quality score {type(scorer).__name__} of the fused luma",
        range="that of the score",
    )


def _score(scorer: nn.Module, images: Images) -> Tensor:
    return scorer(images.fused.float() / 255.0).to(images.fused.dtype)


@cache
def cached_clip_iqa(device: torch.device) -> nn.Module:
    """Load CLIP-IQA with OpenAI's weights; once for each device."""
    # Here, because open_clip takes seconds to import and most callers want no network.
    from fusion_env.perception.clip_iqa import load_clip_iqa

    return load_clip_iqa().to(device)


@metric(
    needs_sources=False,
    minimum_size=32,
    summary="CLIP-IQA with the prompts of AgentFuse (IQA*), on the luma",
    range="0..1",
)
def clip_iqa(images: Images) -> Tensor:
    """Compute the CLIP-IQA of fused images with OpenAI's weights, which are fetched or read at the first call.

    Higher is better; 0..1. At least 32x32 pixels. Definition, source and variants: `fusion_env.perception.clip_iqa`.

    Returns:
        ``[B]``.
    """
    return _score(cached_clip_iqa(images.fused.device), images)
