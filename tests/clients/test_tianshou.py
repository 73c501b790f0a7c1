"""Tianshou: the collector, in one process and in forked ones."""

from collections.abc import Callable

import gymnasium
import pytest
from torch.distributions import Distribution, Independent, Normal

from tests.clients.plain_loop import ROUNDS, assert_same


def _gaussian(parameters: tuple) -> Distribution:
    return Independent(Normal(*parameters), 1)


@pytest.mark.slow
@pytest.mark.parametrize("vector", ["DummyVectorEnv", "SubprocVectorEnv"])
def test_collector(vector: str, make: Callable[[], gymnasium.Env]) -> None:
    pytest.importorskip("tianshou", reason="needs the extra [clients]")
    import tianshou.env
    from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
    from tianshou.data import Collector, VectorReplayBuffer
    from tianshou.utils.net.common import Net
    from tianshou.utils.net.continuous import ContinuousActorProbabilistic

    single = make()
    policy = ProbabilisticActorPolicy(
        actor=ContinuousActorProbabilistic(
            preprocess_net=Net(state_shape=single.observation_space.shape, hidden_sizes=[8]),
            action_shape=single.action_space.shape,
            unbounded=True,
        ),
        dist_fn=_gaussian,
        action_space=single.action_space,
    )
    envs = getattr(tianshou.env, vector)([make] * 2)
    buffer = VectorReplayBuffer(2 * ROUNDS, 2)
    collector = Collector(policy, envs, buffer)
    collector.reset(gym_reset_kwargs={"seed": 3})  # both with the same seed
    collector.collect(n_step=2 * ROUNDS)
    left = [env.last_run for env in envs.get_env_attr("unwrapped")]
    envs.close()
    for part, last_run in zip(buffer.buffers, left, strict=True):
        assert_same(make(), [3, *policy.map_action(part.act)], part.rew, last_run)
        assert part.info.report[-1, 0].tolist() == list(last_run.report.values())
