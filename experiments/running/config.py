"""The serialisable description of one run."""

import json
import math
import reprlib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fusion_env.config import DistillConfig
from fusion_env.errors import ConfigError, unknown_name
from fusion_env.settings import type_name
from student.files import write_atomic

__all__ = ["PROTOCOLS", "RunConfig", "read_config", "write_config"]

FILE = "config.json"
# NumPy's global generator, from which Stable-Baselines3 draws, takes no higher one.
_MAX_SEED = 2**32 - 1
_VERSION = 3
# Version 2 had neither `normalize` nor `checkpoint_every`; their defaults are what it did.
_READABLE = (2, _VERSION)

PROTOCOLS = ("online", "across")
"""How an agent is judged: by the student that it trained while it learned itself, or by those that it trains after."""


@dataclass(frozen=True)
class RunConfig:
    """An agent, a task and a protocol.

    Attributes:
        env: The distillation task.
        preset: The preset that `env` started from, for people.
        agent: Name known to `agents.make`.
        agent_settings: Settings that replace those of the agent's file.
        protocol: `online`: the agent learns in `runs` distillation runs, and the student of the last one is scored.
            `across`: after its `runs` the agent is frozen and acts deterministically in `eval_runs` runs with unseen
            seeds; only their students are scored.
        runs: Distillation runs to learn in, each from the stage-0 student; 0 (only `across`) for an agent that does not
            learn or is read from `policy`.
        eval_runs: Runs of the frozen agent, for `across`.
        policy: Saved agent to judge instead of a new one (`across` with 0 runs).
        seed: Seed of agent and environment.
        normalize: Let the agent learn on observations and rewards of one scale (`VecNormalize`), which goes with it
            into its file. Everything that is recorded is what the environment said.
        checkpoint_every: Rounds after which a checkpoint is written, as soon as the agent's state is complete.
        details: Also train the guidance-only control and draw the pictures of the run; sweeps leave both out.
    """

    env: DistillConfig
    preset: str = "demo"
    agent: str = "reinforce"
    agent_settings: dict[str, Any] = field(default_factory=dict)
    protocol: str = "online"
    runs: int = 1
    eval_runs: int = 0
    policy: str | None = None
    seed: int = 0
    normalize: bool = False
    checkpoint_every: int = 10
    details: bool = True

    def __post_init__(self) -> None:
        self._check_types()
        object.__setattr__(self, "agent_settings", _plain(self.agent_settings))
        if self.protocol not in PROTOCOLS:
            raise unknown_name("protocol", self.protocol, PROTOCOLS)
        lowest = {
            "runs": int(self.protocol == "online"),
            "eval_runs": int(self.protocol == "across"),
            "seed": 0,
            "checkpoint_every": 1,
        }
        for name, low in lowest.items():
            if getattr(self, name) < low:
                raise ConfigError(
                    f"{name} must be at least {low} with protocol {self.protocol}. Got {getattr(self, name)}"
                )
        if self.seed > _MAX_SEED:
            raise ConfigError(f"seed must be at most {_MAX_SEED}. Got {self.seed}")
        if self.protocol == "online" and self.eval_runs:
            raise ConfigError(f"eval_runs={self.eval_runs} needs protocol 'across': online, the agent's own run counts")
        if self.policy is not None and (self.protocol != "across" or self.runs):
            raise ConfigError("a saved policy is judged as it is: set protocol 'across' and 0 learning runs")
        if self.normalize and not self.runs:
            raise ConfigError("normalize needs learning runs: a saved agent brings the scale along that it learned on")

    def _check_types(self) -> None:
        for item in fields(self):
            value, kind = getattr(self, item.name), _TYPES[item.name]
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
                raise ConfigError(f"{item.name} must be {type_name(item)}. Got {reprlib.repr(value)}")

    @property
    def learning_rounds(self) -> int:
        """Rounds in which the agent learns."""
        return self.runs * self.env.rounds

    @property
    def total_rounds(self) -> int:
        """Rounds of all runs together."""
        return (self.runs + self.eval_runs) * self.env.rounds

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"version": _VERSION, **vars(self), "env": self.env.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """Read `to_dict`'s output.

        Raises:
            ConfigError: The format version is another one, or a setting is unknown, missing or out of range.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"the description of a run must be a mapping. Got {type(values).__name__}")
        if values.get("version") not in _READABLE:
            raise ConfigError(f"{FILE} has format version {values.get('version')!r}, this package reads {_VERSION}")
        if "env" not in values:
            raise ConfigError("the description of a run needs env, the settings of its task")
        rest = {name: value for name, value in values.items() if name not in ("version", "env")}
        for name in rest.keys() - _TYPES.keys():
            raise unknown_name("setting of a run", name, _TYPES)
        return cls(env=DistillConfig.from_dict(values["env"]), **rest)


# NaN, the third constant of JSON in Python, is not among them: it equals nothing, not even itself in the file.
_INFINITE = {"Infinity": math.inf, "-Infinity": -math.inf}
_TYPES: dict[str, Any] = {
    "env": DistillConfig,
    "agent_settings": dict,
    "policy": (str, type(None)),
    **dict.fromkeys(("preset", "agent", "protocol"), str),
    **dict.fromkeys(("runs", "eval_runs", "seed", "checkpoint_every"), int),
    **dict.fromkeys(("normalize", "details"), bool),
}


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as they come back from JSON, so that a configuration equals the one in its file."""
    try:
        return json.loads(json.dumps(settings), parse_constant=_INFINITE.__getitem__)
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        raise ConfigError(
            f"agent_settings must be numbers, texts, lists and mappings, not NaN. Got {reprlib.repr(settings)}"
        ) from error


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
    except (ValueError, OSError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read ({error})") from error
