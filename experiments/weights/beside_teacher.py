"""Tables of a student beside its teacher and classical methods, for the cards of the package's own students."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.output import markdown_table
from experiments.weights.against_averaging import Fuse, check_sources, compare_with_averaging, comparison_table
from experiments.weights.spectrum import PERIODS, pattern_amplitudes
from fusion_env import teachers
from fusion_env.config import ScoringSettings
from fusion_env.data import PairSource, load_pair, luma_levels, rgb_to_luma
from student import FusionStudent

__all__ = ["student_tables"]


@torch.inference_mode()
def student_tables(student: FusionStudent, folders: Sequence[Path]) -> str:
    """Compare a student with its teacher and classical methods; see `check_sources`."""
    methods: dict[str, Fuse] = {
        "laplacian": teachers.load("laplacian"),
        "teacher": teachers.load("embedded"),
        "student": lambda ir, vis: student(ir=ir, vis=rgb_to_luma(vis)),
    }
    sections = []
    for title, (source, indices) in check_sources(folders).items():
        means = compare_with_averaging(source, indices, methods)
        shares = [means["student"][name] / means["teacher"][name] for name in ScoringSettings().score_metrics]
        e, mae = sum(shares) / len(shares), _distance(methods["teacher"], methods["student"], source, indices)
        told = f"E of the student is {e:.3f} of the teacher's, the mean absolute difference of their images {mae:.3f}"
        sections.append(f"{title}; {told}:\n\n{comparison_table(means)}")
    return "\n\n".join([*sections, _patterns(student)])


def _distance(one: Fuse, other: Fuse, source: PairSource, indices: Sequence[int]) -> float:
    distances = []
    for index in indices:
        pair = load_pair(source, index)
        ir, vis = pair.ir[None].float() / 255, pair.vis[None].float() / 255
        a, b = (fuse(ir=ir, vis=vis).clamp(0, 1) for fuse in (one, other))
        distances.append((a - b).abs().mean().item())
    return sum(distances) / len(distances)


def _patterns(student: FusionStudent) -> str:
    (scenes, indices), *_ = check_sources([]).values()
    images: dict[str, list[Any]] = {name: [] for name in ("infrared", "visible", "teacher", "student")}
    teacher = teachers.load("embedded")
    for index in indices:
        pair = load_pair(scenes, index)
        ir, vis = pair.ir[None].float() / 255, luma_levels(pair.vis)[None].float() / 255
        fused = teacher.fuse_luma(ir=ir, vis=vis), student(ir=ir, vis=vis)
        for name, image in zip(images, (ir, vis, *fused), strict=True):
            images[name].append(255 * image[0, 0].numpy())
    rows = [[name, *pattern_amplitudes(group).values()] for name, group in images.items()]
    table = markdown_table(["period in pixels", *map(str, PERIODS)], rows, decimals=3)
    return f"Waves that stand out of the spectrum, amplitude in grey levels of 255 (unseen scenes):\n\n{table}"
