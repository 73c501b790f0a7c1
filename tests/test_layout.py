"""Imports point one way: between the packages, between the rooms of each, and inside every folder."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent

PACKAGES = {
    "student": {"student"},
    "fusion_env": {"student", "fusion_env"},
    "agents": {"agents"},
    "experiments": {"student", "fusion_env", "agents", "experiments"},
}
"""What each package may import."""

FLOORS = {
    "student": (
        "console",
        "errors",
        "large_pages",
        "numerics",
        "files",
        "sixteen_bit",
        "images",
        "listing",
        "layout",
        "exposure",
        "network",
        "on_cpu",
        "weights",
        "embedded",
        "pruning",
        "hub",
        "origin",
        "fuse",
        "export",
        "command_line",
    ),
    "fusion_env": (
        *("version", "errors", "registry", "fingerprint", "filters", "siblings", "threads", "packaged"),
        *("data", "perception", "metrics", "teachers"),
        *("settings", "config", "tasks", "identity", "cache", "jpeg", "degradation", "action", "losses", "updates"),
        *("stored_images", "places", "crop_bank", "snapshot", "whole_images", "target_features"),
        *(
            "captured",
            "compiled",
            "round_tensors",
            "distillation",
            "scoring",
            "captured_scoring",
            "observation",
            "report",
            "stage0",
            "task",
        ),
        *("run", "info", "render", "env", "workers", "sb3_vec_env", "vector_env", "surrogate"),
    ),
    "experiments": (
        *("processes", "command_line", "output"),
        *("evaluation", "running", "reporting", "benchmarking"),
        *("studies", "measurements", "weights", "single_file", "paper"),
        *("reproduce", "table1", "detection", "ablation"),
        *(
            "run_agent",
            "run_reinforce",
            "benchmark",
            "leaderboard",
            "evaluate",
            "compare",
            "replay",
            "transfer",
            "report",
            "export_minari",
        ),
        # Old places of scripts, for one version: each says where its script went, and runs it.
        *("action_signal", "benchmark_metrics", "benchmark_rounds", "efficiency", "kill_and_resume", "metric_accuracy"),
        *("robustness", "soak", "stage0_curves", "train_features", "train_quality", "train_student"),
        "train_teacher",
    ),
}
"""Modules and folders from the ground up: each may import what stands before it. A new one finds its place here."""

FOLDERS = sorted(path.parent for package in PACKAGES for path in (CHECKOUT / package).rglob("__init__.py"))


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield every module that a file imports, and every name it takes from one, which may be a module too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from ((*(node.module or "").split("."), alias.name) for alias in node.names)


def children(folder: Path) -> dict[str, list[Path]]:
    """Map each module and subfolder of a folder to its files."""
    files = {path.stem: [path] for path in folder.glob("*.py")}
    return files | {path.parent.name: sorted(path.parent.rglob("*.py")) for path in folder.glob("*/__init__.py")}


def arrows(folder: Path) -> dict[str, set[str]]:
    """Map each module and subfolder of a folder to those others of them that it imports."""
    rooms, here = children(folder), folder.relative_to(CHECKOUT).parts
    graph: dict[str, set[str]] = {}
    for room, files in rooms.items():
        inside = [parts[len(here) :] for path in files for parts in imported(path) if parts[: len(here)] == here]
        # What is no module is a name of the folder itself.
        graph[room] = {names[0] if names and names[0] in rooms else "__init__" for names in inside} - {room}
    return graph


@pytest.mark.parametrize("package", PACKAGES)
def test_packages(package: str) -> None:
    for path in (CHECKOUT / package).rglob("*.py"):
        used = {parts[0] for parts in imported(path)} & PACKAGES.keys()
        assert used <= PACKAGES[package], f"{path} imports {used - PACKAGES[package]}"


@pytest.mark.parametrize("package", FLOORS)
def test_rooms(package: str) -> None:
    order, graph = FLOORS[package], arrows(CHECKOUT / package)
    assert set(order) == graph.keys() - {"__init__", "__main__"}
    upward = [(room, used) for number, room in enumerate(order) for used in graph[room] & set(order[number:])]
    assert not upward, f"{package}: imports that point upward: {upward}"


def test_few_arrows_between_the_wings_of_experiments() -> None:
    folder = CHECKOUT / "experiments"
    wings = {path.parent.name for path in folder.glob("*/__init__.py")}
    between = {
        (path, parts[1:3])
        for wing in wings - {"paper"}  # its tables and figures are made of what the other wings have
        for path in (folder / wing).rglob("*.py")
        for parts in imported(path)
        if parts[0] == "experiments" and len(parts) > 2 and parts[1] in wings - {wing}
    }
    assert len(between) <= 25


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_no_circles(folder: Path) -> None:
    tuple(TopologicalSorter(arrows(folder)).static_order())  # raises CycleError with the circle


def test_packages_are_typed() -> None:
    assert all((CHECKOUT / package / "py.typed").exists() for package in PACKAGES)
