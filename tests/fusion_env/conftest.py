"""Fixtures of the environment's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fusion_env.config import DistillConfig, preset
from fusion_env.env import FusionDistillEnv


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache folder for the whole session, so that banks and stage-0 students are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny_config(tiny_cache: Path) -> Callable[..., DistillConfig]:
    """Makes the tiny preset with overrides and a cache of its own."""
    return lambda **overrides: preset("tiny", **{"cache_dir": str(tiny_cache), **overrides})


@pytest.fixture
def tiny_env(tiny_config: Callable[..., DistillConfig]) -> Callable[..., FusionDistillEnv]:
    """Makes a tiny environment with overrides."""
    return lambda **overrides: FusionDistillEnv(config=tiny_config(**overrides))
