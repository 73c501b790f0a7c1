"""Captured rounds are the eager ones: with the CPU's stand-in bit for bit, on CUDA within rounding."""

import copy
import gc
import pickle
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from fusion_env.action import ACTION_SIZE, LossWeights, decode_action
from fusion_env.captured import WARM_UPS, CudaGraphs, Replayed, StandInGraph, captures
from fusion_env.config import DistillConfig
from fusion_env.degradation import Degradation
from fusion_env.distillation import GUIDANCE_ONLY, Distillation, RoundResult
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError
from fusion_env.task import DistillationTask, build_task

MakeConfig = Callable[..., DistillConfig]

Action = tuple[LossWeights, Degradation]
OFF: list[Action] = [(GUIDANCE_ONLY, Degradation(7, 40, 0.3, 0.3, 0.05)), (LossWeights(0.5, 0.5), Degradation())]


def random_actions(count: int, seed: int = 0) -> list[Action]:
    """Return random actions, Eq. 2 off in some."""
    rng = np.random.default_rng(seed)
    drawn = [decode_action(rng.uniform(-1, 1, ACTION_SIZE)) for _ in range(count)]
    return [action for pair in zip(drawn, OFF * count, strict=False) for action in pair]


def weights_of(engine: Distillation) -> torch.Tensor:
    return torch.cat([p.detach().flatten().cpu() for p in engine.student.parameters()])


def run(engine: Distillation, actions: list[Action]) -> list[RoundResult]:
    return [engine.run_round(*action) for action in actions]


def make_tasks(tiny_config: MakeConfig, **settings: object) -> list[DistillationTask]:
    """Return the same task twice, eager and captured."""
    settings = {"rounds": 30, "stage0_rounds": 2, **settings}
    return [build_task(tiny_config(capture=capture, **settings)) for capture in ("off", "on")]


@pytest.fixture
def tasks(tiny_config: MakeConfig) -> list[DistillationTask]:
    return make_tasks(tiny_config, iterations=2)


class Tape(StandInGraph):
    """A stand-in that writes down what is asked of it."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def warm_up(self, work: Callable[[], None]) -> None:
        self.log.append("warm up")
        super().warm_up(work)

    def capture(self, work: Callable[[], None]) -> None:
        self.log.append("capture")
        super().capture(work)

    def replay(self) -> None:
        self.log.append("replay")
        super().replay()


def test_each_argument_is_warmed_up_captured_once_and_replayed() -> None:
    log: list[str] = []
    done: list[str] = []
    replayed: Replayed[str] = Replayed(lambda: Tape(log))
    for _ in range(WARM_UPS + 2):
        replayed(done.append, "a", 0)
    assert log == ["warm up"] * WARM_UPS + ["capture", "replay", "replay"]
    replayed(done.append, "b", 0)
    assert log[-1] == "warm up"
    replayed(done.append, "a", 0)
    assert log[-1] == "replay"
    assert done == ["a"] * (WARM_UPS + 2) + ["b", "a"]  # nothing is done by a capture


def test_a_moved_tensor_means_a_new_capture() -> None:
    log: list[str] = []
    replayed: Replayed[str] = Replayed(lambda: Tape(log))
    for place in [1] * (WARM_UPS + 1) + [2]:
        replayed(lambda _: None, "a", place)
    assert log[-3:] == ["capture", "replay", "warm up"]


def test_an_engine_is_gone_with_its_last_reference(tiny_config: MakeConfig) -> None:
    engine = build_task(tiny_config(stage0_rounds=0)).new_engine(1, 2)
    engine.run_round(*OFF[0])
    gone = weakref.ref(engine)
    gc.disable()
    try:
        del engine
        assert gone() is None
    finally:
        gc.enable()


def test_rounds_are_captured_on_a_gpu_unless_said_otherwise() -> None:
    for setting, kind, expected in (
        *(("auto", "cuda", True), ("auto", "cpu", False), ("off", "cuda", False)),
        *(("on", "cpu", True), ("on", "cuda", True)),
    ):
        assert captures(setting, torch.device(kind)) is expected


def test_it_is_said_how_rounds_are_run(tasks: list[DistillationTask]) -> None:
    eager, captured = (task.describe()["iterations"] for task in tasks)
    assert eager == "operation by operation"
    assert "stand-in" in captured


@pytest.mark.parametrize(
    "change",
    [
        {"iterations": 3},
        *(
            pytest.param(change, marks=pytest.mark.slow)
            for change in ({}, {"update": "sum", "schedule": "linear"}, {"detach_original": False}, {"guidance": False})
        ),
    ],
)
def test_the_same_trajectory(change: dict[str, object], tiny_config: MakeConfig) -> None:
    eager, captured = (task.new_engine(1, 2) for task in make_tasks(tiny_config, **change))
    actions = random_actions(6)
    assert run(eager, actions) == run(captured, actions)
    assert torch.equal(weights_of(eager), weights_of(captured))


def test_snapshots_cross_over(tasks: list[DistillationTask]) -> None:
    actions = random_actions(4)
    first, rest = actions[:5], actions[5:]
    reference = tasks[0].new_engine(1, 2)
    run(reference, actions)
    for one, other in (tasks, tasks[::-1]):
        engine = one.new_engine(1, 2)
        run(engine, first)
        states = [engine.state_dict()]
        run(engine, rest)  # the engine goes on, and its snapshot does not
        again = other.new_engine(3, 4)
        run(again, random_actions(3, seed=5))  # has captured already
        again.load_state_dict(states[0])
        run(again, rest)
        for finished in (engine, again):
            assert torch.equal(weights_of(finished), weights_of(reference))


def test_divergence_is_taken_back_and_training_goes_on(tasks: list[DistillationTask]) -> None:
    engines = [task.new_engine(1, 2) for task in tasks]
    action = random_actions(1)[0]
    for engine in engines:
        run(engine, [action] * 3)
        before, rate = weights_of(engine), engine.learning_rate
        engine.learning_rate = float("inf")
        assert engine.run_round(*action).diverged
        assert torch.equal(weights_of(engine), before)
        engine.learning_rate = rate
        state = engine.state_dict()
        assert not any(tensor.isnan().any() for tensor in state["student"].values())
        run(engine, [action])
        engine.roll_back()
        assert torch.equal(weights_of(engine), before)
    assert torch.equal(*(weights_of(engine) for engine in engines))


def test_a_student_that_was_moved_is_trained_where_it_is(tasks: list[DistillationTask]) -> None:
    eager, captured = (task.new_engine(1, 2) for task in tasks)
    actions = random_actions(3)
    for engine in (eager, captured):
        run(engine, actions)
        for parameter in engine.student.parameters():
            parameter.data = parameter.data.clone()
        run(engine, actions)
    assert torch.equal(weights_of(eager), weights_of(captured))


def test_a_fork_goes_on_alike(tiny_config: MakeConfig) -> None:
    env = FusionDistillEnv(config=tiny_config(capture="on"))
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    for _ in range(5):
        env.step(rng.uniform(-1, 1, ACTION_SIZE).astype(np.float32))
    copies = [env.fork(), copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    action = np.zeros(ACTION_SIZE, np.float32)
    expected = [env.step(action)[1] for _ in range(2)]
    assert all([other.step(action)[1] for _ in range(2)] == expected for other in copies)


class Device:
    """Takes the place of what a capture needs of CUDA."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.capturing = self.most = 0
        for name in ("Stream", "graph_pool_handle", "CUDAGraph"):
            monkeypatch.setattr(torch.cuda, name, lambda *_: MagicMock())
        monkeypatch.setattr(torch.cuda, "graph", self.graph)

    @contextmanager
    def graph(self, *args: object, **kwargs: object) -> Iterator[None]:
        self.capturing += 1
        self.most = max(self.most, self.capturing)
        yield
        self.capturing -= 1


def test_threads_capture_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    graphs = [CudaGraphs(torch.device("cuda"), torch.Generator())() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda graph: graph.capture(lambda: time.sleep(0.02)), graphs))
    assert device.most == 1


def test_what_cannot_be_captured_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    Device(monkeypatch)

    def work() -> None:
        raise RuntimeError("operation not permitted")

    with pytest.raises(ConfigError, match=r"operation not permitted.*capture='training'.*capture='off'"):
        CudaGraphs(torch.device("cuda"), torch.Generator())().capture(work)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestOnCuda:
    """Kernels of CUDA may add in an order of their own: losses agree to a hundredth after some rounds."""

    @pytest.fixture
    def tasks(self, tiny_config: MakeConfig) -> list[DistillationTask]:
        settings = {"rounds": 30, "iterations": 4, "device": "cuda"}
        return [build_task(tiny_config(capture=capture, **settings)) for capture in ("off", "auto")]

    def test_the_same_trajectory(self, tasks: list[DistillationTask]) -> None:
        eager, captured = (task.new_engine(1, 2) for task in tasks)
        for action in random_actions(6):
            one, other = eager.run_round(*action), captured.run_round(*action)
            for name, value in vars(one).items():
                assert getattr(other, name) == pytest.approx(value, rel=1e-2, abs=1e-6), name
        assert torch.equal(eager.state_dict()["noise"], captured.state_dict()["noise"])

    def test_snapshots_cross_over(self, tasks: list[DistillationTask]) -> None:
        actions = random_actions(4)
        for one, other in (tasks, tasks[::-1]):
            engine, again = one.new_engine(1, 2), other.new_engine(3, 4)
            run(engine, actions)
            run(again, actions)
            again.load_state_dict(engine.state_dict())
            results = [run(one, actions[:2]) for one in (engine, again)]
            for mine, theirs in zip(*results, strict=True):
                assert mine.total == pytest.approx(theirs.total, rel=1e-3)

    def test_the_graph_is_replayed(self, tasks: list[DistillationTask], monkeypatch: pytest.MonkeyPatch) -> None:
        engine = tasks[1].new_engine(1, 2)
        action = random_actions(1)[0]
        run(engine, [action] * 5)
        monkeypatch.setattr(engine, "_losses", None)  # nothing is computed by the host any more
        assert np.isfinite(engine.run_round(*action).total)
