"""A run that was written down, opened again: its rows, its task, and the environments in which its runs began."""

from dataclasses import dataclass
from pathlib import Path

from experiments.running.config import RunConfig
from experiments.running.directory import RunDirectory
from experiments.running.judge import frozen_seed
from experiments.running.rounds import RoundsFile, Row, row_action
from fusion_env.data import Progress, no_progress
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError
from fusion_env.identity import differences
from fusion_env.task import DistillationTask, build_task

__all__ = ["Beginnings", "Recorded", "open_recorded"]


@dataclass(frozen=True)
class Recorded:
    """A recorded run.

    Attributes:
        directory: Where it lies.
        config: What was run.
        rows: One for each round, at least one.
        task: Its task, built again from the same data and networks.
    """

    directory: RunDirectory
    config: RunConfig
    rows: list[Row]
    task: DistillationTask


def open_recorded(run_dir: Path, progress: Progress = no_progress) -> Recorded:
    """Open the directory of a run, finished or not; it is only read.

    Raises:
        ConfigError: The directory holds no run, or its ``rounds.csv`` is damaged; data or networks have another content
            than those that the run was made with.
        FusionEnvError: Data or weights of the run are missing.
    """
    directory = RunDirectory(run_dir)
    config, rows = directory.read_config(), _read_rows(directory.rounds)
    task = build_task(config.env, progress)
    changed = differences((config.env, directory.recorded_fingerprints()), (config.env, task.fingerprints))
    if changed:
        raise ConfigError(f"{run_dir} cannot be replayed, since it was made with other content: {changed}. Restore it")
    return Recorded(directory, config, rows, task)


def _read_rows(file: RoundsFile) -> list[Row]:
    try:
        rows = file.read()
        for number, row in enumerate(rows, 1):
            int(row["run"]), int(row["round"]), row_action(row)
            if None in row or None in row.values():
                raise ValueError(f"row {number} has too many or too few columns")
    except FileNotFoundError as error:
        raise ConfigError(f"{file.path} does not exist: no round of this run was finished") from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigError(f"{file.path} is damaged ({error})") from error
    if not rows:
        raise ConfigError(f"{file.path} holds no finished round")
    return rows


class Beginnings:
    """The environments of a recorded run, reset as when it was made.

    They are seeded once for all runs of a student in which the agent learned, and anew for each run of the frozen
    agent.

    Args:
        config: What was run.
        task: Its task.
    """

    def __init__(self, config: RunConfig, task: DistillationTask) -> None:
        self._config, self._task = config, task
        self._envs: dict[tuple[str, int], FusionDistillEnv] = {}

    def student(self, phase: str, run: int) -> tuple[str, int]:
        """Return what the runs have in common that follow each other in one environment."""
        return phase, run % self._config.num_envs if phase == "learn" else 0

    def seed(self, phase: str, run: int) -> int | None:
        """Return the seed with which a run was reset; None where it continued the environment's own stream."""
        if phase == "evaluate":
            return frozen_seed(self._config.seed, run - self._config.runs)
        return self._config.seed + run if run < self._config.num_envs else None

    def reset(self, phase: str, run: int) -> FusionDistillEnv:
        """Return the environment of a run at its beginning; the runs of a student come in their order."""
        env = self._envs.setdefault(self.student(phase, run), FusionDistillEnv.from_task(self._task))
        env.reset(seed=self.seed(phase, run))
        return env
