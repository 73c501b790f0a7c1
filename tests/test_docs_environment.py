"""docs/reference/environment.md is the environment's docstring, in its words, and has every setting of the code."""

import dataclasses
import inspect
import re
from pathlib import Path

import gymnasium
import pytest

import fusion_env
from fusion_env.action import ACTION_NAMES
from fusion_env.config import (
    INDICATORS,
    PRESETS,
    DataSettings,
    MachineSettings,
    ScoringSettings,
    TeacherSettings,
    TrainingSettings,
)
from fusion_env.env import FusionDistillEnv
from fusion_env.info import NamedValues
from fusion_env.observation import OBSERVATIONS
from fusion_env.run import LastRun
from fusion_env.settings import Settings, range_of, type_name

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "reference" / "environment.md").read_text()
SECTIONS = dict(re.findall(r"^## ([\w ]+)\n(.*?)(?=^## |\Z)", inspect.getdoc(FusionDistillEnv) or "", re.M | re.S))
GROUPS = {
    "Data": DataSettings,
    "Teacher and stage 0": TeacherSettings,
    "Training": TrainingSettings,
    "Scoring": ScoringSettings,
    "Machine": MachineSettings,
}


def plain(text: str) -> str:
    """Return a text without its line breaks, and without the second backticks that a docstring has."""
    return " ".join(text.replace("``", "`").split())


def section(title: str) -> str:
    return re.search(rf"^##+ {title}\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)[1]


def rows(title: str) -> list[list[str]]:
    """Return the cells of the last table of a section, without its head."""
    table = section(title).rpartition("|---|")[2].partition("\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]


@pytest.mark.parametrize("title", sorted(SECTIONS.keys() - {"Arguments", "Version history"}))
def test_the_words_of_the_docstring(title: str) -> None:
    assert plain(SECTIONS[title]) in plain(section(title))


def test_the_docstring_has_sections() -> None:
    assert len(SECTIONS) == 9


def test_every_number_of_the_rich_observation() -> None:
    members = {
        "performance": [f"{name.upper()} against stage 0" for name in INDICATORS],
        "gap": [f"{name.upper()} against the teacher" for name in INDICATORS],
        "change": [f"change of {name.upper()}" for name in INDICATORS],
        "losses": ["guidance loss", "self-learning loss"],
        "share": ["share of the guidance loss"],
        "action": [f"last action: `{name}`" for name in ACTION_NAMES],
        "time": ["used fraction of the rounds"],
    }
    names = [name for part in OBSERVATIONS["rich"] for name in members[part]]
    assert len(names) == 26
    assert rows("The 26 numbers one by one") == [[str(number), name] for number, name in enumerate(names)]


def test_every_key_of_info() -> None:
    env = gymnasium.make("fusion_env/FusionDistillTiny-v0", threads=1)
    _, info = env.reset(seed=0)
    assert [row[:3] for row in rows("Keys and shapes")] == [
        [f"`{key}`", f"{value.dtype}{list(value.shape) or ''}", members(value)] for key, value in info.items()
    ]


def members(value: object) -> str:
    names = value.names if isinstance(value, NamedValues) else ()
    return " x ".join(", ".join(f"`{name}`" for name in axis) for axis in names)


def test_every_attribute_of_the_last_run() -> None:
    assert [row[0] for row in rows("What a run leaves behind")] == [
        f"`{item.name}`" for item in dataclasses.fields(LastRun)
    ]


@pytest.mark.parametrize("title", GROUPS)
def test_every_setting(title: str) -> None:
    settings = [
        [f"`{item.name}`", f"`{item.default!r}`", values(item), item.metadata["help"]]
        for item in dataclasses.fields(GROUPS[title])
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in settings)
    assert rows(title) == settings, f"the table should be\n{table}"


def values(item: dataclasses.Field) -> str:
    """Return what a setting may be, for people."""
    choices = item.metadata["choices"]
    kind = type_name(item).replace(" | ", " or ").removesuffix(" or None")
    return ", ".join(f"`{choice!r}`" for choice in choices) if choices else f"{kind} {range_of(item)}".strip()


def test_the_groups_are_the_configuration() -> None:
    names = [item.name for group in GROUPS.values() for item in dataclasses.fields(group)]
    assert sorted(names) == sorted(item.name for item in dataclasses.fields(fusion_env.DistillConfig))
    assert all(issubclass(group, Settings) for group in GROUPS.values())


def test_what_the_presets_set() -> None:
    presets = {name: PRESETS.get(name).to_dict() for name in ("tiny", "small", "bench", "demo", "paper")}
    differing = [
        [f"`{key}`", *(f"`{values[key]!r}`" for values in presets.values())]
        for key in presets["demo"]
        if len({repr(values[key]) for values in presets.values()}) > 1
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in differing)
    assert sorted(presets) == sorted(PRESETS.names())
    assert rows("Presets") == differing, f"the table should be\n{table}"
