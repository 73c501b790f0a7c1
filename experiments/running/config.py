"""The serialisable description of one run."""

import json
import math
import reprlib
from dataclasses import dataclass, field, fields
from typing import Any, get_origin

from fusion_env import tasks
from fusion_env.config import DistillConfig
from fusion_env.errors import ConfigError, unknown_name
from fusion_env.settings import type_name

__all__ = ["PROTOCOLS", "RunConfig"]

# NumPy's global generator, from which Stable-Baselines3 draws, takes no higher one.
_MAX_SEED = 2**32 - 1
_VERSION = 5
# Version 4 had no `task`, version 3 no `num_envs`, version 2 neither `normalize` nor `checkpoint_every`; their defaults
# are what they did.
_READABLE = (2, 3, 4, _VERSION)
# NaN, the third constant of JSON in Python, is not among them: it equals nothing, not even itself in the file.
_INFINITE = {"Infinity": math.inf, "-Infinity": -math.inf}

PROTOCOLS = ("online", "across")
"""How an agent is judged: by the student that it trained while it learned itself, or by those that it trains after."""


def _setting(default: Any, text: str, choices: tuple[str, ...] | None = None) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True)
class RunConfig:
    """An agent, a task and a protocol. Every field carries one sentence that is also its command-line help.

    Raises:
        ConfigError: A value has the wrong type, is out of range, or contradicts another one.
    """

    env: DistillConfig = field(metadata={"help": "The distillation task."})
    preset: str = _setting("demo", "The preset that the settings of env started from, for people.")
    task: str | None = _setting(None, "The named task whose settings went over the preset's, for people and tables.")
    agent: str = _setting("reinforce", "Name known to `agents.make`.")
    agent_settings: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Settings that replace those of the agent's file."}
    )
    protocol: str = _setting(
        PROTOCOLS[0],
        "online: the student of the (last) run in which the agent learns is scored; across: the agent is frozen after "
        "its runs and acts deterministically, and the students of new runs with unseen seeds are scored.",
        PROTOCOLS,
    )
    runs: int = _setting(
        1,
        "Distillation runs in a row in which the agent learns, each from the stage-0 student; 0 (across only) for an "
        "agent that does not learn or comes from a file.",
    )
    num_envs: int = _setting(
        1,
        "Students that are trained beside each other while the agent learns, each for its part of the runs and, "
        "without the setting threads, with one thread; as many at a time as there are cores.",
    )
    eval_runs: int = _setting(0, "Runs of the frozen agent (across only).")
    policy: str | None = _setting(None, "Saved agent to judge as it is (across, 0 learning runs).")
    seed: int = _setting(0, "Seed of agent and environment.")
    normalize: bool = _setting(
        False,
        "Let the agent learn on observations and rewards of one scale (VecNormalize), which goes with it into its "
        "file; records stay as they are.",
    )
    checkpoint_every: int = _setting(
        10, "Rounds between checkpoints; each is written as soon as the agent's state is complete."
    )
    details: bool = _setting(True, "Also train the guidance-only control and draw pictures; sweeps leave both out.")

    def __post_init__(self) -> None:
        self._check_types()
        object.__setattr__(self, "agent_settings", _plain(self.agent_settings))
        if self.protocol not in PROTOCOLS:
            raise unknown_name("protocol", self.protocol, PROTOCOLS)
        online = self.protocol == "online"
        lowest = {"num_envs": 1, "runs": int(online), "eval_runs": int(not online), "seed": 0, "checkpoint_every": 1}
        for name, low in lowest.items():
            if getattr(self, name) < low:
                raise ConfigError(
                    f"{name} must be at least {low} with protocol {self.protocol}. Got {getattr(self, name)}"
                )
        if self.seed > _MAX_SEED:
            raise ConfigError(f"seed must be at most {_MAX_SEED}. Got {self.seed}")
        if online and self.eval_runs:
            raise ConfigError(f"eval_runs={self.eval_runs} needs protocol 'across': online, the agent's own run counts")
        if self.policy is not None and (online or self.runs):
            raise ConfigError("a saved policy is judged as it is: set protocol 'across' and 0 learning runs")
        if self.runs % self.num_envs or (self.num_envs > 1 and not self.runs):
            raise ConfigError(
                f"runs must be a multiple of num_envs={self.num_envs}, of which each student has its part. "
                f"Got {self.runs}"
            )
        if self.normalize and not self.runs:
            raise ConfigError("normalize needs learning runs: a saved agent brings the scale along that it learned on")

    def _check_types(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            kind: Any = dict if get_origin(item.type) is dict else item.type
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
                raise ConfigError(f"{item.name} must be {type_name(item)}. Got {reprlib.repr(value)}")

    @property
    def start(self) -> str:
        """What the settings of the task started from, for people."""
        return tasks.described(self.env, self.task, self.preset)

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
            raise ConfigError(
                f"config.json has format version {values.get('version')!r}, this package reads {_VERSION}"
            )
        if "env" not in values:
            raise ConfigError("the description of a run needs env, the settings of its task")
        rest = {name: value for name, value in values.items() if name not in ("version", "env")}
        known = [item.name for item in fields(cls)]
        for name in rest.keys() - set(known):
            raise unknown_name("setting of a run", name, known)
        return cls(env=DistillConfig.from_dict(values["env"]), **rest)


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as they come back from JSON, so that a configuration equals the one in its file."""
    try:
        return json.loads(json.dumps(settings), parse_constant=_INFINITE.__getitem__)
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        raise ConfigError(
            f"agent_settings must be numbers, texts, lists and mappings, not NaN. Got {reprlib.repr(settings)}"
        ) from error
