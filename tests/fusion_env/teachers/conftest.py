"""Checkpoints in the official layout, made when a test asks for them."""

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from fusion_env.teachers import registry


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "TEACHERS", copy.deepcopy(registry.TEACHERS))


@pytest.fixture(scope="session")
def official_files(reference_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the folder with a network's official files, filled with the weights of its golden case."""
    source = reference_dir / "reference/teachers/make_checkpoint.py"
    spec = importlib.util.spec_from_file_location("make_checkpoint", source)
    make_checkpoint = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_checkpoint)
    folders: dict[str, Path] = {}

    def folder_of(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            make_checkpoint.write(name, 1000, folders[name])
        return folders[name]

    return folder_of
