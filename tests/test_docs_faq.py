"""docs/guide/faq.md quotes messages as they are: each is provoked here. `...` in a message stands for anything."""

import functools
import logging
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import registry
from PIL import Image

import agents
import student
from experiments.running import directory
from experiments.running.config import RunConfig
from experiments.running.divergence import warn_of_divergence
from experiments.running.learn import _Recorder
from experiments.running.run import AgentDivergedError
from fusion_env import captured, preset, threads
from fusion_env.env import FusionDistillEnv
from fusion_env.siblings import check_sibling
from fusion_env.task import build_task
from fusion_env.teachers import from_callable

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "guide" / "faq.md").read_text()
MESSAGES = dict(re.findall(r"^### ([^\n]+)\n\n```text\n(.*?)\n```$", PAGE, re.M | re.S))
PROVOKED: dict[str, Callable[[Path, pytest.MonkeyPatch], object]] = {}


def provokes(title: str) -> Callable:
    return functools.partial(PROVOKED.setdefault, title)


@functools.cache
def tiny() -> FusionDistillEnv:
    return FusionDistillEnv("tiny", threads=1)


def write_pairs(
    root: Path, ir: tuple[int, ...] = (64, 64), vis: tuple[int, ...] = (64, 64), highest: int = 255
) -> None:
    kind = np.uint8 if highest < 256 else np.uint16
    for side, size in (("ir", ir), ("vi", vis)):
        (root / side).mkdir(parents=True)
        levels = np.linspace(0, highest, size[0] * size[1]).reshape(size).astype(kind)
        for number in range(3):
            Image.fromarray(levels).save(root / side / f"{number:05d}.png")


@provokes("Another package is in the way")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "student.py").touch()
    monkeypatch.delitem(sys.modules, "student")
    monkeypatch.syspath_prepend(folder)
    check_sibling("student", "network")


@provokes("The environment is not registered")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in registry if name.startswith("fusion_env/")]:
        monkeypatch.delitem(registry, name)
    gymnasium.make("fusion_env/FusionDistill-v0")


@provokes("A setting is misspelt")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset("demo", learning_rat=1e-3)


@provokes("Data or weights are missing")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    build_task(preset("paper"))


@provokes("The folder has another layout")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pairs" / "thermal").mkdir(parents=True)
    build_task(preset("demo", data=str(folder / "pairs")))


@provokes("Sizes do not match")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(folder / "pairs", ir=(64, 80))
    build_task(preset("demo", data=str(folder / "pairs")))


@provokes("A 16-bit image is too dark")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(folder / "pairs", ir=(192, 192), vis=(192, 192), highest=4000)
    build_task(preset("demo", data=str(folder / "pairs"), cache_dir=str(folder)))


@provokes("A crop is larger than a scene")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_task(preset("demo", crop_size=224))


@provokes("Fused images are missing")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(folder / "pairs")
    (folder / "fused").mkdir()
    Image.new("L", (64, 64)).save(folder / "fused" / "00000.png")
    config = {"data": str(folder / "pairs"), "teacher": "folder", "teacher_weights": str(folder / "fused")}
    build_task(preset("tiny", cache_dir=str(folder), **config))


@provokes("A teacher of your own returns something else")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FusionDistillEnv("tiny", teacher=from_callable(lambda ir, vis: vis, name="mine", fingerprint="1"), threads=1)


@provokes("Weights are refused")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"network": folder}, folder / "model.pth")
    student.load_student(folder / "model.pth")


@provokes("More steps in a rollout than in the run")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agents.make("ppo", tiny(), n_steps=2048).learn(25)


@provokes("Few updates")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agents.check_budget(agents.make("ppo", tiny(), n_steps=10, n_epochs=1, batch_size=10), 20)


@provokes("The agent diverged")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(preset("demo"), agent="ppo")
    state = SimpleNamespace(_config=config, _saved=0, rounds=12, model=SimpleNamespace(learning_rate=10.0))
    raise AgentDivergedError({"agent_diverged": _Recorder.problem(state)})  # type: ignore[arg-type]


@provokes("The student diverged")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warn_of_divergence(0, {"diverged": True, "round": 3}, preset("demo", learning_rate=10.0))


@provokes("An action is not finite")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny().reset(seed=0)
    tiny().step([np.nan] * 7)


@provokes("A step after the end")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FusionDistillEnv.from_task(tiny().task).step([0.0] * 7)


@provokes("A snapshot does not fit")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny().reset(seed=0)
    tiny().load_state_dict({**tiny().state_dict(), "version": 2})


@provokes("A snapshot of other settings")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny().reset(seed=0)
    FusionDistillEnv("tiny", threads=1, rounds=5).load_state_dict(tiny().state_dict())


@provokes("The output folder holds something else")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = directory.RunDirectory(folder)
    run.begin(RunConfig(preset("tiny")), {})
    run.begin(RunConfig(preset("tiny"), seed=1), {})


@provokes("Another process is running")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_LOCK_TIMEOUT_S", 0)
    with directory.RunDirectory(folder).sole_writer(), directory.RunDirectory(folder).sole_writer():
        pass


@provokes("The cache folder is a file")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cache").touch()
    FusionDistillEnv("tiny", threads=1, cache_dir=str(folder / "cache"))


@provokes("There is no such GPU")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    build_task(preset("tiny", device="cuda"))


@provokes("A round cannot be captured")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", fail)
    captured._CudaGraph.capture(SimpleNamespace(_graph=None, _pool=None, _stream=None), fail)  # type: ignore[arg-type]


@provokes("CUDA in a forked process")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    torch.cuda._lazy_init()


@provokes("Threads in a forked process")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads._Pool, "lost", True)
    threads.set_threads(4)


def told(
    provoke: Callable, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> list[str]:
    """Return what a user reads, kind first: the error, warnings, and lines of the log."""
    texts = []
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.WARNING):
        warnings.simplefilter("always")
        try:
            provoke(folder, monkeypatch)
        except Exception as error:
            texts.append(f"{type(error).__name__}: {error}")
    texts += [f"{warning.category.__name__}: {warning.message}" for warning in caught]
    return texts + [f"{record.levelname}: {record.getMessage()}" for record in caplog.records]


def test_every_message_is_provoked() -> None:
    assert MESSAGES.keys() == PROVOKED.keys()


@pytest.mark.parametrize("title", PROVOKED)
def test_message(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    texts = told(PROVOKED[title], tmp_path, monkeypatch, caplog)
    wanted = ".*".join(re.escape(" ".join(part.split())) for part in MESSAGES[title].split("..."))
    assert any(re.fullmatch(wanted, " ".join(text.split())) for text in texts), "\n".join(texts)
