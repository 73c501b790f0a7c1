"""Threads that train several students at a time, and the place of one student among them."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, cast

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from fusion_env.env import FusionDistillEnv
from fusion_env.task import DistillationTask
from student.numerics import own_numerics

__all__ = ["Member", "Workers", "check_counts", "make_members", "one_thread_each", "steps_begun"]

_logger = logging.getLogger(__name__)


class Workers:
    """Threads for the students of one vector environment; they start when they are needed.

    Each student computes with as many threads of PyTorch as it would in the calling thread, so that its results are
    the same. A forked process, to which threads do not come along, starts its own.

    Args:
        count: Students that are trained at a time; 1 for in turn, in the calling thread.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    @classmethod
    def for_cores(cls, students: int, device: torch.device) -> "Workers":
        """Return as many as the cores of this process have room for.

        On a CPU each takes PyTorch's number of threads, on CUDA one, which asks the device for its work.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = torch.get_num_threads() if device.type == "cpu" else 1
        count = max(1, min(students, cores // threads))
        if count < min(students, cores):  # so it is on a CPU only
            _logger.info(
                "%d of %d students are trained at a time, each with %d of %d threads: the setting threads=1 makes it "
                "more, and the whole faster",
                *(count, students, threads, cores),
            )
        return cls(count)

    def submit(self, work: Callable[[], Any]) -> "Future[Any]":
        """Let one of the threads do something."""
        if self._pool is None or self._process != os.getpid():
            self._pool, self._process = ThreadPoolExecutor(self.count, "student"), os.getpid()
        return self._pool.submit(_with_threads, torch.get_num_threads(), work)

    def close(self) -> None:
        """Wait for the threads, and end them."""
        if self._pool is not None and self._process == os.getpid():
            self._pool.shutdown()
        self._pool = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy the number; each copy starts threads of its own."""
        return Workers, (self.count,)


def _with_threads(count: int, work: Callable[[], Any]) -> Any:
    if torch.get_num_threads() != count:  # each thread has a number of its own
        torch.set_num_threads(count)
    return work()


class Member(gymnasium.Wrapper):
    """One environment of several, whose next step the workers can begin before it is asked for.

    Vector environments ask their members one after the other. `steps_begun` lets the workers take the steps of all
    members at once; `step` and `reset` then return what came of it. Where nothing was begun they do it themselves.

    Args:
        env: The environment.
        index: Its number, for error messages.
        workers: Shared by all members.
    """

    def __init__(self, env: gymnasium.Env, index: int, workers: Workers) -> None:
        super().__init__(env)
        self._index, self._workers = index, workers
        self._begun: Future[deque[Any]] | None = None
        self._stream: torch.cuda.Stream | None = None

    @property
    def unwrapped(self) -> FusionDistillEnv:
        """The environment without its wrappers."""
        return cast(FusionDistillEnv, self.env.unwrapped)

    def itself(self) -> "Member":
        """Return the member: vector environments are made of functions that make environments."""
        return self

    def check(self, action: NDArray[np.float32]) -> None:
        """Check an action before any student is trained.

        Raises:
            ValueError: It has the wrong shape or is not finite.
        """
        with self._named():
            self.unwrapped.decode_action(action)

    def begin(self, action: NDArray[np.float32] | None, *, resets: bool) -> None:
        """Let the workers take a step.

        Args:
            action: The action; None resets instead.
            resets: Reset after the last step of a run, too.
        """
        if self._workers.count > 1:
            caller = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
            self._begun = self._workers.submit(lambda: self._on_stream(caller, lambda: self._work(action, resets)))

    def step(self, action: Any) -> Any:
        """Take a step, or return the one that was begun."""
        with self._named():
            return self.env.step(action) if self._begun is None else self._next()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start a run, or return the one that was begun."""
        with self._named():
            return self.env.reset(seed=seed, options=options) if self._begun is None else self._next()

    def settle(self) -> None:
        """Give up what was begun and nobody asked for, because another member failed."""
        begun, self._begun = self._begun, None
        if begun is not None and not begun.cancel():
            wait([begun])

    def _next(self) -> Any:
        assert self._begun is not None
        results = self._begun.result()
        result = results.popleft()
        if not results:
            self._begun = None
        return result

    def _work(self, action: NDArray[np.float32] | None, resets: bool) -> deque[Any]:
        if action is None:
            return deque([self.env.reset()])
        results: deque[Any] = deque([self.env.step(action)])
        _, _, terminated, truncated, _ = results[0]
        if resets and (terminated or truncated):
            results.append(self.env.reset())
        return results

    def _on_stream(self, caller: torch.cuda.Stream | None, work: Callable[[], Any]) -> Any:
        """Work on a CUDA stream of the student's own, so that the device trains several at a time."""
        if caller is None:
            return work()
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device)
        self._stream.wait_stream(caller)
        with torch.cuda.stream(self._stream):
            results = work()
        self._stream.synchronize()  # the caller looks at the student from a stream of its own
        return results

    @property
    def _device(self) -> torch.device:
        return self.unwrapped.task.device

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say in an error which student it comes from; its type stays, since callers go by that."""
        try:
            yield
        except Exception as error:
            first, *rest = error.args or ("",)
            error.args = (f"student {self._index}: {first}", *rest)
            raise

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied: neither what was begun nor the stream."""
        return {**vars(self), "_begun": None, "_stream": None}


def check_counts(num_envs: int, workers: int | None) -> None:
    """Check numbers before any work.

    Raises:
        ValueError: A number is below 1.
    """
    for name, number in {"num_envs": num_envs, "workers": workers}.items():
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1. Got {number}")


def one_thread_each(num_envs: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which each of several students has one CPU thread, where nothing else was asked for.

    Args:
        num_envs: Number of students.
        settings: Arguments of `FusionDistillEnv`.
    """
    config = settings.get("config")
    asked = "threads" in settings or (config is not None and config.threads is not None)
    return {**settings, "threads": 1} if num_envs > 1 and not asked else dict(settings)


def make_members(
    task: DistillationTask,
    count: int,
    workers: int | None,
    wrap: Callable[[FusionDistillEnv], gymnasium.Env],
    render_mode: str | None = None,
) -> tuple[list[Member], Workers]:
    """Make the environments of several students that share a task.

    Args:
        task: The task.
        count: Number of students.
        workers: Students that are trained at a time; None for as many as the cores have room for.
        wrap: Wraps each environment.
        render_mode: Of each environment.

    Returns:
        The members, and the workers that they share.

    Raises:
        ValueError: A number is below 1.
    """
    check_counts(count, workers)
    shared = Workers.for_cores(count, task.device) if workers is None else Workers(workers)
    envs = [wrap(FusionDistillEnv.from_task(task, render_mode)) for _ in range(count)]
    return [Member(env, index, shared) for index, env in enumerate(envs)], shared


@contextmanager
def steps_begun(
    members: Sequence[Member], actions: Iterable[NDArray[np.float32]], *, over: Sequence[bool], resets: bool
) -> Iterator[None]:
    """Let the workers take a step of all members; the block asks for the results, and gives up the rest if it fails.

    Args:
        members: The members.
        actions: Their actions.
        over: Whose run is over, so that the member is reset instead.
        resets: Reset after the last step of a run, too.

    Raises:
        ValueError: An action cannot be used; nothing was trained.
    """
    wanted = [None if ended else action for action, ended in zip(actions, over, strict=True)]
    for member, action in zip(members, wanted, strict=True):
        if action is not None:
            member.check(action)
    # Here as well as in the workers: parts of a caller's numerical state are the whole process's, and who finished
    # first would put them back while others compute.
    with own_numerics():
        try:
            for member, action in zip(members, wanted, strict=True):
                member.begin(action, resets=resets)
            yield
        finally:
            for member in members:
                member.settle()
