"""Whatever the caller has set, training is the same, and the caller's settings are as they were."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fusion_env import teachers
from fusion_env.action import ACTION_SIZE
from fusion_env.config import DistillConfig
from fusion_env.degradation import Degradation
from fusion_env.distillation import GUIDANCE_ONLY
from fusion_env.env import FusionDistillEnv
from fusion_env.perception import load_features, load_quality
from fusion_env.stage0 import initial_student
from fusion_env.task import build_task
from fusion_env.vector_env import FusionDistillVectorEnv
from student.numerics import own_numerics
from student.pruning import prune_ldfusion

MakeConfig = Callable[..., DistillConfig]


@contextmanager
def _default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def _default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def _matmul_precision() -> Iterator[None]:
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


CALLERS: dict[str, Callable[[], Any]] = {
    "no_mkldnn": lambda: torch.backends.mkldnn.flags(enabled=False),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": _default_dtype,
    "default_device": _default_device,
    "device_context": lambda: torch.device("meta"),
    "matmul_precision": _matmul_precision,
    "numpy_raises": lambda: np.errstate(all="raise"),
}


@contextmanager
def _all_at_once() -> Iterator[None]:
    with ExitStack() as stack:
        for enter in CALLERS.values():
            stack.enter_context(enter())
        yield


@pytest.fixture(params=[*CALLERS, "all"])
def caller(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return CALLERS.get(request.param, _all_at_once)


def _settings() -> tuple[Any, ...]:
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_float32_matmul_precision(),
        np.geterr(),
    )


def _numbers(state: dict[str, torch.Tensor]) -> np.ndarray:
    return np.concatenate([tensor.numpy().ravel() for tensor in state.values()])


def _everything(config: DistillConfig) -> tuple[list[float], np.ndarray, np.ndarray]:
    """Return rewards, the stage-0 student and the last one of a run through all doors of an environment."""
    env = FusionDistillEnv(config=config)
    env.reset(seed=1)
    action = env.encode_action(guidance=0.6, blur_kernel=5, noise_std=0.05)
    rewards = [env.step(action)[1]]
    snapshot = env.state_dict()
    rewards.append(env.fork().step(action)[1])
    rewards.append(env.step(action)[1])
    env.load_state_dict(snapshot)
    rewards.append(env.step(action)[1])
    last = env.abandon()
    rewards += [last.report["e"], last.report["mae"], last.teacher_report["e"]]
    return rewards, _numbers(env.task.stage0), _numbers(last.student)


@pytest.mark.slow  # the engine goes through each of them in the fast lane
@pytest.mark.parametrize("caller", [*CALLERS, "all"], indirect=True)
def test_a_run_is_the_same(caller: Callable[[], Any], tiny_config: MakeConfig, tmp_path: Path) -> None:
    expected = _everything(tiny_config(cache_dir=str(tmp_path / "plain")))
    with caller():
        before = _settings()
        got = _everything(tiny_config(cache_dir=str(tmp_path / "caller")))
        assert _settings() == before
    assert got[0] == expected[0]
    np.testing.assert_array_equal(got[1], expected[1])
    np.testing.assert_array_equal(got[2], expected[2])
    # What the caller's run has stored serves the next one, and the snapshot's tensors can be trained on.
    assert _everything(tiny_config(cache_dir=str(tmp_path / "caller")))[0] == expected[0]


def test_what_was_made_elsewhere_can_be_used_under_a_caller_and_the_other_way_round(
    caller: Callable[[], Any], tiny_config: MakeConfig
) -> None:
    plain, other = FusionDistillEnv(config=tiny_config()), FusionDistillEnv(config=tiny_config())
    action = plain.encode_action(guidance=0.5, blur_kernel=3)
    plain.reset(seed=0)
    with caller():
        other.reset(seed=0)
        first = other.step(action)[1]
        snapshot = other.state_dict()
    assert plain.step(action)[1] == first
    other.load_state_dict(snapshot)
    assert other.step(action)[1] == plain.step(action)[1]


def test_students_move_in_a_vector(caller: Callable[[], Any], tiny_config: MakeConfig) -> None:
    with caller():
        envs = FusionDistillVectorEnv(2, config=tiny_config())
        envs.reset(seed=0)
        before = [_numbers({k: v.clone() for k, v in env.unwrapped.student.state_dict().items()}) for env in envs.envs]
        envs.step(np.zeros((2, ACTION_SIZE), np.float32))
        after = [_numbers(env.unwrapped.student.state_dict()) for env in envs.envs]
    assert all((one != two).any() for one, two in zip(before, after, strict=True))


def test_an_engine_is_the_same(caller: Callable[[], Any], tiny_config: MakeConfig) -> None:
    task = build_task(tiny_config())

    def train() -> tuple[float, float]:
        engine = task.new_engine(0, 0)
        result = engine.run_round(GUIDANCE_ONLY, Degradation())
        return result.total, engine.loss_values(Degradation(blur_kernel=3), 1)[1]

    expected = train()
    with caller():
        assert train() == expected


@pytest.mark.slow
def test_autocast_of_the_settings_is_the_same(tiny_config: MakeConfig) -> None:
    config = tiny_config(autocast=True)
    expected = _everything(config)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert _everything(config)[0] == expected


def test_networks_are_float32_and_real(caller: Callable[[], Any]) -> None:
    def networks() -> list[torch.nn.Module]:
        teacher = teachers.load("embedded")
        return [
            teacher,
            load_features("embedded"),
            load_features("vgg19-untrained"),
            load_quality("embedded"),
            prune_ldfusion(teacher.state_dict()),
        ]

    expected = [_numbers(network.state_dict()) for network in networks()]
    start = _numbers(initial_student("random", teachers.load("embedded"), 0))
    with caller():
        got = networks()
        same_start = initial_student("random", got[0], 0)  # type: ignore[arg-type]
    for network, numbers in zip(got, expected, strict=True):
        assert {tensor.dtype for tensor in network.parameters()} <= {torch.float32}
        np.testing.assert_array_equal(_numbers(network.state_dict()), numbers)
    np.testing.assert_array_equal(_numbers(same_start), start)


def test_the_callers_settings_come_back_after_an_error() -> None:
    plain = _settings()
    with _all_at_once():
        before = _settings()
        with own_numerics():
            assert _settings()[:5] == plain[:5]
        with pytest.raises(KeyError), own_numerics():
            raise KeyError
        assert _settings() == before
