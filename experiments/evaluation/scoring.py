"""Score checked images: one row for each method and pair, one column for each metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from experiments.evaluation.folders import ComparedImages
from fusion_env import metrics
from fusion_env.data import Progress, no_progress, read_infrared, read_luma, read_visible
from fusion_env.errors import ConfigError
from fusion_env.metrics import Metric
from student.images import Pixels
from student.sixteen_bit import Scale

__all__ = ["ColourScore", "Score", "resolve_scores", "score_images"]


@dataclass(frozen=True)
class ColourScore:
    """A no-reference quality score of the fused image in its own colours, where a `Metric` sees the luma."""

    name: str
    """Name in tables and result files."""
    scorer: nn.Module
    """Maps RGB [1, 3, H, W] in 0..1 to [1]."""
    minimum_size: int
    """Smallest height and width in pixels."""
    higher_is_better: bool
    """Direction in which the score is read."""
    summary: str
    """The definition in one line."""


Score = Metric | ColourScore
"""One column of the result."""


def resolve_scores(selected: Sequence[str | Score]) -> tuple[Score, ...]:
    """Turn names of metrics into metrics.

    Raises:
        UnknownNameError: If a name is no metric.
        ConfigError: If nothing is selected, or two have the same name.
    """
    scores = tuple(metrics.get(item) if isinstance(item, str) else item for item in selected)
    names = [score.name for score in scores]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if not scores or repeated:
        raise ConfigError(f"metrics must be different ones, at least one. Got {', '.join(names) or 'none'}")
    return scores


@torch.inference_mode()
def score_images(
    images: ComparedImages,
    scores: Sequence[Score],
    device: str | torch.device = "cpu",
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """Score every fused image.

    Images are read as 8-bit levels, colour as luma rounded to whole levels, and scored one by one at their own size.

    Args:
        images: Checked images.
        scores: What to compute; scorers of a `ColourScore` lie on ``device``.
        device: Where to compute.
        progress: Progress display over the pairs.

    Returns:
        Columns ``method``, ``image`` and one for each score; the methods in their order, in each the images sorted.
    """
    luma_scores = [score for score in scores if isinstance(score, Metric)]
    colour_scores = [score for score in scores if isinstance(score, ColourScore)]
    names = list(images.files)
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for index in progress(range(len(names)), "scoring"):
        files = images.files[names[index]]
        ir = _planes(read_infrared(files.ir, images.scale), device)
        vis = _planes(read_luma(files.vis, images.scale), device)
        for method, path in files.fused.items():
            luma = _planes(read_luma(path, images.scale), device)
            values = metrics.compute(luma_scores, luma, ir=ir, vis=vis)
            values |= _in_colour(path, images.scale, colour_scores, device)
            rows[method, names[index]] = {score.name: float(values[score.name]) for score in scores}
    return pd.DataFrame(
        [{"method": method, "image": name, **rows[method, name]} for method in images.methods for name in names]
    )


def _in_colour(
    path: Path, scale: Scale, scores: Sequence[ColourScore], device: str | torch.device
) -> dict[str, Tensor]:
    if not scores:
        return {}
    rgb = _planes(read_visible(path, scale), device).float() / 255
    return {score.name: score.scorer(rgb) for score in scores}


def _planes(pixels: Pixels, device: str | torch.device) -> Tensor:
    """Return ``[H, W]`` or ``[H, W, 3]`` as uint8 [1, 1 or 3, H, W]."""
    levels = torch.from_numpy(pixels).to(device)
    return levels[None, None] if levels.ndim == 2 else levels.permute(2, 0, 1)[None].contiguous()
