"""Every test that docs/reference/guarantees.md names exists, and every guarantee names one."""

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
TEXT = (CHECKOUT / "docs" / "reference" / "guarantees.md").read_text()
GUARANTEES, _, REST = TEXT.partition("## What is not guaranteed")
NAMED = sorted(set(re.findall(r"`(tests/[^`\s]*::[^`\s]*)`", GUARANTEES)))


def test_the_page_names_tests() -> None:
    assert len(NAMED) > 40
    assert not re.search(r"`tests/", REST)


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_exists(name: str) -> None:
    path, *parts = name.split("::")
    body = ast.parse((CHECKOUT / path).read_text()).body
    for part in parts:
        found = [node for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == part]
        assert found, f"{path} has no {part}"
        body = found[0].body


def test_every_guarantee_names_a_test() -> None:
    guarantees = re.findall(r"^- (.*?)(?=\n- |\n\n|\Z)", GUARANTEES, flags=re.MULTILINE | re.DOTALL)
    assert len(guarantees) > 25
    assert [text for text in guarantees if "::" not in text] == []
