"""What the docs point to exists; the index has every page; the README has the tables of the code."""

import pkgutil
import re
from dataclasses import fields
from pathlib import Path

import pytest

from fusion_env.action import ACTION_SIZE, action_table
from fusion_env.config import ScoringSettings
from fusion_env.observation import observation_size, observation_table

CHECKOUT = Path(__file__).resolve().parent.parent
DOCS = CHECKOUT / "docs"
INDEX = DOCS / "README.md"
PAGES = sorted([*CHECKOUT.glob("*.md"), *DOCS.rglob("*.md"), *CHECKOUT.glob("*/assets/*.md")])

CODE_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"(?<![\w./-])(?:\.ci|agents|docs|experiments|fusion_env|student|tests)/[\w./*-]*")
PYTHON_NAME = re.compile(r"`((?:agents|experiments|fusion_env|student)(?:\.[A-Za-z_]\w*)+)")
ENVIRONMENT_ID = re.compile(r"fusion_env/\w+-v\d+")
PLACEHOLDER = re.compile(r"[A-Z]{2,}")  # such as NAME in fusion_env/teachers/NAME.py


@pytest.fixture(params=PAGES, ids=[str(page.relative_to(CHECKOUT)) for page in PAGES])
def page(request: pytest.FixtureRequest) -> Path:
    return request.param


def links(page: Path) -> list[str]:
    """Return the relative links of a page, those of its pictures included."""
    found = LINK.findall(CODE_BLOCK.sub("", page.read_text()))
    return [target for target in found if not target.startswith(("http://", "https://"))]


def test_links_resolve(page: Path) -> None:
    assert [target for target in links(page) if not (page.parent / target.split("#")[0]).exists()] == []


def test_named_paths_exist(page: Path) -> None:
    named = {match.rstrip(".") for match in PATH.findall(page.read_text())}
    missing = [path for path in named if not ENVIRONMENT_ID.fullmatch(path) and not exists(path)]
    assert missing == []


def exists(path: str) -> bool:
    """Whether a path of the repository exists; a placeholder stands for any name."""
    *folders, name = path.split("/")
    return any(CHECKOUT.glob("/".join([*folders, PLACEHOLDER.sub("*", name)]).rstrip("/")))


def test_named_python_objects_exist(page: Path) -> None:
    for name in sorted(set(PYTHON_NAME.findall(page.read_text()))):
        if not name.endswith((".safetensors", ".pt")):
            pkgutil.resolve_name(name)


def test_the_index_has_every_page_once() -> None:
    listed = [(DOCS / target).resolve() for target in links(INDEX) if target.endswith(".md")]
    pages = [page for page in DOCS.glob("*/*.md") if page != INDEX]
    assert sorted(path for path in listed if DOCS in path.parents) == sorted(pages)


def test_the_readme_has_the_tables_of_action_and_observation() -> None:
    text = (CHECKOUT / "README.md").read_text()
    assert f"**Action**: `Box(-1, 1, ({ACTION_SIZE},), float32)`" in text
    assert f"|---|---|---|---|\n{action_table()}\n\n" in text
    assert f"**Observation**: `Box(-10, 10, ({observation_size('vector')},), float32)`" in text
    assert f"|---|---|\n{observation_table('vector')}\n\n" in text
    assert f": {observation_size('rich')} numbers, listed in the docstring" in text


def test_the_readme_has_every_reward() -> None:
    choices = next(item for item in fields(ScoringSettings) if item.name == "reward").metadata["choices"]
    rows = re.findall(r'^\| `reward="(\w+)"`', (CHECKOUT / "README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(choices)


def test_the_readme_is_short() -> None:
    assert len((CHECKOUT / "README.md").read_text().splitlines()) <= 150
