"""skrl: the sequential trainer, which steps without gradients."""

from collections.abc import Callable

import gymnasium
import pytest

from tests.clients.plain_loop import ROUNDS, Recorder, assert_same

STEPS = 2 * ROUNDS

pytestmark = pytest.mark.slow


def test_trainer(make: Callable[[], gymnasium.Env]) -> None:
    pytest.importorskip("skrl", reason="needs the extra [clients]")
    from skrl.envs.wrappers.torch import wrap_env
    from skrl.utils.runner.torch import Runner

    network = [{"name": "net", "input": "OBSERVATIONS", "layers": [8], "activations": "tanh"}]
    recorder = Recorder(make())
    runner = Runner(
        wrap_env(recorder, verbose=False),
        {
            "seed": 3,
            "models": {
                "separate": True,
                "policy": {"class": "GaussianMixin", "network": network, "output": "ACTIONS"},
                "value": {"class": "DeterministicMixin", "network": network, "output": "ONE"},
            },
            "memory": {"class": "RandomMemory", "memory_size": -1},
            "agent": {
                "class": "PPO",
                "rollouts": STEPS,
                "experiment": {"write_interval": 0, "checkpoint_interval": 0},
            },
            "trainer": {
                "class": "SequentialTrainer",
                "timesteps": STEPS,
                "headless": True,
                "disable_progressbar": True,
                "close_environment_at_exit": False,
            },
        },
    )
    runner.run()
    rewards = runner.agent.memory.get_tensor_by_name("rewards").flatten().numpy()
    assert_same(make(), recorder.calls, rewards, recorder.unwrapped.last_run)
