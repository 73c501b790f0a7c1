"""Run many runs: one after the other, in worker processes, or on a Ray cluster.

All executors do the same: every job ends in its own directory, `run` is idempotent, so whatever is finished is read and
whatever was cut off goes on. That is why a sweep can be stopped anywhere and started again, with any executor.
"""

import logging
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from experiments.processes import end_with_parent, keep_progress_bars_apart, stop_pool
from experiments.running.config import RunConfig
from experiments.running.interruption import Interrupted
from fusion_env.errors import ConfigError, FusionEnvError, MissingRequirementsError, unknown_name

__all__ = ["EXECUTORS", "Job", "Resources", "map_runs"]

_logger = logging.getLogger(__name__)

# A run whose worker died this often, with nothing else finishing in between, is probably what kills it.
_ATTEMPTS = 4
# Seconds without a result after which the nodes of a Ray cluster are counted again.
_NODE_CHECK_S = 30
_CONNECT_S = 10


@dataclass(frozen=True)
class Job:
    """One run and its directory."""

    config: RunConfig
    run_dir: Path


Finished = Iterator[tuple[Job, dict[str, Any]]]
"""Jobs in the order in which they end, each with the content of its ``summary.json``."""


@dataclass(frozen=True)
class Resources:
    """What the executors `pool` and `ray` may use; `inline` uses this process only.

    Attributes:
        workers: Processes of `pool`, 1 or more.
        gpus: CUDA devices of this machine for `pool`, each by as many workers as come out when they take turns; empty
            leaves the choice to each run's setting `device`.
        gpu_share: Share of a GPU that one run of `ray` takes, such as 0.25, or a whole number; 0 for the CPU.
        address: Ray cluster to use, whose nodes see the directories of this machine under the same names; None starts
            one on this machine for the duration. Its nodes must be there: none is waited for.
    """

    workers: int = 1
    gpus: tuple[int, ...] = ()
    gpu_share: float = 0.0
    address: str | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers must be at least 1. Got {self.workers}")
        if not (0 <= self.gpu_share <= 1 or (self.gpu_share > 1 and self.gpu_share % 1 == 0)):
            raise ConfigError(f"gpu_share must be between 0 and 1, or a whole number. Got {self.gpu_share}")


def map_runs(jobs: Sequence[Job], executor: str = "inline", resources: Resources | None = None) -> Finished:
    """Run all jobs and yield each as it ends.

    Runs that are finished already are not repeated. A run whose agent broke is a result, too, and counts as diverged.
    A job whose worker dies is started again and goes on from its last checkpoint.

    Args:
        jobs: What to run; no two may have the same directory.
        executor: ``"inline"``, ``"pool"`` or ``"ray"``.
        resources: What to use; by default one worker.

    Raises:
        UnknownNameError: There is no such executor.
        ConfigError: Two jobs share a directory.
        FusionEnvError: A run failed, or its worker died again and again; the message names its directory. Jobs that
            ended before are on disk.
    """
    if executor not in EXECUTORS:
        raise unknown_name("executor", executor, EXECUTORS)
    folders = [job.run_dir.resolve() for job in jobs]
    if len(set(folders)) != len(folders):
        raise ConfigError("two runs have the same directory: give each run_dir once")
    return EXECUTORS[executor](jobs, resources or Resources())


def _execute(job: Job) -> dict[str, Any]:
    # Imported here: a worker sets up its devices first, and reading this module stays cheap.
    from experiments.running.run import AgentDivergedError, run

    try:
        return run(job.config, job.run_dir)
    except AgentDivergedError as error:
        return error.summary
    except FusionEnvError as error:
        raise FusionEnvError(f"run {job.run_dir}: {error}") from error


def _inline(jobs: Sequence[Job], resources: Resources) -> Finished:
    for job in jobs:
        yield job, _execute(job)


def _pool(jobs: Sequence[Job], resources: Resources) -> Finished:
    missing, attempts = list(jobs), 0
    while missing:
        try:
            for job, summary in _pool_once(missing, resources):
                missing.remove(job)
                attempts = 0
                yield job, summary
        except BrokenProcessPool as error:
            attempts += 1
            if attempts == _ATTEMPTS:
                raise FusionEnvError(
                    f"a worker process died {_ATTEMPTS} times running, perhaps for want of memory: use fewer workers. "
                    f"{len(missing)} runs are missing, the first is {missing[0].run_dir}"
                ) from error
            _logger.warning("a worker process died; starting %d runs again", len(missing))


def _pool_once(jobs: Sequence[Job], resources: Resources) -> Finished:
    context = multiprocessing.get_context("spawn")
    slots: Queue[int | None] = context.Queue()
    for index in range(resources.workers):
        slots.put(resources.gpus[index % len(resources.gpus)] if resources.gpus else None)
    pool = ProcessPoolExecutor(resources.workers, context, initializer=_start_worker, initargs=(slots,))
    try:
        futures: dict[Future, Job] = {pool.submit(_work, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        stop_pool(pool)


def _work(job: Job) -> dict[str, Any]:
    try:
        return _execute(job)
    except Interrupted:
        os._exit(1)  # otherwise the worker would take the next job from its queue


def _start_worker(slots: "Queue[int | None]") -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the driver then stops its workers
    end_with_parent()  # before it waits for its slot, which nobody may be left to give
    keep_progress_bars_apart()
    gpu = slots.get()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)


def _ray(jobs: Sequence[Job], resources: Resources) -> Finished:
    try:
        import ray
    except ImportError as error:
        raise MissingRequirementsError(
            "executor 'ray' needs Ray; in the folder of fusion-env: pip install -e '.[cluster]'"
        ) from error
    started = not ray.is_initialized()
    if started:
        _connect(ray, resources.address)
    try:
        yield from _ray_tasks(ray, jobs, resources)
    finally:
        if started:
            ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    try:
        host, _, port = (address or "").removeprefix("ray://").rpartition(":")
        if port.isdigit():
            # Ray itself tries for many minutes where nobody answers.
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        # Without an address Ray would take a cluster that it finds on this machine.
        ray.init(address=address or "local", log_to_driver=False, include_dashboard=False, configure_logging=False)
    except OSError as error:
        raise ConfigError(f"there is no Ray cluster at address {address!r}: {error}") from error


def _ray_tasks(ray: Any, jobs: Sequence[Job], resources: Resources) -> Finished:
    def submit(job: Job) -> Any:
        # Ray's own retries would need the same task; ours is the same run, going on from its checkpoint.
        remote = ray.remote(num_cpus=_cpus(job), num_gpus=resources.gpu_share, max_retries=0)(_work_in)
        return remote.remote(os.getcwd(), job)

    _refuse_what_fits_no_node(ray, jobs, resources)
    lost = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError)
    waiting = {submit(job): job for job in jobs}
    attempts = dict.fromkeys((job.run_dir for job in jobs), 1)
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=1, timeout=_NODE_CHECK_S)
        if not done:
            _refuse_what_fits_no_node(ray, list(waiting.values()), resources)
            continue
        job = waiting.pop(done[0])
        try:
            summary = ray.get(done[0])
        except lost as error:
            if attempts[job.run_dir] == _ATTEMPTS:
                raise FusionEnvError(f"run {job.run_dir}: its worker died {_ATTEMPTS} times ({error})") from error
            attempts[job.run_dir] += 1
            _logger.warning("the worker of %s died; starting the run again", job.run_dir)
            waiting[submit(job)] = job
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        else:
            yield job, summary


def _cpus(job: Job) -> int:
    return job.config.env.threads or 1


def _refuse_what_fits_no_node(ray: Any, jobs: Sequence[Job], resources: Resources) -> None:
    """Ray would wait for ever for a node that is large enough."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for job in jobs:
        cpus, gpus = _cpus(job), resources.gpu_share
        if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
            present = "; ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
            raise ConfigError(
                f"run {job.run_dir} wants {cpus} CPUs (threads) and {gpus:g} GPUs (gpu_share) on one node, and no node "
                f"of the Ray cluster has them: {present or 'there is none'}. Lower threads or gpu_share, or add a node"
            )


def _work_in(folder: str, job: Job) -> dict[str, Any]:
    """Work where the driver stands, as relative paths of a job mean it; Ray's workers stand where Ray was started."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise ConfigError(
            f"run {job.run_dir}: a node of the Ray cluster has no directory {folder}: the nodes must share the file "
            "system of the machine that starts the runs"
        ) from error
    return _work(job)


EXECUTORS: dict[str, Callable[[Sequence[Job], Resources], Finished]] = {"inline": _inline, "pool": _pool, "ray": _ray}
"""The executors by name."""
