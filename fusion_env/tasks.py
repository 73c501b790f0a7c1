"""Named tasks: situations in which a student is distilled, each with the reason why its curriculum may matter.

A preset is a size, a task is a situation: every task can be had at every size. A task of your own is registered as
these are, and then works wherever a task is named.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from fusion_env.config import DistillConfig
from fusion_env.config import preset as preset_config
from fusion_env.registry import Registry
from fusion_env.settings import shown

__all__ = ["TASKS", "Task", "config", "described", "get", "names", "register"]

# All images, in every round, as the report has them: a reward that does not hang on what was drawn. And steps so large
# that a run leaves its start: with those of the presets, a converged student stays where every action is alike.
_COMMON = {"score_size": None, "score_crops": None, "score_images": None, "learning_rate": 0.002}
# Seen through cameras: on clean images of procedural scenes curricula hardly differ from guidance only.
_ROUGH = {"camera": "rough", **_COMMON}


@dataclass(frozen=True)
class Task:
    """A situation in which a student is distilled.

    Attributes:
        name: What it is chosen by.
        summary: What it is, in one sentence.
        why: Why a curriculum may matter here, in one sentence.
        settings: Fields of `DistillConfig` that make it, over those of a preset.

    Raises:
        UnknownSettingError: A name in `settings` is not a field; the message suggests the nearest one.
        ConfigError: A value is out of range, or contradicts another one or a default.
    """

    name: str
    summary: str
    why: str
    settings: Mapping[str, Any] = field(hash=False)

    def __post_init__(self) -> None:
        checked = DistillConfig().replace(**self.settings)
        object.__setattr__(self, "settings", MappingProxyType({name: getattr(checked, name) for name in self.settings}))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by what makes the task again: a read-only mapping can be neither."""
        return type(self), (self.name, self.summary, self.why, dict(self.settings))


TASKS: Registry[Task] = Registry("task", "a fusion_env.tasks.Task", lambda member: isinstance(member, Task))


def register(task: Task) -> Task:
    """Make a task known under its name, and return it.

    Raises:
        ValueError: Something else has the name.
    """
    return TASKS.register(task.name)(task)


def names() -> tuple[str, ...]:
    """Return the names of all tasks.

    >>> names()
    ('camera', 'few', 'plenty', 'roadscene', 'sage', 'shift')
    """
    return TASKS.names()


def get(name: str) -> Task:
    """Return a task.

    Raises:
        UnknownNameError: There is none of this name; the message suggests the nearest one.
    """
    return TASKS.get(name)


def config(name: str | None, preset: str = "bench", **changes: Any) -> DistillConfig:
    """Return the configuration of a task at the size of a preset.

    Args:
        name: One of `names`; None for the preset as it is.
        preset: The size.
        **changes: Fields of `DistillConfig`; they win over the task's, which win over the preset's.

    Raises:
        UnknownNameError: The task, the preset or a field does not exist.
        ConfigError: A value is out of range or contradicts another one.

    >>> few = config("few", "tiny", rounds=3)
    >>> few.train_limit, few.crop_size, few.rounds
    (8, 32, 3)
    """
    return preset_config(preset, **{**(get(name).settings if name is not None else {}), **changes})


def described(config: DistillConfig, name: str | None, preset: str) -> str:
    """Say what a configuration started from, and where it left the task that it is called by.

    Args:
        config: The configuration.
        name: Its task, if it has one.
        preset: Its preset.

    >>> described(config("few", train_limit=12), "few", "bench")
    'preset bench, task few (but train_limit=12 in place of 8)'
    """
    if name is None:
        return f"preset {preset}"
    left = ", ".join(
        f"{setting}={shown(getattr(config, setting))} in place of {shown(value)}"
        for setting, value in get(name).settings.items()
        if getattr(config, setting) != value
    )
    return f"preset {preset}, task {name}" + (f" (but {left})" if left else "")


register(
    Task(
        "plenty",
        "Train on 96 scenes; reward and report are of 12 others each.",
        "The control: where training already shows everything that is judged, a curriculum has the least to add.",
        {"data": "procedural", "scenes": 120, **_COMMON},
    )
)
register(
    Task(
        "few",
        "The task camera with 8 pairs to train on; reward and report are of 8 others each.",
        "A student that only imitates learns these pairs by heart; degradations stand in for pairs that are missing.",
        {"data": "procedural", "scenes": 80, "train_limit": 8, **_ROUGH},
    )
)
register(
    Task(
        "shift",
        "Train by day; reward and report are of scenes by night, in fog and in glare, seen through rough cameras.",
        "Neither weather nor cameras of what is judged were trained on; a student that only imitates is worst there.",
        {
            "data": "procedural",
            "scenes": 90,
            "conditions": ("day",),
            "test_conditions": ("night", "fog", "glare"),
            **_ROUGH,
        },
    )
)
register(
    Task(
        "camera",
        "Reward and report are seen through cameras with blur, noise and wrong exposure; metrics know the clean pair.",
        "Only the degradations of the curriculum show the student such input, and the teacher cannot undo it.",
        {"data": "procedural", "scenes": 80, **_ROUGH},
    )
)
register(
    Task(
        "roadscene",
        "RoadScene, a published data set of real pairs; give data=DIR or data_root=DIR.",
        "Real sensors: what is found on procedural scenes has to hold here.",
        {"data": "roadscene", "score_limit": 8, **_COMMON},
    )
)
register(
    Task(
        "sage",
        "The task few, with SAGE for a teacher; give teacher_weights=FILE.",
        "Another teacher, whose fused images the student's start never saw: what an agent learnt has to carry over.",
        {**TASKS.get("few").settings, "teacher": "sage", "student_init": "embedded"},
    )
)
