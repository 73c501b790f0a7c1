"""Captured scores are the eager ones, of whatever images are chosen, and need the host for nothing in between."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_env import metrics
from fusion_env.action import ACTION_SIZE, decode_action
from fusion_env.captured import WARM_UPS, captures_scores, describe_capture
from fusion_env.captured_scoring import CapturedScoring
from fusion_env.config import DistillConfig
from fusion_env.data import write_png
from fusion_env.env import FusionDistillEnv
from fusion_env.run import Run
from fusion_env.sb3_vec_env import StudentsVecEnv
from fusion_env.task import DistillationTask, build_task
from student import FusionStudent
from tests.fusion_env.recorded import NoHostWork, StrictGraph

MakeConfig = Callable[..., DistillConfig]
TURNS = WARM_UPS + 2


def change(student: FusionStudent) -> None:
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(0.9)


def compare(task: DistillationTask, chosen: list[np.ndarray | None]) -> CapturedScoring:
    """Score a student that changes, by graphs and as it is."""
    student = task.new_engine(1, 2).student
    captured = CapturedScoring(task.scorer, student, StrictGraph)
    for _ in range(TURNS):
        for images in chosen:
            assert task.scorer.score(student, images, rate=captured) == task.scorer.score(student, images)
        change(student)
    return captured


@pytest.mark.slow
def test_all_images(tiny_config: MakeConfig) -> None:
    compare(build_task(tiny_config(iqa_colour=True)), [None])


def test_those_that_are_drawn(tiny_config: MakeConfig) -> None:
    task = build_task(tiny_config(score_images=2, stage0_rounds=0))
    captured = compare(task, [np.array([0, 3]), np.array([1, 2])])
    assert len(captured._tensors) == 1  # one graph for both


@pytest.mark.slow
def test_images_of_several_sizes(tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        size = (48, 64) if number % 2 else (50, 50)
        levels = np.random.default_rng(number).integers(0, 256, (2, *size), np.uint8)
        for side, picture in zip(("ir", "vi"), levels, strict=True):
            write_png(tmp_path / side / f"{number:02d}.png", picture)
    task = build_task(tiny_config(data=str(tmp_path), score_size=None, score_crops=None))
    assert len(task.scored) == 2
    monkeypatch.setattr("fusion_env.scoring.CHUNK_PIXELS", 48 * 64)
    captured = compare(task, [None])
    assert {piece.count for piece in captured._tensors} == {1}


@pytest.mark.slow
def test_images_on_the_host_are_scored_as_they_are(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusion_env.places.free_bytes", lambda device: 0)
    task = build_task(tiny_config(data_seed=11))
    assert task.scored[0].streamed_to is not None
    captured = compare(task, [None])
    assert not captured._tensors


@pytest.mark.slow
def test_a_captured_run_has_the_rewards_of_an_eager_one(tiny_config: MakeConfig) -> None:
    envs = [
        FusionDistillEnv(config=tiny_config(capture=capture, score_images=2, rounds=9, observation="rich"))
        for capture in ("off", "on")
    ]
    runs = []
    for env in envs:
        env.reset(seed=3)
        rng = np.random.default_rng(0)
        steps = [env.step(rng.uniform(-1, 1, ACTION_SIZE).astype(np.float32)) for _ in range(TURNS)]
        runs.append([(observation.tolist(), reward) for observation, reward, *_ in steps])
    assert runs[0] == runs[1]


def test_what_is_captured_is_chosen_and_said() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for setting, device, expected in (
        *(("auto", cuda, True), ("auto", cpu, False), ("on", cpu, True)),
        *(("training", cuda, False), ("training", cpu, False), ("off", cuda, False)),
    ):
        assert captures_scores(setting, device) is expected
    assert describe_capture("auto", cuda) == "as CUDA graphs, scores as well"
    assert describe_capture("training", cuda) == "as CUDA graphs, scores operation by operation"
    assert describe_capture("off", cuda) == "operation by operation"


def test_a_round_needs_the_host_for_nothing(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither iterations, nor the scores after them, which a run captures as well."""
    monkeypatch.setattr("fusion_env.distillation.StandInGraph", StrictGraph)
    settings = {"stage0_rounds": 0, "score_images": 2, "student_init": "random"}
    run = Run(build_task(tiny_config(capture="on", **settings)), 1, 2, 3)
    weights, degradation = decode_action(np.zeros(ACTION_SIZE, np.float32))
    for _ in range(WARM_UPS + 1):
        run.engine.run_round(weights, degradation)
        run.score()
    assert run._rate is not None
    assert Run(build_task(tiny_config(capture="off", **settings)), 1, 2, 3)._rate is None


@pytest.mark.parametrize(
    "work", [lambda x: float(x.sum()), lambda x: x[x > 0], lambda x: x + torch.tensor([1.0]), torch.nonzero]
)
def test_the_test_notices_what_a_graph_refuses(work: Callable[[torch.Tensor], object]) -> None:
    with NoHostWork(), pytest.raises(RuntimeError, match="cannot be recorded"):
        work(torch.ones(2))


def test_every_metric_can_be_captured() -> None:
    fused, ir, vis = torch.rand(3, 2, 1, 176, 180, generator=torch.Generator().manual_seed(0))
    selected = [metrics.get(name) for name in metrics.names() if name != "clip_iqa"]
    expected = metrics.compute(selected, fused, ir=ir, vis=vis)
    with NoHostWork():
        again = metrics.compute(selected, fused, ir=ir, vis=vis)
    assert all(torch.equal(again[name], value) for name, value in expected.items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestOnCuda:
    """Kernels may add in an order of their own; a level of a pixel may then be rounded the other way."""

    def test_scores(self, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        task = build_task(tiny_config(device="cuda", score_images=2))
        engine = task.new_engine(1, 2)
        assert engine.new_graph is not None
        captured = CapturedScoring(task.scorer, engine.student, engine.new_graph)
        for chosen in [np.array([0, 3]), np.array([1, 2])] * TURNS:
            change(engine.student)
            results = [task.scorer.score(engine.student, chosen, rate=rate) for rate in (captured, None)]
            for one, other in zip(*(result[0].values() for result in results), strict=True):
                assert one == pytest.approx(other, rel=1e-3)
        monkeypatch.setattr(task.scorer, "rate_student", None)  # nothing is computed by the host any more
        assert np.isfinite([*task.scorer.score(engine.student, np.array([0, 1]), rate=captured)[0].values()]).all()

    def test_students_at_a_time_are_as_alone(self, tiny_config: MakeConfig) -> None:
        task = build_task(tiny_config(device="cuda", iterations=2, rounds=9))
        env = StudentsVecEnv(task, 3, workers=3)
        env.seed(5)
        env.reset()
        alone = [FusionDistillEnv.from_task(task) for _ in range(3)]
        for k, single in enumerate(alone):
            single.reset(seed=5 + k)
        rng = np.random.default_rng(0)
        for _ in range(TURNS + 1):
            actions = rng.uniform(-1, 1, (3, ACTION_SIZE)).astype(np.float32)
            _, rewards, _, _ = env.step(actions)
            expected = [single.step(action)[1] for single, action in zip(alone, actions, strict=True)]
            assert rewards == pytest.approx(expected, rel=1e-2, abs=1e-3)
        env.close()
