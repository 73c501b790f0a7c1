"""The serialisable description of one run."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusion_env.config import DistillConfig
from fusion_env.errors import ConfigError
from student.checkpoint import write_atomic

__all__ = ["RunConfig", "read_config", "write_config"]

FILE = "config.json"
_VERSION = 1


@dataclass(frozen=True)
class RunConfig:
    """One run of an agent under the `online` protocol.

    Attributes:
        env: The distillation task.
        preset: The preset that `env` started from, for people.
        agent: Name known to `agents.make`.
        agent_settings: Settings that replace those of the agent's file.
        runs: Distillation runs in a row; the agent goes on learning, the student starts again from stage 0.
        seed: Seed of agent and environment.
    """

    env: DistillConfig
    preset: str = "demo"
    agent: str = "reinforce"
    agent_settings: dict[str, Any] = field(default_factory=dict)
    runs: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise ConfigError(f"runs must be at least 1. Got {self.runs}")
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative. Got {self.seed}")

    @property
    def total_rounds(self) -> int:
        """Rounds of all runs together."""
        return self.runs * self.env.rounds

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "version": _VERSION,
            "protocol": "online",
            "preset": self.preset,
            "agent": self.agent,
            "agent_settings": dict(self.agent_settings),
            "runs": self.runs,
            "seed": self.seed,
            "env": self.env.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """Read `to_dict`'s output.

        Raises:
            ConfigError: The format version is another one.
        """
        if values.get("version") != _VERSION:
            raise ConfigError(f"{FILE} has format version {values.get('version')!r}, this package reads {_VERSION}")
        names = ("preset", "agent", "agent_settings", "runs", "seed")
        return cls(env=DistillConfig.from_dict(values["env"]), **{name: values[name] for name in names})


def write_config(config: RunConfig, run_dir: Path) -> None:
    """Write ``config.json``."""
    write_atomic(run_dir / FILE, json.dumps(config.to_dict(), indent=2).encode())


def read_config(run_dir: Path) -> RunConfig:
    """Read ``config.json`` of a run directory.

    Raises:
        ConfigError: It is missing or damaged.
    """
    path = run_dir / FILE
    try:
        return RunConfig.from_dict(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist: {run_dir} is not the directory of a run") from error
    except (json.JSONDecodeError, KeyError, OSError) as error:
        raise ConfigError(f"{path} cannot be read ({error})") from error
