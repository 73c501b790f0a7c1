"""Several teachers as one: their mean, or for each image the best of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import torch
import yaml
from torch import Tensor, nn

from fusion_env import metrics
from fusion_env.data.colour import rgb_to_luma
from fusion_env.data.pairs import ImagePair
from fusion_env.errors import ConfigError, MissingRequirementsError
from fusion_env.teachers.base import Teacher, check_batch
from fusion_env.teachers.registry import load, register

__all__ = ["Ensemble"]


@register("ensemble")
class Ensemble(Teacher):
    """Several teachers as one.

    By name it is loaded from a YAML file; relative paths start at its folder:

        combine: mean
        teachers:
          - {name: sage, weights: sage/checkpoints.pt}
          - {name: laplacian}

    Args:
        teachers: The members, at least one.
        combine: ``"mean"`` averages their results; the name of a metric takes each image from the member that scores
            best by it (whole images or crops, whatever the teacher is given).

    Raises:
        ConfigError: If there is no member.
        UnknownNameError: If ``combine`` is neither ``"mean"`` nor a metric.
    """

    def __init__(self, teachers: Sequence[Teacher], combine: str = "mean") -> None:
        super().__init__()
        if not teachers:
            raise ConfigError("an ensemble needs at least one teacher. Got none.")
        self.metric = None if combine == "mean" else metrics.get(combine)
        # Modules are found in a ModuleList only, and it does not say what they are.
        self.members = cast(Sequence[Teacher], nn.ModuleList(teachers))
        self.whole_image_only = any(member.whole_image_only for member in teachers)
        members = [f"{member.name} {member.fingerprint()}" for member in teachers]
        self.settings = {"combine": combine, "members": members}
        for number, member in enumerate(teachers):
            self.checksums |= {f"{number}/{file}": digest for file, digest in member.checksums.items()}

    @classmethod
    def from_weights(cls, weights: Path | None) -> "Ensemble":
        """Load the members that a YAML file names.

        Args:
            weights: The file.

        Raises:
            MissingRequirementsError: If no file is named, it does not exist, or a member's weights are missing.
            ConfigError: If it holds anything else.
        """
        if weights is None or not weights.is_file():
            given = "no file is given" if weights is None else f"{weights} is no file"
            raise MissingRequirementsError(
                f'teacher "ensemble": {given}; let the setting teacher_weights point to a YAML file with "combine" '
                'and "teachers".'
            )
        combine, members = _read(weights)
        return cls([_load_member(weights, member) for member in members], combine)

    def check(self, names: Iterable[str]) -> None:
        """Check that members with stored results have one for every pair; see `FolderTeacher.check`."""
        names = list(names)
        for member in self.members:
            member.check(names)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse a batch of registered pairs; see `Teacher.forward`."""
        check_batch(ir=ir, vis=vis)
        return self._combine([member(ir=ir, vis=vis) for member in self.members], ir, rgb_to_luma(vis))

    def fuse_luma(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse [B, 1, H, W] images in 0..1; see `Teacher.fuse_luma`."""
        return self._combine([member.fuse_luma(ir=ir, vis=vis) for member in self.members], ir, vis)

    @torch.inference_mode()
    def fuse_pair(self, pair: ImagePair) -> Tensor:
        """Fuse one whole pair; see `Teacher.fuse_pair`."""
        results = [member.fuse_pair(pair)[None] for member in self.members]
        device = next((fused.device for fused in results if not fused.is_cpu), results[0].device)
        ir, vis = pair.ir.to(device)[None] / 255, pair.vis.to(device)[None] / 255
        return self._combine([fused.to(device) for fused in results], ir, rgb_to_luma(vis))[0]

    def _combine(self, results: list[Tensor], ir: Tensor, vis_luma: Tensor) -> Tensor:
        stacked = torch.stack(results)
        if self.metric is None:
            return stacked.mean(dim=0)
        scores = torch.stack([self.metric(fused, ir=ir, vis=vis_luma) for fused in results])
        # A score that is not a number (some metrics on flat images) never wins.
        scores = (scores if self.metric.higher_is_better else -scores).nan_to_num(nan=-torch.inf)
        return stacked[scores.argmax(dim=0), torch.arange(len(ir), device=ir.device)]


def _read(path: Path) -> tuple[str, list[dict[str, str]]]:
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML file: {' '.join(str(error).split())}") from error
    valid = (
        isinstance(content, dict)
        and content.keys() <= {"combine", "teachers"}
        and isinstance(content.get("combine", ""), str)
        and isinstance(content.get("teachers"), list)
        and all(map(_is_member, content["teachers"]))
    )
    if not valid:
        raise ConfigError(
            f'{path} must hold "teachers", a list of {{name: ..., weights: ...}} (weights where needed), and may hold '
            f'"combine": mean or a metric. Got {content!r}'
        )
    return content.get("combine", "mean"), content["teachers"]


def _is_member(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() <= {"name", "weights"}
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("weights"), str | None)
    )


def _load_member(path: Path, member: dict[str, str]) -> Teacher:
    if member["name"] == Ensemble.name:  # which could be this file again
        raise ConfigError(f"{path} lists an ensemble: list the members of that one instead")
    weights = member.get("weights")
    return load(member["name"], None if weights is None else path.parent / weights)
