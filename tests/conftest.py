"""Fixtures shared by all tests."""

import faulthandler
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.processes import keep_progress_bars_apart
from student.large_pages import VARIABLE

CHECKOUT = Path(__file__).resolve().parent.parent
_STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep stderr as it is before what tests write is captured."""
    config.stash[_STDERR] = os.dup(2)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Limit the end of a test as setup.cfg says: where the test failed, pytest has lifted its limit for debuggers."""
    limit_s = float(item.config.getini("faulthandler_timeout"))
    if limit_s:
        faulthandler.dump_traceback_later(limit_s, file=item.config.stash[_STDERR], exit=True)


@pytest.fixture(scope="session", autouse=True)
def _progress_bars_apart() -> None:
    keep_progress_bars_apart()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # small tensors; and several test processes may share few cores


@pytest.fixture(scope="session", autouse=True)
def _float32_is_float32() -> None:
    # PyTorch's default on CUDA, TF32, keeps ten bits: too few for the tolerances here.
    torch.backends.cudnn.allow_tf32 = False


def _seed() -> None:
    # Networks are often drawn without a seed of their own; a test may not depend on which ones ran before it.
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="module", autouse=True)
def _module_is_seeded() -> None:
    _seed()


@pytest.fixture(autouse=True)
def _test_is_seeded(_module_is_seeded: None) -> None:
    _seed()


@pytest.fixture(autouse=True)
def _no_command_decides_for_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")  # what is set stays


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Folder with ground truth and real image pairs; tests that need it are skipped without it."""
    folder = Path(os.environ.get("FUSION_ENV_REFERENCE", CHECKOUT.parent / "shared"))
    if not (folder / "reference").is_dir():
        pytest.skip(f"no reference data in {folder}: set FUSION_ENV_REFERENCE")
    return folder


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Every device of this machine."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return request.param
