"""Score a student, or anything else that fuses, on whole splits of a task, by any metric."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from fusion_env.scoring import image_values
from fusion_env.stored_images import StoredImages
from fusion_env.task import DistillationTask

__all__ = ["SplitScores", "teacher"]


def teacher(**_: torch.Tensor) -> torch.Tensor:
    """Stand for the stored results of the teacher, in `SplitScores.scores`."""
    raise NotImplementedError("only `SplitScores` knows what the teacher made")


@dataclass(frozen=True)
class SplitScores:
    """What the students of a task are scored on.

    Attributes:
        task: The task.
        images: Images by the name of the split, those of one size together.
        metrics: The metrics; those of E are added.
    """

    task: DistillationTask
    images: Mapping[str, Sequence[StoredImages]]
    metrics: tuple[str, ...]

    @torch.inference_mode()
    def scores(self, fuse: Callable[..., torch.Tensor]) -> dict[str, float]:
        """Return the mean of every metric over every split, as ``SPLIT_METRIC``.

        Args:
            fuse: Called as ``fuse(ir=ir, vis=luma)``; `teacher` for the stored results of the teacher.
        """
        row: dict[str, float] = {}
        for split, groups in self.images.items():
            values = [self._values(images, fuse) for images in groups]
            row |= {f"{split}_{name}": float(torch.cat([v[name] for v in values]).mean()) for name in self._names}
        return row

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.metrics, *self.task.config.score_metrics)))

    def _values(self, images: StoredImages, fuse: Callable[..., torch.Tensor]) -> dict[str, torch.Tensor]:
        parts = [
            image_values(
                self._names,
                images,
                torch.tensor([number], device=images.device),
                lambda ir, vis, target: target if fuse is teacher else fuse(ir=ir, vis=vis),
                quality=self.task.quality,
                colour=False,
            )
            for number in range(len(images))
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in self._names}
