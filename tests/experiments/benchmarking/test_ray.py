"""The executor `ray` beyond equal numbers: clusters that are there already, workers that die, runs that fit no node."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from experiments.benchmarking.executors import Job, Resources, map_runs
from experiments.running.config import RunConfig
from experiments.running.directory import RunDirectory
from fusion_env.config import preset
from fusion_env.errors import ConfigError, FusionEnvError
from tests.experiments.processes import wait_until
from tests.processes import killed_after

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray")
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    """A cluster of one node with two CPUs, started from another directory."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # its token lies in the home directory, which the tests replace
    start = [*RAY, "start", "--head", "--port=0", "--num-cpus=2", "--num-gpus=0", "--include-dashboard=false"]
    # The cluster's processes end with the one that holds them; nobody else's cluster is touched.
    head = subprocess.Popen(
        [*start, "--block"], cwd=elsewhere, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    address = None
    with killed_after(120, head):
        for line in head.stdout:
            if "--address=" in line:
                address = line.split("--address=")[1].strip().strip("'\"")
                break
    assert address is not None, "Ray did not start"
    yield address
    head.terminate()
    head.communicate(timeout=60)
    monkeypatch.undo()


def job(run_dir: Path, cache: str, agent: str = "constant", rounds: int = 3, **env) -> Job:
    config = preset("tiny", cache_dir=cache, rounds=rounds, **{"threads": 1, **env})
    return Job(RunConfig(env=config, preset="tiny", agent=agent, details=False), run_dir)


def test_relative_paths_are_those_of_the_driver(cluster, cache, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "import numpy as np\n"
        "from fusion_env.action import ACTION_SIZE\n"
        "class Zero:\n"
        "    def predict(self, observation, state=None, episode_start=None, deterministic=False):\n"
        "        return np.zeros((len(observation), ACTION_SIZE)), None\n"
    )
    ((_, summary),) = map_runs([job(Path("out"), cache, "mine.py:Zero")], "ray", Resources(address=cluster))
    assert summary["learning_rounds"] == 3
    assert RunDirectory(tmp_path / "out").is_finished


def test_a_run_that_fits_no_node_is_an_error(cluster, cache, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"0\.5 GPUs .*2 CPUs and 0 GPUs"):
        list(map_runs([job(tmp_path, cache)], "ray", Resources(address=cluster, gpu_share=0.5)))
    with pytest.raises(ConfigError, match=r"wants 3 CPUs"):
        list(map_runs([job(tmp_path, cache, threads=3)], "ray", Resources(address=cluster)))
    assert not any(tmp_path.iterdir())


def test_a_failing_run_reads_as_it_does_here(cluster, cache, tmp_path) -> None:
    with pytest.raises(FusionEnvError, match="^run .*nosuch") as caught:
        list(map_runs([job(tmp_path, cache, "nosuch")], "ray", Resources(address=cluster)))
    assert "Traceback" not in str(caught.value)


def end_worker(run_dir: Path, how: int) -> int:
    """End the worker once it has left a checkpoint; it is the one that stands in this directory."""
    wait_until(RunDirectory(run_dir).checkpoints)
    ended = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = os.readlink(process / "cwd") == os.getcwd()
            if ours and (process / "cmdline").read_bytes().startswith(b"ray::_work_in"):
                os.kill(int(process.name), how)
                ended += 1
        except OSError:
            continue
    return ended


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers through /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_ended_is_replaced(cluster, cache, tmp_path, how, caplog, monkeypatch) -> None:
    whole = job(tmp_path / "whole", cache, "reinforce", rounds=40)
    cut = job(tmp_path / "cut", cache, "reinforce", rounds=40)
    list(map_runs([whole], "inline"))
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(1) as beside:
        ended = beside.submit(end_worker, cut.run_dir, how)
        list(map_runs([cut], "ray", Resources(address=cluster)))
    assert ended.result() == 1
    assert "died; starting the run again" in caplog.text
    assert RunDirectory(cut.run_dir).rounds.read() == RunDirectory(whole.run_dir).rounds.read()


def test_no_cluster_at_the_address(cache, tmp_path) -> None:
    with pytest.raises(ConfigError, match="no Ray cluster at address"):
        list(map_runs([job(tmp_path, cache)], "ray", Resources(address="127.0.0.1:1")))


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), float("inf")])
def test_shares_that_ray_cannot_give(share) -> None:
    with pytest.raises(ConfigError, match="gpu_share must be between"):
        Resources(gpu_share=share)
