"""What the directory of a run holds, finished or not, read for people to look at."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.running.config import RunConfig
from experiments.running.directory import RunDirectory
from experiments.running.figures import CLEAN_TITLES, IMAGE_TITLES
from experiments.running.rounds import Row
from fusion_env.config import INDICATORS
from fusion_env.errors import ConfigError

__all__ = ["RecordedRun", "read_runs"]


@dataclass(frozen=True)
class RecordedRun:
    """A run as it was written down.

    Attributes:
        name: Tells it from the others on a page.
        path: Its directory.
        config: What was run.
        rows: One for each round so far.
        summary: What it came to; None while it is unfinished.
        images: For each shown report pair the PNG files under the names of `IMAGE_TITLES` and `CLEAN_TITLES`.
        preview: Small picture of the same, which older runs have alone; None where there is none.
    """

    name: str
    path: Path
    config: RunConfig
    rows: Sequence[Row]
    summary: dict[str, Any] | None
    images: Sequence[dict[str, Path]]
    preview: Path | None

    def column(self, name: str) -> list[float]:
        """Return the numbers of a column of ``rounds.csv``.

        Raises:
            ConfigError: It is missing, or holds something else.
        """
        try:
            return [float(row[name]) for row in self.rows]
        except (KeyError, TypeError, ValueError) as error:
            file = RunDirectory(self.path).rounds.path
            raise ConfigError(
                f"{file} is damaged: column {name} is missing or holds no number ({error}); put the file back"
            ) from error

    def starts(self) -> list[int]:
        """Return the positions of the first round of every distillation but the first."""
        numbers = self.column("run")
        return [at for at in range(1, len(numbers)) if numbers[at] != numbers[at - 1]]

    def e_of_teacher(self) -> list[float]:
        """Return E of the teacher in every round; NaN where ``rounds.csv`` holds too little to know it.

        The scores of some images only are divided by the teacher's mean over all of them, which is not written down.
        """
        env = self.config.env
        if env.normalisation == "teacher":
            return [1.0 if env.score_images is None else math.nan] * len(self.rows)
        bounds = dict(zip(INDICATORS, zip(env.minmax_bounds[::2], env.minmax_bounds[1::2], strict=True), strict=True))
        shares = [
            [
                (value - bounds[name][0]) / (bounds[name][1] - bounds[name][0])
                for value in self.column(f"teacher_{name}")
            ]
            for name in env.score_metrics
        ]
        return [sum(values) / len(values) for values in zip(*shares, strict=True)]


def read_runs(paths: Sequence[Path]) -> list[RecordedRun]:
    """Read the directories of runs.

    Raises:
        ConfigError: One of them is none, or holds a damaged file.
    """
    repeated = len({path.resolve().name for path in paths}) < len(paths)
    return [_read(path, str(path) if repeated else path.resolve().name) for path in paths]


def _read(path: Path, name: str) -> RecordedRun:
    directory = RunDirectory(path)
    config = directory.read_config()
    return RecordedRun(
        name=name,
        path=path,
        config=config,
        rows=directory.rounds.read() if directory.rounds.path.exists() else (),
        summary=directory.summary.read(),
        images=_images(directory, (*IMAGE_TITLES, *(CLEAN_TITLES if config.env.camera != "none" else ()))),
        preview=directory.preview_figure if directory.preview_figure.exists() else None,
    )


def _images(directory: RunDirectory, names: Sequence[str]) -> list[dict[str, Path]]:
    """Return the images of every pair of which all are there, which is only so after they were all written."""
    pairs = []
    for number in range(1, 1 + len(list(directory.images.glob("*-infrared.png")))):
        files = {name: directory.images / f"{number}-{name}.png" for name in names}
        missing = [path for path in files.values() if not path.exists()]
        if missing and directory.is_finished:
            raise ConfigError(f"{missing[0]} is missing: put it back, or delete the folder {directory.images}")
        if not missing:
            pairs.append(files)
    return pairs
