"""Caches shared by processes and threads: computed once, never read in part, never in anybody's way."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion_env.cache import load_or_compute
from fusion_env.config import DistillConfig, preset
from fusion_env.env import FusionDistillEnv
from fusion_env.task import build_task
from tests.processes import killed_after
from tests.unfinished_files import unfinished

CHECKOUT = Path(__file__).resolve().parents[2]

# Workers are fresh interpreters, as with the start method "spawn".
_HOLD = """
import sys, time
from pathlib import Path
from fusion_env.cache import load_or_compute

def hold():
    print("holding", flush=True)
    time.sleep(60)

load_or_compute(Path(sys.argv[1]), hold)
"""
_BUILD = """
import sys
from fusion_env.config import preset
from fusion_env.task import build_task

def progress(items, title):
    print(title)
    return items

print("ready", flush=True)
input()
task = build_task(preset("tiny", threads=1, cache_dir=sys.argv[1]), progress)
print(sum(float(tensor.double().sum()) for tensor in task.stage0.values()), float(task.bank.target.double().sum()))
"""


def _start(script: str, path: Path, first_line: str) -> subprocess.Popen[str]:
    """Start a worker and wait for the first line that it prints."""
    pipe = subprocess.PIPE
    worker = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], cwd=CHECKOUT, stdin=pipe, stdout=pipe, text=True
    )
    assert worker.stdout is not None
    with killed_after(120, worker):
        assert worker.stdout.readline() == f"{first_line}\n"
    return worker


def _numbers() -> dict[str, torch.Tensor]:
    return {"a": torch.arange(1000.0), "b": torch.ones(2, dtype=torch.uint8)}


def _is_right(tensors: dict[str, torch.Tensor]) -> bool:
    return tensors.keys() == {"a", "b"} and all(torch.equal(tensors[name], _numbers()[name]) for name in "ab")


class Counter:
    """Computes `_numbers`, slowly enough for others to come in between."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.calls += 1
        time.sleep(0.1)
        return _numbers()


@pytest.mark.slow
def test_two_processes_that_build_one_task_compute_it_once(tmp_path: Path) -> None:
    worker = _start(_BUILD, tmp_path, "ready")
    titles: list[str] = []

    def progress(items: Iterable[int], title: str) -> Iterable[int]:
        titles.append(title)
        return items

    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    task = build_task(preset("tiny", threads=1, cache_dir=str(tmp_path)), progress)
    *worker_titles, numbers = worker.communicate(timeout=60)[0].splitlines()
    assert worker.returncode == 0
    student = sum(float(tensor.double().sum()) for tensor in task.stage0.values())
    assert numbers == f"{student} {float(task.bank.target.double().sum())}"
    # Training crops, scored crops, student; scores are not kept.
    computed = [title for title in titles + worker_titles if not title.startswith("scores of")]
    assert sorted(computed) == ["stage 0", "teacher laplacian", "teacher laplacian"]
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert len(left) == 4  # the three, and the note that the source is intact
    assert all(name.endswith(".safetensors") for name in left)


@pytest.mark.slow
def test_a_killed_holder_is_in_nobodys_way(tmp_path: Path) -> None:
    worker = _start(_HOLD, tmp_path / "x.safetensors", "holding")
    path, compute, results = tmp_path / "x.safetensors", Counter(), []
    waiting = threading.Thread(target=lambda: results.append(load_or_compute(path, compute)), daemon=True)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    assert compute.calls == 0
    with unfinished(path):  # by an earlier holder that was killed
        worker.send_signal(signal.SIGKILL)
        worker.communicate(timeout=60)
        waiting.join(20)
        assert {entry.name for entry in tmp_path.iterdir()} == {path.name}
    assert _is_right(results[0])
    assert compute.calls == 1


def test_threads_compute_once(tmp_path: Path) -> None:
    compute = Counter()
    with ThreadPoolExecutor(5) as pool:
        results = list(pool.map(lambda _: load_or_compute(tmp_path / "x.safetensors", compute), range(5)))
    assert compute.calls == 1
    assert all(_is_right(result) for result in results)


def test_a_failed_computation_lets_the_next_one_try(tmp_path: Path) -> None:
    def fail() -> dict[str, torch.Tensor]:
        raise RuntimeError("no teacher today")

    with pytest.raises(RuntimeError, match="no teacher today"):
        load_or_compute(tmp_path / "x.safetensors", fail)
    assert not list(tmp_path.iterdir())
    assert _is_right(load_or_compute(tmp_path / "x.safetensors", _numbers))


def test_a_folder_that_is_deleted_all_the_time_harms_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "deep"
    deadline = time.monotonic() + 1

    def use() -> list[bool]:
        results = []
        while time.monotonic() < deadline:
            results.append(_is_right(load_or_compute(folder / "x.safetensors", _numbers)))
        return results

    with ThreadPoolExecutor(3) as pool:
        users = [pool.submit(use) for _ in range(3)]
        while time.monotonic() < deadline:
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
            time.sleep(0.002)
    for user in users:
        assert len(user.result()) > 5
        assert all(user.result())


@pytest.mark.slow
def test_a_run_goes_on_without_its_cache(
    tiny_config: Callable[..., DistillConfig], tiny_cache: Path, tmp_path: Path
) -> None:
    action = [0.5, 0.0, -0.5, -0.5, -0.5, -0.5, -0.5]

    def scores(env: FusionDistillEnv) -> list[float]:
        rewards = [env.step(action)[1] for _ in range(2)]
        env.reset(seed=2)
        assert env.last_run is not None
        return [*rewards, env.step(action)[1], *env.last_run.report.values()]

    expected = FusionDistillEnv(config=tiny_config(rounds=2))
    expected.reset(seed=1)
    folder = tmp_path / "cache"
    shutil.copytree(tiny_cache, folder)
    env = FusionDistillEnv(config=tiny_config(rounds=2, cache_dir=str(folder)))
    env.reset(seed=1)
    shutil.rmtree(folder)
    assert scores(env) == scores(expected)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user whose access rights count; root may write everywhere."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
            for path in (Path(folder), *Path(folder).rglob("*")):
                path.chmod(0o700)
    finally:
        if is_root:
            os.seteuid(0)


def test_a_read_only_folder_is_read_and_otherwise_done_without(
    unprivileged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_or_compute(unprivileged / "old.safetensors", _numbers)
    unprivileged.chmod(0o500)
    compute = Counter()
    assert _is_right(load_or_compute(unprivileged / "old.safetensors", compute))
    assert compute.calls == 0
    assert not caplog.records
    for path in (unprivileged / "new.safetensors", unprivileged / "folder" / "new.safetensors"):
        caplog.clear()
        assert _is_right(load_or_compute(path, compute))
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(warnings) == 1
        assert f"cache file {path} cannot be written (Permission denied)" in warnings[0]
        assert "cache_dir" in warnings[0]
    assert compute.calls == 2


def test_an_unreadable_file_is_replaced(unprivileged: Path) -> None:
    path = unprivileged / "x.safetensors"
    load_or_compute(path, _numbers)
    path.chmod(0)
    compute = Counter()
    for _ in range(2):
        assert _is_right(load_or_compute(path, compute))
    assert compute.calls == 1


def test_a_full_disk_costs_the_cache_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    compute = Counter()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        assert _is_right(load_or_compute(tmp_path / "x.safetensors", compute))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "x.safetensors cannot be written (File too large); the result is used" in caplog.text
    assert not list(tmp_path.iterdir())
    load_or_compute(tmp_path / "x.safetensors", compute)
    load_or_compute(tmp_path / "x.safetensors", compute)
    assert compute.calls == 2


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=3), st.floats(0, 1))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_are_never_trusted(tmp_path: Path, flips: list[tuple[float, int]], kept: float) -> None:
    path = tmp_path / "x.safetensors"
    path.unlink(missing_ok=True)
    load_or_compute(path, _numbers)
    data = bytearray(path.read_bytes())
    for place, mask in flips:
        data[int(place**3 * len(data))] ^= mask  # most of them in the header
    path.write_bytes(data[: int(kept * len(data)) + 1])
    assert _is_right(load_or_compute(path, _numbers))


@pytest.mark.parametrize(("old", "new"), [(b'"F32"', b'"I32"'), (b"[1000]", b"[9999]"), (b'"a":', b'"c":')])
def test_a_changed_header_is_not_trusted(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "x.safetensors"
    load_or_compute(path, _numbers)
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    assert _is_right(load_or_compute(path, _numbers))


def test_a_renamed_file_is_not_trusted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_or_compute(tmp_path / "old.safetensors", lambda: {"a": torch.zeros(3)})
    (tmp_path / "old.safetensors").rename(tmp_path / "new.safetensors")
    assert _is_right(load_or_compute(tmp_path / "new.safetensors", _numbers))
    assert "was written as 'old'; computing it again" in caplog.text


def test_what_was_read_no_longer_hangs_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    load_or_compute(path, _numbers)
    tensors = load_or_compute(path, _numbers)
    with path.open("r+b") as file:  # in place, as an editor or `cp` would
        file.write(b"\xff" * path.stat().st_size)
    assert _is_right(tensors)


def test_every_kind_of_tensor_is_kept(tmp_path: Path) -> None:
    kinds = {
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(7),
        "flag": torch.tensor([True, False]),
        "brain": torch.ones(3, dtype=torch.bfloat16),
        "turned": torch.arange(6.0).view(2, 3).t(),
    }
    for _ in range(2):
        stored = load_or_compute(tmp_path / "x.safetensors", lambda: kinds)
        assert all(torch.equal(stored[name], kinds[name]) and stored[name].dtype == kinds[name].dtype for name in kinds)
