"""The policy of REINFORCE: its distribution, its bounds, its file."""

import numpy as np
import pytest
import torch

from agents import GaussianPolicy, Reinforce, make
from tests.agents.toy import Target

pytestmark = pytest.mark.filterwarnings("ignore:.*expect no learning")


def test_standard_deviation_and_mean_stay_inside_their_bounds():
    policy = Reinforce("MlpPolicy", Target(), seed=0).policy
    for shift in (-1e4, 1e4):
        with torch.no_grad():
            policy.head.bias.fill_(shift)
        normal = policy.distribution(torch.ones(4, 3))
        assert ((normal.stddev >= 0.05 - 1e-6) & (normal.stddev <= 1 + 1e-6)).all()
        assert (normal.mean.abs() <= 1.2 + 1e-6).all()


def test_mean_and_standard_deviation_depend_on_the_state():
    agent = Reinforce("MlpPolicy", Target(), seed=0)
    normal = agent.policy.distribution(torch.tensor([[1.0, 0.0, -1.0], [-5.0, 3.0, 2.0]]))
    assert (normal.mean[0] != normal.mean[1]).all()
    assert (normal.stddev[0] != normal.stddev[1]).all()


@pytest.mark.parametrize("mean", [-0.5, [0.25, -0.75]])
def test_initial_mean_and_std(mean):
    agent = Reinforce("MlpPolicy", Target(), initial_mean=mean, initial_std=0.3, seed=0)
    normal = agent.policy.distribution(torch.zeros(1, 3))
    np.testing.assert_allclose(normal.mean.detach()[0], np.broadcast_to(mean, 2), atol=0.02)
    np.testing.assert_allclose(normal.stddev.detach(), 0.3, atol=0.02)


def test_deterministic_prediction_is_the_clipped_mean():
    agent = Reinforce("MlpPolicy", Target(), initial_mean=[1.1, -0.2], seed=0)
    obs = np.array([1.0, 0.0, -1.0], np.float32)
    mean = agent.policy.distribution(torch.as_tensor(obs)[None]).mean.detach().numpy()[0]
    action, state = agent.predict(obs, deterministic=True)
    assert state is None
    np.testing.assert_array_equal(action, np.clip(mean, -1, 1))
    assert action[0] == 1.0
    assert agent.predict(np.stack([obs, obs]), deterministic=True)[0].shape == (2, 2)


def test_actions_are_scaled_to_the_bounds_of_the_space():
    env = Target(bound=10.0)
    agent = Reinforce("MlpPolicy", env, initial_mean=0.5, seed=0).learn(50)
    assert np.abs(env.actions).max() > 5
    agent = Reinforce("MlpPolicy", env, initial_mean=0.5, seed=0)
    np.testing.assert_allclose(agent.predict(np.zeros(3, np.float32), deterministic=True)[0], 5, atol=0.2)


def test_samples_have_the_stated_distribution():
    policy = Reinforce("MlpPolicy", Target(), seed=0).policy
    obs = torch.ones(1, 3).expand(20000, 3)
    sample, normal = policy.sample(obs, policy.stream), policy.distribution(obs[:1])
    torch.testing.assert_close(sample.mean(0), normal.mean.detach()[0], atol=0.02, rtol=0)
    torch.testing.assert_close(sample.std(0), normal.stddev.detach()[0], atol=0.02, rtol=0)


def test_policy_file(tmp_path):
    policy = Reinforce("MlpPolicy", Target(), initial_mean=0.3, policy_kwargs={"net_arch": (16,)}, seed=0).policy
    policy.save(str(tmp_path / "policy.pt"))
    loaded = GaussianPolicy.load(str(tmp_path / "policy.pt"), device="cpu")
    obs = np.ones(3, np.float32)
    np.testing.assert_array_equal(
        policy.predict(obs, deterministic=True)[0], loaded.predict(obs, deterministic=True)[0]
    )


def test_runs_on_every_device(device):
    agent = make("reinforce", Target(), seed=0, device=device).learn(12)
    assert agent.policy.device.type == device
    assert np.isfinite(agent.policy.parameters_to_vector()).all()
