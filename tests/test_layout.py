"""Imports point one way: student <- fusion_env <- experiments; agents stands alone."""

import ast
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = {"student", "fusion_env", "agents", "experiments"}
ALLOWED = {
    "student": {"student"},
    "fusion_env": {"student", "fusion_env"},
    "agents": {"agents"},
    "experiments": PACKAGES,
}


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_imports(package: str) -> None:
    for path in (CHECKOUT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            used = {name.split(".")[0] for name in names} & PACKAGES
            assert used <= ALLOWED[package], f"{path} imports {used - ALLOWED[package]}"


def test_packages_are_typed() -> None:
    assert all((CHECKOUT / package / "py.typed").exists() for package in PACKAGES)
