"""`run`: one agent, one task, one directory."""

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from experiments.figures import draw_preview, draw_rewards
from experiments.run_config import FILE as CONFIG_FILE
from experiments.run_config import RunConfig, read_config, write_config
from experiments.training import CHECKPOINT_FILE, train_agent
from fusion_env.data import Progress, no_progress
from fusion_env.degradation import Degradation
from fusion_env.distillation import GUIDANCE_ONLY
from fusion_env.env import LastRun
from fusion_env.errors import ConfigError
from fusion_env.report import Report
from fusion_env.task import DistillationTask, build_task
from fusion_env.version import __version__
from student import FusionStudent
from student.checkpoint import save_state, write_atomic

__all__ = ["run", "summary_table"]

SUMMARY_FILE = "summary.json"
PACKAGES = ("torch", "torchvision", "gymnasium", "stable-baselines3", "numpy", "open_clip_torch", "opencv-python")


def run(config: RunConfig, run_dir: Path, *, show: bool = False, progress: Progress = no_progress) -> dict[str, Any]:
    """Run an agent; finish an interrupted attempt, or return a finished one, in the same directory.

    Args:
        config: What to run.
        run_dir: Where everything is written; made only after data, weights and settings have been found usable.
        show: Show a progress bar.
        progress: Progress display for the set-up and the evaluation.

    Returns:
        The content of ``summary.json``.

    Raises:
        ConfigError: The directory holds something else.
        FusionEnvError: Data, weights or settings cannot be used.
        Interrupted: SIGINT or SIGTERM came; the directory holds a checkpoint.
    """
    if (run_dir / CONFIG_FILE).exists():
        if read_config(run_dir) != config:
            raise ConfigError(f"{run_dir} holds a run of another configuration: choose another --out")
        if (run_dir / SUMMARY_FILE).exists():
            return json.loads((run_dir / SUMMARY_FILE).read_text())
    elif run_dir.exists() and any(run_dir.iterdir()):
        raise ConfigError(f"{run_dir} is not empty and not the directory of a run: choose another --out")
    start = time.perf_counter()
    task = build_task(config.env, progress)
    setup_seconds = time.perf_counter() - start
    write_config(config, run_dir)
    agent, last, training_seconds = train_agent(config, task, run_dir, show=show)
    save_state(last.student, run_dir / "student.safetensors")
    agent.save(run_dir / "agent.zip")
    start = time.perf_counter()
    draw_rewards(run_dir)
    control = _guidance_only(config, task, len(last.actions), progress)
    draw_preview(task.report, task.stage0, last.student, run_dir / "preview.png")
    reports = {
        "teacher": last.teacher_report,
        "stage0": task.report.score(_student(task, task.stage0)),
        "guidance_only": task.report.score(_student(task, control)),
        "final": last.report,
    }
    seconds = {"setup": setup_seconds, "training": training_seconds, "evaluation": time.perf_counter() - start}
    summary = _summary(config, task, last, reports, seconds)
    write_atomic(run_dir / SUMMARY_FILE, json.dumps(summary, indent=2).encode())
    (run_dir / CHECKPOINT_FILE).unlink(missing_ok=True)
    return summary


def _guidance_only(
    config: RunConfig, task: DistillationTask, rounds: int, progress: Progress
) -> dict[str, torch.Tensor]:
    """Train the control: the same start and as many iterations, with the guidance loss only."""
    engine = task.new_run(config.seed, config.seed)
    for _ in progress(range(rounds), "guidance only"):
        if engine.run_round(GUIDANCE_ONLY, Degradation()).diverged:
            raise ConfigError("the guidance-only control diverged: lower learning_rate")
    return engine.state_dict()["student"]


def _student(task: DistillationTask, state: dict[str, torch.Tensor]) -> FusionStudent:
    student = FusionStudent()
    student.load_state_dict(state)
    return student.to(task.device).eval()


def _summary(
    config: RunConfig, task: DistillationTask, last: LastRun, reports: dict[str, Report], seconds: dict[str, float]
) -> dict[str, Any]:
    final, stage0, control = reports["final"], reports["stage0"], reports["guidance_only"]
    return {
        "protocol": "online",
        "report_pairs": len(task.splits.report),
        "report": reports,
        "closer_to_teacher": final["mae"] < stage0["mae"],
        "closer_than_guidance_only": final["mae"] < control["mae"],
        "diverged": last.diverged,
        "rounds": len(last.actions),
        "iterations": len(last.actions) * task.iterations,
        "return": sum(last.rewards),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "used": task.describe(),
        "versions": {
            "fusion_env": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
    }


def summary_table(summary: dict[str, Any]) -> str:
    """Write a summary for people: a table of the report split and what it says."""
    columns = ("e", "mae", "ssim_teacher", "ag", "ei", "sd", "en", "vif", "ssim", "iqa")
    titles = {"e": "E", "mae": "MAE", "ssim_teacher": "SSIM(teacher)"}
    names = {"teacher": "teacher", "stage0": "stage 0", "guidance_only": "guidance only", "final": "with agent"}
    width = {column: max(8, len(titles.get(column, column)) + 1) for column in columns}
    lines = [" " * 14 + "".join(f"{titles.get(column, column.upper()):>{width[column]}}" for column in columns)]
    for key, name in names.items():
        values = summary["report"][key]
        lines.append(f"{name:<14}" + "".join(f"{values[column]:>{width[column]}.4f}" for column in columns))
    word = {True: "closer", False: "NOT closer"}
    start, control = word[summary["closer_to_teacher"]], word[summary["closer_than_guidance_only"]]
    lines.append(
        f"\nOn {summary['report_pairs']} report pairs the student is {start} to the teacher than its stage-0 start, "
        f"and {control} than one trained for as many iterations "
        "with guidance only (by MAE)."
    )
    if summary["diverged"]:
        lines.append("Training diverged; the student shown is the last finite one.")
    return "\n".join(lines)
