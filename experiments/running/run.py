"""`run`: one agent, one task, one directory."""

import logging
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import KVWriter

import agents
from experiments.running.attempt import Attempt
from experiments.running.config import RunConfig
from experiments.running.directory import RunDirectory
from experiments.running.divergence import has_finite_weights
from experiments.running.figures import draw_preview, draw_rewards, report_images, write_images
from experiments.running.interruption import stop_on_request
from experiments.running.judge import (
    FrozenRun,
    frozen_result,
    frozen_seed,
    mean_reports,
    planning_rounds,
    ranked_reports,
    run_frozen,
)
from experiments.running.learn import make_env, new_agent, train_agent
from experiments.running.reports import comparison_reports, guidance_only
from fusion_env.data import Progress, no_progress
from fusion_env.errors import ConfigError, FusionEnvError
from fusion_env.fingerprint import sha256_of
from fusion_env.identity import Fingerprints
from fusion_env.report import Report
from fusion_env.run import Run
from fusion_env.task import DistillationTask, build_task, content_fingerprints
from fusion_env.version import __version__
from student.numerics import own_numerics
from student.weights import WeightsError, build_student, load_state, save_state

__all__ = ["AgentDivergedError", "run"]

_logger = logging.getLogger(__name__)

_PACKAGES = ("torch", "torchvision", "gymnasium", "stable-baselines3", "sb3-contrib", "numpy", "open_clip_torch")

Learning = dict[str, Any]
"""``rounds``, ``diverged_runs``, ``agent_diverged`` (None, or what to say), ``updates``, ``planning_rounds`` and
``seconds`` of all runs; ``students``, a `FrozenRun` of the last run of each student; ``best_round`` of the one whose
student is kept."""


class AgentDivergedError(FusionEnvError):
    """An agent's weights or actions became non-finite while it learned.

    Args:
        summary: The content of ``summary.json``, which counts the run as diverged; its ``agent_diverged`` is the
            message.
    """

    def __init__(self, summary: dict[str, Any]) -> None:
        super().__init__(summary)
        self.summary = summary

    def __str__(self) -> str:
        return self.summary["agent_diverged"]


@own_numerics()
def run(
    config: RunConfig,
    run_dir: Path,
    *,
    show: bool = False,
    progress: Progress = no_progress,
    writers: Sequence[KVWriter] = (),
) -> dict[str, Any]:
    """Run an agent; finish an interrupted attempt, or return a finished one, in the same directory.

    Args:
        config: What to run.
        run_dir: Where everything is written; made only after data, weights and settings have been found usable.
        show: Show a progress bar.
        progress: Progress display for the set-up and the evaluation.
        writers: Outputs of Stable-Baselines3's logger that get what TensorBoard gets, too, such as one for W&B.

    Returns:
        The content of ``summary.json``.

    Raises:
        ConfigError: The directory holds something else, such as a run on other data, or another process is at work
            in it.
        FusionEnvError: Data, weights or settings cannot be used.
        AgentDivergedError: The agent broke; the error holds the content of ``summary.json``.
        Interrupted: SIGINT or SIGTERM came; the directory can be resumed.
    """
    directory = RunDirectory(run_dir)
    summary = directory.earlier_result(config, _content) or _new_result(config, directory, show, progress, writers)
    if summary["agent_diverged"]:
        raise AgentDivergedError(summary)
    return summary


def _content(config: RunConfig) -> Fingerprints:
    """Return the fingerprints of data, teacher and policy that are there; results stay readable without them."""
    try:
        return content_fingerprints(config.env) | _policy_content(config)
    except (FusionEnvError, WeightsError) as error:
        _logger.info("data and teacher are not checked: %s", error)
        return _policy_content(config)


def _policy_content(config: RunConfig) -> Fingerprints:
    """Return the hash of the file that the policy is from, a saved agent or Python code; none for other policies."""
    file = Path(config.policy or config.agent.rpartition(":")[0]).expanduser()
    return {"policy": sha256_of(file)} if file.is_file() else {}


def _new_result(
    config: RunConfig, directory: RunDirectory, show: bool, progress: Progress, writers: Sequence[KVWriter]
) -> dict[str, Any]:
    with stop_on_request() as stop:
        start = time.perf_counter()
        task = build_task(config.env, progress)
        agent = new_agent(config, task)
        seconds = {"setup": time.perf_counter() - start}
        attempt = Attempt(config, task, directory, stop, show, progress, writers)
        with directory.sole_writer():
            directory.begin(config, task.fingerprints | _policy_content(config))
            learning = _learn(attempt, agent)
            seconds["training"] = learning["seconds"]
            start = time.perf_counter()
            frozen = _judge(attempt, learning)
            seconds["frozen"] = time.perf_counter() - start
            start = time.perf_counter()
            judged = frozen or _last_runs(learning)
            reports = _reports(attempt, learning, judged)
            seconds["evaluation"] = time.perf_counter() - start
            summary = _summary(attempt, learning, judged, reports, seconds)
            directory.summary.write(summary)
            if not summary["agent_diverged"]:
                directory.remove_checkpoints()
    return summary


def _learn(attempt: Attempt, agent: BaseAlgorithm) -> Learning:
    """Train the agent, or read what an earlier attempt came to; the agent's file is written before the result."""
    config, directory = attempt.config, attempt.directory
    learning = directory.learning.read()
    if learning is not None:
        return learning
    if config.runs:
        training = train_agent(attempt, agent)
        students = [
            frozen_result(attempt.task, config.seed + index, last) for index, last in enumerate(training.last_runs)
        ]
        save_state(training.last_runs[-1].student, directory.student)
        if not training.agent_diverged:
            training.agent.save(directory.agent)
        diverged = sum(row["diverged"] == "True" for row in directory.rounds.read())
        learning = {
            "rounds": training.rounds,
            "diverged_runs": diverged + (training.agent_diverged is not None),
            "agent_diverged": training.agent_diverged,
            "updates": training.updates,
            "planning_rounds": planning_rounds(training.agent),
            "seconds": training.seconds,
            "best_round": students[-1]["best_round"],
            "students": students,
        }
    else:
        if config.policy is None:
            agent.save(directory.agent)
        nothing = {"rounds": 0, "updates": 0, "seconds": 0.0, "diverged_runs": 0, "best_round": None}
        learning = {**nothing, "agent_diverged": None}
    directory.learning.write(learning)
    return learning


def _judge(attempt: Attempt, learning: Learning) -> list[FrozenRun]:
    """Run the frozen agent; always the one read from its file, so that a resumed run does the same."""
    if attempt.config.protocol == "online":
        return []
    if learning["agent_diverged"]:
        return _lost_runs(attempt.config, attempt.task)
    return run_frozen(attempt, _saved_agent(attempt), learned_rounds=learning["rounds"])


def _lost_runs(config: RunConfig, task: DistillationTask) -> list[FrozenRun]:
    """Return what comes of an agent that cannot act: the stage-0 student, and every round of each run lost."""
    run = Run(task, 0, 0, 0)
    run.score()
    run.abandon()
    lost = run.result()
    return [frozen_result(task, frozen_seed(config.seed, index), lost) for index in range(config.eval_runs)]


def _saved_agent(attempt: Attempt) -> BaseAlgorithm:
    config = attempt.config
    path = attempt.directory.agent if config.policy is None else Path(config.policy)
    if not path.is_file():
        raise ConfigError(f"there is no saved agent {path}: name the agent.zip of a run")
    try:
        agent = agents.algorithm(config.agent).load(path)
    except Exception as error:  # damaged archives, and those of other algorithms, make the reader raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{path} cannot be read as an agent {config.agent} ({reason})") from error
    if not has_finite_weights(agent):
        raise ConfigError(f"the agent {path} has weights that are not finite: train it with a lower learning_rate")
    for space, ours in ((agent.observation_space, "observation_space"), (agent.action_space, "action_space")):
        wanted = getattr(make_env(attempt.task), ours)
        if space != wanted:
            raise ConfigError(f"the agent {path} was made for the {ours} {space}; this task has {wanted}")
    return agent


def _last_runs(learning: Learning) -> list[FrozenRun]:
    """Return what is judged online; older versions wrote down the one run itself, and counted its divergence above."""
    diverged = learning["agent_diverged"] is not None
    return learning.get("students") or [{**learning, "rounds": learning["last_rounds"], "diverged": diverged}]


def _reports(attempt: Attempt, learning: Learning, judged: list[FrozenRun]) -> dict[str, Report]:
    task, directory = attempt.task, attempt.directory
    reports = mean_reports(judged) | comparison_reports(task)
    if attempt.config.details and not learning["agent_diverged"]:
        rows = sorted(directory.rounds.read(), key=lambda row: int(row["run"]))  # those of several students alternate
        draw_rewards(rows, directory.rewards_figure)
        control = guidance_only(attempt, judged[-1].get("seed", attempt.config.seed))  # older versions wrote none
        images = report_images(task.report, task.stage0, load_state(directory.student))
        write_images(images, directory.images)
        draw_preview(images, directory.preview_figure)
        reports["guidance_only"] = task.report.score(build_student(control, "control").to(task.device))
    return reports


def _summary(
    attempt: Attempt,
    learning: Learning,
    judged: list[FrozenRun],
    reports: dict[str, Report],
    seconds: dict[str, float],
) -> dict[str, Any]:
    task = attempt.task
    frozen = judged if attempt.config.eval_runs else []
    summary = {
        "protocol": attempt.config.protocol,
        "report_pairs": len(task.splits.report),
        "report": reports,
        "ranked": ranked_reports(judged),
        "failed_runs": sum(result["diverged"] for result in judged),
        "best_rounds": [result["best_round"] for result in judged],
        "closer_to_teacher": reports["final"]["mae"] < reports["stage0"]["mae"],
        "diverged_runs": learning["diverged_runs"] + sum(result["diverged"] for result in frozen),
        "agent_diverged": learning["agent_diverged"],
        "learning_rounds": learning["rounds"],
        "planning_rounds": sum(part.get("planning_rounds", 0) for part in (learning, *frozen)),
        "judged_rounds": sum(result["rounds"] for result in judged),
        "iterations_per_round": task.iterations,
        "return": float(np.mean([result["return"] for result in judged])),
        "gradient_updates": learning["updates"],
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "used": task.describe(),
        "teacher_checksums": task.teacher.checksums,
        "fingerprints": task.fingerprints,
        "versions": _versions(),
    }
    if "guidance_only" in reports:
        summary["closer_than_guidance_only"] = reports["final"]["mae"] < reports["guidance_only"]["mae"]
    return summary


def _versions() -> dict[str, str]:
    versions = {"fusion_env": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):  # some are needed by some agents only
            versions[name] = version(name)
    return versions | {"opencv": cv2.__version__}  # four distributions provide it, opencv-python-headless among them
