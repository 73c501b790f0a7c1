"""Fixtures of the tests with other libraries."""

from collections.abc import Callable
from functools import partial

import gymnasium
import pytest

from tests.clients.plain_loop import ID, ROUNDS


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """A short run with one thread, which is what forked processes have."""
    return {"rounds": ROUNDS, "threads": 1, "cache_dir": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="session")
def make(settings: dict[str, object]) -> Callable[[], gymnasium.Env]:
    """Makes an environment, here or in another process."""
    return partial(gymnasium.make, ID, **settings)
