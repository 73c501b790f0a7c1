"""Global random generators belong to the user: nothing here reads, changes or seeds them."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fusion_env.action import ACTION_SIZE
from fusion_env.config import DistillConfig
from fusion_env.env import FusionDistillEnv

CHECKOUT = Path(__file__).resolve().parents[2]

ACTIONS = np.random.default_rng(0).uniform(-1, 1, (3, ACTION_SIZE)).astype(np.float32)

# Every source of randomness of the tiny preset, and each way of making networks that draws first weights.
VARIANTS: dict[str, dict[str, Any]] = {
    "random student": {"score_images": 2},
    "pruned student": {"teacher": "embedded", "student_init": "prune"},
    "embedded student, untrained VGG": {
        "student_init": "embedded",
        "stage0_rounds": 0,
        "perception": "vgg19-untrained",
    },
}

_FRESH_PROCESS = """
import json, random, sys
import numpy, torch
random.seed(5), numpy.random.seed(6), torch.manual_seed(7)
from fusion_env.config import DistillConfig
from fusion_env.env import FusionDistillEnv
env = FusionDistillEnv(config=DistillConfig.from_dict(json.loads(sys.argv[1])))
rows = [env.reset(seed=3)[0].tolist()]
for action in json.loads(sys.argv[2]):
    observation, reward, *_ = env.step(action)
    rows.append([*observation.tolist(), reward])
print(json.dumps(rows))
"""


def _global_states() -> tuple[Any, ...]:
    name, keys, *position = np.random.get_state()
    return (
        random.getstate(),
        (name, keys.tobytes(), *position),
        torch.get_rng_state().numpy().tobytes(),
        [state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    )


def _seed_globals(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.fixture(autouse=True)
def _globals_are_put_back() -> Any:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


def _row(result: tuple[Any, ...]) -> list[float]:
    return [*result[0].tolist(), *result[1:2]] if len(result) == 5 else result[0].tolist()


def _trajectory(env: FusionDistillEnv, seed: int = 3) -> list[list[float]]:
    return [_row(env.reset(seed=seed)), *(_row(env.step(action)) for action in ACTIONS)]


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=() if "random" in name else pytest.mark.slow) for name in VARIANTS]
)
def test_global_generators_are_neither_changed_nor_read(
    tiny_config: Callable[..., DistillConfig], tmp_path: Path, variant: str
) -> None:
    trajectories = []
    for seed in (1, 2):
        # a cache of its own, and so a task of its own: everything is computed under these global seeds
        config = tiny_config(**VARIANTS[variant], rounds=len(ACTIONS), cache_dir=str(tmp_path / str(seed)))
        _seed_globals(seed)
        before = _global_states()
        env = FusionDistillEnv(config=config, render_mode="rgb_array")
        assert _global_states() == before, "building"
        rows = [_row(env.reset(seed=3))]
        assert _global_states() == before, "reset"
        for action in ACTIONS:
            rows.append(_row(env.step(action)))
            assert _global_states() == before, "step"
        env.render()
        assert _global_states() == before, "render"
        trajectories.append([rows, list(env.last_run.report.values())])
    assert trajectories[0] == trajectories[1]


def test_a_fresh_environment_without_a_seed_does_not_read_global_generators(
    tiny_config: Callable[..., DistillConfig],
) -> None:
    observations = []
    for _ in range(2):
        _seed_globals(0)
        env = FusionDistillEnv(config=tiny_config(score_images=1))
        observations.append([env.reset()[0].tolist() for _ in range(4)])
    assert observations[0] != observations[1]  # seeded by the operating system, whatever the global seeds


@pytest.mark.slow
def test_nobody_seeds_global_generators(
    tiny_config: Callable[..., DistillConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*args: object) -> None:
        raise AssertionError("a global generator was seeded")

    for module, name in ((random, "seed"), (np.random, "seed"), (torch, "manual_seed"), (torch, "seed")):
        monkeypatch.setattr(module, name, forbidden)
    _trajectory(FusionDistillEnv(config=tiny_config(cache_dir=str(tmp_path))))


_IMPORTS_AND_VECTORS = """
import random, sys, tempfile
import numpy, torch
random.seed(5), numpy.random.seed(6), torch.manual_seed(7)

def states():
    name, keys, *position = numpy.random.get_state()
    return random.getstate(), keys.tobytes(), position, torch.get_rng_state().numpy().tobytes()

before = states()
import gymnasium
import fusion_env, fusion_env.metrics, fusion_env.teachers, student.fuse
assert states() == before, "import"
envs = gymnasium.make_vec("fusion_env/FusionDistillTiny-v0", num_envs=2, cache_dir=sys.argv[1])
envs.reset(seed=1)
envs.step(numpy.zeros((2, *envs.single_action_space.shape), numpy.float32))
assert states() == before, "vector environment"
env = gymnasium.make("fusion_env/FusionDistillTiny-v0", cache_dir=sys.argv[1])
env.reset()
env.unwrapped.fork(seed=2).step(numpy.zeros(env.action_space.shape))
env.unwrapped.load_state_dict(env.unwrapped.state_dict())
assert states() == before, "fork and snapshot"
"""


@pytest.mark.slow
def test_imports_vectors_forks_and_snapshots_leave_global_generators_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _IMPORTS_AND_VECTORS, str(tmp_path)]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_another_process_with_other_global_seeds_and_hashes_gives_the_same(
    tiny_config: Callable[..., DistillConfig], tmp_path: Path
) -> None:
    config = tiny_config(threads=1)
    elsewhere = config.replace(cache_dir=str(tmp_path)).to_dict()
    result = subprocess.run(
        [sys.executable, "-c", _FRESH_PROCESS, json.dumps(elsewhere), json.dumps(ACTIONS.tolist())],
        cwd=CHECKOUT,
        env={"PYTHONHASHSEED": "12345", "PATH": "", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == _trajectory(FusionDistillEnv(config=config))


@pytest.mark.slow
def test_interleaved_environments_do_as_they_do_alone(tiny_env: Callable[..., FusionDistillEnv]) -> None:
    seeds = (3, 4)
    alone = [_trajectory(tiny_env(score_images=2), seed) for seed in seeds]
    envs = [tiny_env(score_images=2) for _ in seeds]
    together = [[_row(env.reset(seed=seed))] for env, seed in zip(envs, seeds, strict=True)]
    for action in ACTIONS:
        for env, rows in zip(envs, together, strict=True):
            torch.rand(1)  # what users draw in between changes nothing either
            rows.append(_row(env.step(action)))
    assert together == alone
    assert alone[0] != alone[1]
