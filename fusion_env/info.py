"""The info of a step: numbers under the same keys at `reset` and at every step."""

import math
from typing import Any

import numpy as np

from fusion_env.action import LossWeights
from fusion_env.distillation import RoundResult
from fusion_env.run import LastRun, Run

__all__ = ["InfoNumber", "run_info"]

_UNTRAINED = RoundResult(math.nan, math.nan, math.nan, math.nan, diverged=False)
_NO_WEIGHTS = LossWeights(math.nan, math.nan)


class InfoNumber(np.float64):
    """A float of `info`. NaN, which stands for what is not known yet, equals NaN.

    Equal runs so have equal infos; gymnasium's checker compares them. It stays NaN for `math.isnan` and NumPy, and is
    an ordinary element in arrays.
    """

    def __eq__(self, other: object) -> Any:
        return math.isnan(other) if math.isnan(self) and isinstance(other, float) else super().__eq__(other)

    def __ne__(self, other: object) -> Any:
        return not math.isnan(other) if math.isnan(self) and isinstance(other, float) else super().__ne__(other)

    __hash__ = np.float64.__hash__
    __repr__ = __str__ = float.__repr__  # type: ignore[assignment]  # the digits that Python writes, in files as well


def run_info(run: Run, weights: LossWeights | None = None, ended: LastRun | None = None) -> dict[str, Any]:
    """Describe where a run stands.

    Args:
        run: The run.
        weights: The loss weights of its last round; None before the first.
        ended: What it left behind; None before its end.

    Returns:
        See "Info" of `fusion_env.env.FusionDistillEnv`.
    """
    trained = run.trained or _UNTRAINED
    unknown = dict.fromkeys(run.task.report.names, math.nan)
    info = {
        "round": run.rounds,
        "losses": trained.losses,
        "loss_weights": vars(weights or _NO_WEIGHTS),
        "guidance_share": trained.guidance_share,
        "degradation": vars(run.degradation),
        "fused_std": run.fused_std,
        "student": run.student,
        "teacher": run.teacher,
        "gap": run.gap,
        "diverged": run.diverged,
        "report": {
            "student": ended.report if ended else unknown,
            "teacher": ended.teacher_report if ended else unknown,
        },
    }
    return _in_numbers(info)


def _in_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _in_numbers(item) for name, item in value.items()}
    return InfoNumber(value) if isinstance(value, float) else value
