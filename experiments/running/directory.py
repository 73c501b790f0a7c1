"""The directory of one run: what lies in it under which name, and who may write there."""

import errno
import json
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from experiments.running.config import RunConfig
from experiments.running.rounds import RoundsFile
from fusion_env.errors import ConfigError
from fusion_env.identity import Fingerprints, absolute_paths, differences
from student.files import is_part, write_atomic

__all__ = ["ResultFile", "RunDirectory"]

_logger = logging.getLogger(__name__)

_LOCK = ".lock"
# How long to wait for another process to leave the directory: one that was killed takes a moment to go.
_LOCK_TIMEOUT_S = 20
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


class ResultFile:
    """What a part of a run came to, as JSON: written whole or not at all, and named where it is damaged.

    Args:
        path: The file.
        kind: What it holds, `dict` or `list` (of mappings).
        keys: What the mapping, or each one of the list, must have.
    """

    def __init__(self, path: Path, kind: type, keys: Collection[str]) -> None:
        self.path, self._kind, self._keys = path, kind, keys

    def write(self, content: Any) -> None:
        """Write the file."""
        write_atomic(self.path, json.dumps(content, indent=2).encode())

    def read(self) -> Any:
        """Read the file; None if there is none.

        Raises:
            ConfigError: It is damaged.
        """
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            entries = content if isinstance(content, list) else [content]
            if not isinstance(content, self._kind) or not all(isinstance(entry, dict) for entry in entries):
                raise ValueError(f"it holds no {'list of mappings' if self._kind is list else 'mapping'}")
            missing = [key for key in self._keys if any(key not in entry for entry in entries)]
            if missing:
                raise ValueError(f"without {', '.join(missing)}")
        except FileNotFoundError:
            return None
        except (ValueError, OSError, RecursionError) as error:
            raise ConfigError(f"{self.path} is damaged ({error}): delete it, and the run goes on without it") from error
        return content


class RunDirectory:
    """The directory of a run; docs/reference/run-directory.md says what each file holds.

    Args:
        path: The directory. Making the object neither reads nor makes it.

    Attributes:
        path: The directory.
        config_file: What was run.
        fingerprints: Hashes of the data, the networks and the policy's file that it was run with.
        rounds: One row for every round.
        learning: What learning came to.
        evaluation: What each run of the frozen agent came to.
        summary: What the whole run came to; it is there when the run is finished.
        agent: File of the agent.
        student: File of the student that the last run delivered.
        rewards_figure: Picture of the rounds.
        preview_figure: Picture of some fused images.
        images: Folder of the same images in full size.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rounds = RoundsFile(path / "rounds.csv")
        learning = ("rounds", "updates", "seconds", "diverged_runs", "agent_diverged", "best_round")
        self.learning = ResultFile(path / "learning.json", dict, learning)
        frozen = ("seed", "rounds", "return", "diverged", "best_round", "report")
        self.evaluation = ResultFile(path / "evaluation.json", list, frozen)
        self.summary = ResultFile(path / "summary.json", dict, ("agent_diverged",))
        self.agent, self.student = path / "agent.zip", path / "student.safetensors"
        self.rewards_figure, self.preview_figure = path / "rewards.png", path / "preview.png"
        self.images = path / "images"
        self.config_file = path / "config.json"
        self.fingerprints = ResultFile(path / "fingerprints.json", dict, ())

    @property
    def is_begun(self) -> bool:
        """Whether it holds a run."""
        return self.config_file.exists()

    @property
    def is_finished(self) -> bool:
        """Whether its run is finished."""
        return self.summary.path.exists()

    def write_config(self, config: RunConfig) -> None:
        """Write ``config.json``; paths are absolute in it, so that it means the same in every working directory."""
        absolute = replace(config, env=absolute_paths(config.env), policy=_absolute(config.policy))
        write_atomic(self.config_file, json.dumps(absolute.to_dict(), indent=2).encode())

    def read_config(self) -> RunConfig:
        """Read ``config.json``.

        Raises:
            ConfigError: It is missing or damaged.
        """
        try:
            return RunConfig.from_dict(json.loads(self.config_file.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise ConfigError(
                f"{self.config_file} does not exist: {self.path} is not the directory of a run"
            ) from error
        except (ValueError, OSError, RecursionError) as error:
            raise ConfigError(f"{self.config_file} cannot be read ({error})") from error

    def earlier_result(self, config: RunConfig, content: Callable[[RunConfig], Fingerprints]) -> dict[str, Any] | None:
        """Return what a run came to that was finished here; None where it is still to be done.

        Args:
            config: What shall be run.
            content: Finds out fingerprints of what a configuration names, as far as that is there.

        Raises:
            ConfigError: The directory holds a run of another configuration, of other data or another teacher, or
                something else.
        """
        try:
            entries = list(self.path.iterdir())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self.path} cannot be a directory for results ({_reason(error)}): choose another"
            ) from error
        if self.config_file in entries:
            self._check_same(config, content(config))
            return self.summary.read()
        # A process may have been killed while it wrote its first file, or be writing it now.
        if any(not is_part(entry) for entry in entries if entry.name != _LOCK):
            raise ConfigError(f"{self.path} is not empty and not the directory of a run: choose another --out")
        return None

    def begin(self, config: RunConfig, fingerprints: Fingerprints) -> None:
        """Write down what is run, or check that it is what was begun here.

        Raises:
            ConfigError: The directory holds a run of another configuration, or of other data or networks.
        """
        if self.is_begun:
            self._check_same(config, fingerprints)
        else:
            self.write_config(config)
        if self.fingerprints.read() is None:
            self.fingerprints.write(fingerprints)

    def recorded_fingerprints(self) -> Fingerprints:
        """Return what ``fingerprints.json`` holds; older directories have none, which is logged."""
        recorded = self.fingerprints.read()
        if recorded is None:
            _logger.info("%s has no fingerprints: whether its data and networks are the same is not checked", self.path)
        return recorded or {}

    def _check_same(self, config: RunConfig, here: Fingerprints) -> None:
        """Compare settings, and content as far as both sides know it."""
        begun, recorded = self.read_config(), self.recorded_fingerprints()
        old, new = ({**vars(run), "policy": _absolute(run.policy)} for run in (begun, config))
        policies = recorded.get("policy"), here.get("policy")
        if None not in policies:  # a saved agent may lie anywhere
            old["content of policy"], new["content of policy"] = policies
            old["policy"] = new["policy"]
        changed = [
            f"{name} ({old[name]!r}, here {new[name]!r})" for name in new if name != "env" and old[name] != new[name]
        ]
        task = differences((begun.env, recorded), (config.env, here))
        if changed or task:
            named = ", ".join([*changed, *([task] if task else [])])
            raise ConfigError(f"{self.path} holds a run of another configuration: {named}. Choose another --out")

    @contextmanager
    def sole_writer(self) -> Iterator[None]:
        """Make the directory and keep other processes out of it; what killed ones were writing is removed.

        Raises:
            ConfigError: It cannot be made or written to, or another process stays in it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.path} cannot be made ({_reason(error)}): choose another directory") from error
        try:
            with FileLock(self.path / _LOCK, timeout=_LOCK_TIMEOUT_S):
                for part in self.partial_files():
                    part.unlink()
                yield
        except Timeout as error:
            raise ConfigError(
                f"another process is running in {self.path}: wait for it, or choose another --out"
            ) from error
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            raise ConfigError(
                f"{self.path} cannot be written to ({_reason(error)}): what it holds is intact; make room or set "
                "the rights, and resume"
            ) from error

    def checkpoint(self, rounds: int) -> Path:
        """Return the file of the checkpoint after so many rounds."""
        return self.path / f"checkpoint-{rounds:08d}.pt"

    def checkpoints(self) -> list[Path]:
        """List the checkpoints that there are, the oldest first."""
        return sorted(self.path.glob("checkpoint-*.pt"))

    def remove_checkpoints(self, but: int = 0) -> None:
        """Delete the checkpoints, but so many of the newest."""
        for path in self.checkpoints()[: -but or None]:
            path.unlink(missing_ok=True)

    def partial_files(self) -> list[Path]:
        """List what a process that was killed while it wrote left behind."""
        folders = [folder for folder in (self.path, self.images) if folder.is_dir()]
        return sorted(path for folder in folders for path in folder.iterdir() if is_part(path))

    def results(self) -> list[str]:
        """List the names of the files for people and programs."""
        return sorted(path.name for path in self.path.iterdir() if not path.name.startswith("."))


def _absolute(path: str | None) -> str | None:
    return path and str(Path(path).absolute())


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
