"""TorchRL: environments by name and wrapped, infos, the collector."""

from collections.abc import Callable

import gymnasium
import pytest

from tests.clients.plain_loop import ID, ROUNDS, Recorder, assert_same

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _installed() -> None:
    pytest.importorskip("torchrl", reason="needs the extra [clients]")


def test_rollout_of_an_environment_by_name(make: Callable[[], gymnasium.Env], settings: dict[str, object]) -> None:
    from torchrl.envs import GymEnv

    env = GymEnv(ID, **settings)
    env.set_seed(3)
    rollout = env.rollout(ROUNDS)
    rewards = rollout["next", "reward"].squeeze(-1).numpy()
    # `set_seed` resets with the seed, `rollout` once more without.
    assert_same(make(), [3, None, *rollout["action"].numpy()], rewards, env.unwrapped.last_run)


def test_collector(make: Callable[[], gymnasium.Env]) -> None:
    from torchrl.collectors import Collector
    from torchrl.envs import GymWrapper

    recorder = Recorder(make())
    env = GymWrapper(recorder).auto_register_info_dict()
    collector = Collector(env, None, frames_per_batch=ROUNDS + 1, total_frames=ROUNDS + 1)
    recorder.calls.clear()
    env.set_seed(3)
    (batch,) = collector
    rewards = batch["next", "reward"].squeeze(-1).numpy()
    last_run = recorder.unwrapped.last_run
    assert_same(make(), recorder.calls, rewards, last_run)
    assert batch["next", "report"][ROUNDS - 1, 0].tolist() == list(last_run.report.values())
    collector.shutdown()
