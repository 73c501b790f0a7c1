"""Scores on the report split: of what a run delivers, and of everything that it is compared with."""

import logging

import numpy as np
import torch

from experiments.evaluation.baselines import FuseLuma, classical, post_processed
from experiments.running.attempt import Attempt
from experiments.running.interruption import Interrupted
from fusion_env.action import ACTION_SIZE
from fusion_env.degradation import Degradation
from fusion_env.distillation import GUIDANCE_ONLY
from fusion_env.env import FusionDistillEnv
from fusion_env.report import Report
from fusion_env.run import LastRun
from fusion_env.task import DistillationTask
from student import FusionStudent
from student.weights import build_student

__all__ = ["comparison_reports", "delivered_reports", "guidance_only"]

_logger = logging.getLogger(__name__)


def delivered_reports(task: DistillationTask, last: LastRun) -> dict[str, Report]:
    """Return the scores of what a run delivers and of its teacher.

    Returns:
        ``teacher``; ``final``, the delivered student, and the same with its output post-processed, ``unsharp`` and
        ``contrast``; ``last``, the student of the last round.
    """
    student = _student(task, last.student)
    processed = {name: task.report.score(fuse) for name, fuse in post_processed(student).items()}
    return {"teacher": last.teacher_report, "final": last.report, "last": last.last_report, **processed}


def comparison_reports(task: DistillationTask) -> dict[str, Report]:
    """Return the scores of the stage-0 student and of classical fusion: ``stage0``, ``average``, ``laplacian``."""
    methods: dict[str, FuseLuma] = {"stage0": _student(task, task.stage0), **classical()}
    return {name: task.report.score(fuse) for name, fuse in methods.items()}


def guidance_only(attempt: Attempt, seed: int) -> dict[str, torch.Tensor]:
    """Train the control: the same start, as many iterations, and the best by the reward split, without an agent.

    Args:
        attempt: The run.
        seed: Of the environment in the run that it is compared with; the control has the same random streams.

    Raises:
        Interrupted: A stop was asked for.
    """
    config, task = attempt.config, attempt.task
    env = FusionDistillEnv.from_task(task)
    env.reset(seed=seed)
    run = env.run
    for done in attempt.progress(range(config.env.rounds), "guidance only"):
        if attempt.stop:
            raise Interrupted("stopped while the control was training; what was learnt is kept")
        run.train(np.zeros(ACTION_SIZE), GUIDANCE_ONLY, Degradation())  # the action is for a record that nobody reads
        run.score()
        if run.diverged:
            _logger.warning("the guidance-only control diverged in round %d; its best finite student counts", done + 1)
            break
    return run.best


def _student(task: DistillationTask, state: dict[str, torch.Tensor]) -> FusionStudent:
    return build_student(state, "trained student").to(task.device)
