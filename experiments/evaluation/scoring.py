"""Score checked images: one row for each method and pair, one column for each metric."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from experiments.evaluation.baselines import POST_PROCESSING, classical
from experiments.evaluation.folders import ComparedImages, ImageFiles
from fusion_env import metrics
from fusion_env.data import (
    Progress,
    no_progress,
    read_infrared,
    read_luma,
    read_visible,
    rgb_to_ycbcr,
    ycbcr_to_rgb,
)
from fusion_env.errors import ConfigError
from fusion_env.metrics import Metric
from fusion_env.metrics.levels import to_levels
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
    *,
    baselines: bool = False,
) -> pd.DataFrame:
    """Score every fused image.

    Images are read as 8-bit levels, colour as luma rounded to whole levels, and scored one by one at their own size.

    Args:
        images: Checked images.
        scores: What to compute; scorers of a `ColourScore` lie on ``device``.
        device: Where to compute.
        progress: Progress display over the pairs.
        baselines: Also score what costs no method: classical fusion with the visible image's colours, and every
            method's images post-processed, as `experiments.evaluation.baselines` says.

    Returns:
        Columns ``method``, ``image`` and one for each score; the methods in their order, in each the images sorted.

    Raises:
        ConfigError: A method has the name of a baseline.
    """
    luma_scores = [score for score in scores if isinstance(score, Metric)]
    colour_scores = [score for score in scores if isinstance(score, ColourScore)]
    rows: dict[str, list[dict[str, Any]]] = {method: [] for method in images.methods}
    names = list(images.files)
    for index in progress(range(len(names)), "scoring"):
        files = images.files[names[index]]
        ir = _planes(read_infrared(files.ir, images.scale), device)
        vis = _planes(read_luma(files.vis, images.scale), device)
        fused = {method: _fused(path, images.scale, device) for method, path in files.fused.items()}
        if baselines:
            fused |= _baselines(fused, files, images.scale, ir=ir, vis=vis)
        for method, image in fused.items():
            values = metrics.compute(luma_scores, image.luma, ir=ir, vis=vis)
            values |= {score.name: score.scorer(image.rgb()) for score in colour_scores}
            numbers = {score.name: float(values[score.name]) for score in scores}
            rows.setdefault(method, []).append({"method": method, "image": names[index], **numbers})
    return pd.DataFrame([row for of_method in rows.values() for row in of_method])


class _Fused(NamedTuple):
    """A fused image: its luma as uint8 levels, and how to get at its colours, RGB in 0..1."""

    luma: Tensor
    rgb: Callable[[], Tensor]


def _fused(path: Path, scale: Scale, device: str | torch.device) -> _Fused:
    return _Fused(
        _planes(read_luma(path, scale), device), lambda: _planes(read_visible(path, scale), device).float() / 255
    )


def _baselines(
    given: Mapping[str, _Fused], files: ImageFiles, scale: Scale, *, ir: Tensor, vis: Tensor
) -> dict[str, _Fused]:
    made: dict[str, _Fused] = {}
    for method, image in given.items():
        for name, change in POST_PROCESSING.items():
            made[f"{method} ({name})"] = _recoloured(change(image.luma.float() / 255), image.rgb)
    visible = _fused(files.vis, scale, ir.device)
    for name, fuse in classical().items():
        made[name] = _recoloured(fuse(ir=ir.float() / 255, vis=vis.float() / 255), visible.rgb)
    repeated = sorted(made.keys() & given.keys())
    if repeated:
        raise ConfigError(f"the baselines have the names of given methods: rename {', '.join(repeated)}")
    return made


def _recoloured(luma: Tensor, rgb: Callable[[], Tensor]) -> _Fused:
    """Return an image of this luma in the colours of another one."""
    levels = to_levels(luma).to(torch.uint8)

    def coloured() -> Tensor:
        return ycbcr_to_rgb(torch.cat([levels.float() / 255, rgb_to_ycbcr(rgb())[:, 1:]], 1)).clamp(0, 1)

    return _Fused(levels, coloured)


def _planes(pixels: Pixels, device: str | torch.device) -> Tensor:
    """Return ``[H, W]`` or ``[H, W, 3]`` as uint8 [1, 1 or 3, H, W]."""
    levels = torch.from_numpy(pixels).to(device)
    return levels[None, None] if levels.ndim == 2 else levels.permute(2, 0, 1)[None].contiguous()
