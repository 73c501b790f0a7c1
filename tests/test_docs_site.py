"""The site has every page and public module once, and its links are those of the repository."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parent.parent
DOCS = CHECKOUT / "docs"


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", DOCS / "hooks" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def navigation(hook: ModuleType) -> list[str]:
    return list(hook.pages_of(yaml.safe_load((CHECKOUT / "mkdocs.yml").read_text())["nav"]))


def test_the_navigation_has_every_page_once(hook: ModuleType, navigation: list[str]) -> None:
    pages = [str(page.relative_to(DOCS)) for page in DOCS.glob("*/*.md")]
    assert sorted(name for name in navigation if not hook.API_PAGE.fullmatch(name)) == sorted(
        [*pages, *hook.ADDED.values()]
    )


def test_pages_of_modules(hook: ModuleType, navigation: list[str]) -> None:
    modules = [page[1] for page in map(hook.API_PAGE.fullmatch, navigation) if page]
    assert len(modules) > 10
    for name in modules:
        assert importlib.import_module(name).__all__


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("[a](faq.md)", "[a](faq.md)"),
        ("[a](faq.md#data)", "[a](faq.md#data)"),
        ("[a](#data)", "[a](#data)"),
        ("![a](../results/preview.png)", "![a](../results/preview.png)"),
        ("[a](../../README.md#next-step)", "[a](../index.md#next-step)"),
        ("[a](../../fusion_env/assets/teacher.md)", "[a](../cards/teacher.md)"),
        ("[a](../../fusion_env/env.py) and [b](../results/benchmarks/)", "a and b"),
        ("[a](nowhere.md)", "[a](nowhere.md)"),
        ("[a](https://arxiv.org)", "[a](https://arxiv.org)"),
        ("`[a](../../setup.cfg)`", "`[a](../../setup.cfg)`"),
        ("```\n[a](../../setup.cfg)\n```", "```\n[a](../../setup.cfg)\n```"),
    ],
)
def test_links(hook: ModuleType, link: str, expected: str) -> None:
    names = {"docs/guide/faq.md": "guide/faq.md", "docs/results/preview.png": "results/preview.png", **hook.ADDED}
    assert hook.with_site_links(link, "docs/guide/quick-start.md", "guide/quick-start.md", names) == expected
