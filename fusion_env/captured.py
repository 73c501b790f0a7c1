"""Work on tensors that keep their places, recorded once and then replayed: the host's part of a step is one launch.

A graph remembers addresses and every number that was not a tensor. What differs between replays must therefore be
copied into tensors that were there when it was captured; nothing may be read back in between.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Generic, Protocol, TypeVar

import torch

from fusion_env.errors import ConfigError

__all__ = [
    "WARM_UPS",
    "CudaGraphs",
    "Graph",
    "Replayed",
    "StandInGraph",
    "captures",
    "captures_scores",
    "describe_capture",
]

WARM_UPS = 3
"""Calls that are done as they are before one is captured: what libraries set up at first must not be recorded."""

_capturing = Lock()
"""Capturing waits for the whole device at its start, which is an error while another thread captures."""

Work = Callable[[], None]
K = TypeVar("K", bound=Hashable)


class Graph(Protocol):
    """A recording of some work."""

    def warm_up(self, work: Work) -> None:
        """Do the work as it is, where it will be captured."""

    def capture(self, work: Work) -> None:
        """Record the work without doing it."""

    def replay(self) -> None:
        """Do what was recorded."""


class StandInGraph:
    """Takes a graph's place on a CPU: it does the recorded work again, on the same tensors."""

    _work: Work

    def warm_up(self, work: Work) -> None:
        """Do the work."""
        work()

    def capture(self, work: Work) -> None:
        """Remember the work."""
        self._work = work

    def replay(self) -> None:
        """Do the work that was remembered."""
        self._work()


class CudaGraphs:
    """Makes CUDA graphs that are replayed one at a time, in one memory pool.

    Args:
        device: A CUDA device.
        generator: Source of the work's random numbers there; a replay goes on where it stands.
    """

    def __init__(self, device: torch.device, generator: torch.Generator) -> None:
        self.generator = generator
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self) -> "_CudaGraph":
        """Return a new graph."""
        return _CudaGraph(self)


class _CudaGraph:
    def __init__(self, siblings: CudaGraphs) -> None:
        self._stream, self._pool = siblings.stream, siblings.pool
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(siblings.generator)

    def warm_up(self, work: Work) -> None:
        outside = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            work()
        outside.wait_stream(self._stream)

    def capture(self, work: Work) -> None:
        try:
            # Other threads may train other students meanwhile: what they do to the device is not ours to forbid.
            graph = torch.cuda.graph(
                self._graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            )
            with _capturing, graph:
                work()
        except RuntimeError as error:
            raise ConfigError(
                f"a round cannot be captured in a CUDA graph ({error}): set capture='training' if it is a metric or "
                "quality score of your own that waits for the device, else capture='off'"
            ) from error

    def replay(self) -> None:
        with torch.cuda.device(self._stream.device):
            self._graph.replay()


@dataclass
class _Recording:
    graph: Graph
    calls: int = 0


class Replayed(Generic[K]):
    """Calls of a function of one argument, captured for each value of it that comes back.

    The first calls do the work as it is, so that a short life costs no capture. The function is not kept: its owner,
    who keeps this, would hold itself.

    Args:
        new_graph: Makes graphs.
    """

    def __init__(self, new_graph: Callable[[], Graph]) -> None:
        self._new_graph = new_graph
        self._places: Hashable = None
        self._recordings: dict[K, _Recording] = {}

    def __call__(self, function: Callable[[K], None], argument: K, places: Hashable) -> None:
        """Do what the function does.

        Args:
            function: Does its work on tensors that keep their places; always the same one.
            argument: What it is called with.
            places: Where the tensors are that others can get at; if they have moved, nothing that was recorded is used
                any more.
        """
        if places != self._places:
            self._places = places
            self._recordings.clear()
        if argument not in self._recordings:
            self._recordings[argument] = _Recording(self._new_graph())
        recording = self._recordings[argument]

        def work() -> None:
            function(argument)

        recording.calls += 1
        if recording.calls <= WARM_UPS:
            recording.graph.warm_up(work)
            return
        if recording.calls == WARM_UPS + 1:
            recording.graph.capture(work)
        recording.graph.replay()


def captures(setting: str, device: torch.device) -> bool:
    """Tell whether iterations are captured on a device under the setting `capture`."""
    return setting == "on" or (setting in ("auto", "training") and device.type == "cuda")


def captures_scores(setting: str, device: torch.device) -> bool:
    """Tell whether scores of the student are captured, too."""
    return setting != "training" and captures(setting, device)


def describe_capture(setting: str, device: torch.device) -> str:
    """Say how the iterations and the scores of a round are run, for people."""
    plain = "operation by operation"
    if not captures(setting, device):
        return plain
    graphs = "as CUDA graphs" if device.type == "cuda" else "as the CPU's stand-in for CUDA graphs"
    return f"{graphs}, scores {'as well' if captures_scores(setting, device) else plain}"
