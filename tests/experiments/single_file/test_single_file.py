"""PPO and SAC in one file each: they read every autoreset mode right, learn, and train the student."""

import copy
import csv
from pathlib import Path
from types import ModuleType

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from experiments.single_file import ppo, sac
from tests.agents.toy import Target

TINY = "fusion_env:fusion_env/FusionDistillTiny-v0"
SHORT = '{"rounds": 5, "threads": 1}'
BOTH = pytest.mark.parametrize("module", [ppo, sac], ids=["ppo", "sac"])
MODES = pytest.mark.parametrize("mode", AutoresetMode)


class Counter(gymnasium.Env):
    """The observation is the number of steps; the third step ends the episode, by truncation if it began as such."""

    observation_space = gymnasium.spaces.Box(0, 10, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 4, (1,), np.float32)

    def __init__(self, truncates: bool) -> None:
        self.truncates = truncates
        self.actions: list[float] = []

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.count = 0
        return np.array([0], np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.count += 1
        self.actions.append(float(action[0]))
        ended = self.count == 3
        return np.array([self.count], np.float32), 1.0, ended and not self.truncates, ended and self.truncates, {}


def counters(mode: AutoresetMode) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: Counter(True), lambda: Counter(False)], autoreset_mode=mode)


@BOTH
@MODES
def test_steps_are_the_same_in_every_autoreset_mode(module: ModuleType, mode: AutoresetMode) -> None:
    episodes: list[dict] = []
    envs = counters(mode)
    player = module.Player(envs, 0, episodes.append)
    rows = [player.step(torch.full((2, 1), 0.5)) for _ in range(8)]
    for index in range(2):
        real = [row for row in rows if row.real[index]]
        moves = [(int(row.obs[index]), int(row.next_obs[index])) for row in real]
        assert moves == ([(0, 1), (1, 2), (2, 3)] * 3)[: len(moves)]
        assert len(moves) == (6 if mode is AutoresetMode.NEXT_STEP else 8)
        assert [bool(row.done[index]) for row in real] == [move == (2, 3) for move in moves]
        assert [bool(row.terminated[index]) for row in real] == [move == (2, 3) and index == 1 for move in moves]
    assert envs.envs[0].actions[0] == 2.5  # 0.5 of [-1, 1] in [-2, 4]
    assert [(row["env"], row["return"], row["length"]) for row in episodes] == [(0, 3, 3), (1, 3, 3)] * 2
    assert player.steps == sum(int(row.real.sum()) for row in rows)


@MODES
def test_advantages_go_on_after_a_truncation_only(mode: AutoresetMode) -> None:
    policy = ppo.Policy(1, 1)
    policy.value = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False))
    torch.nn.init.constant_(policy.value[0].weight, 10)  # known values: 10 for each step taken
    player = ppo.Player(counters(mode), 0, lambda _: None)
    rollout = ppo.Step(*map(torch.stack, zip(*(player.step(torch.zeros(2, 1)) for _ in range(4)), strict=True)))
    found, target = ppo.advantages(policy, rollout, ppo.Settings(gamma=0.5, gae_lambda=0.5))
    # delta = 1 + 0.5 * next value - value; advantage = delta + 0.25 * the next one
    truncated, terminated = [6.0, 1.0, -4.0], [6.0, 1.0, -19.0]
    for index, (first, second, third) in enumerate([truncated, terminated]):
        second += 0.25 * third
        expected = torch.tensor([first + 0.25 * second, second, third])
        assert torch.allclose(found[:3, index], expected)
        assert torch.allclose(target[:3, index], expected + torch.tensor([0.0, 10.0, 20.0]))


def test_targets_go_on_after_a_truncation_only() -> None:
    learner = sac.Learner(1, 1, sac.Settings(gamma=0.5))
    with torch.no_grad():
        learner.log_alpha.fill_(-30)
    learner.target.forward = lambda obs, action: torch.stack([10 * obs[:, 0], 8 * obs[:, 0]])
    obs, ended = torch.tensor([[3.0], [3.0]]), torch.tensor([False, True])
    batch = sac.Step(obs, obs, torch.ones(2), obs, ended, torch.ones(2, dtype=torch.bool), torch.ones(2))
    assert torch.allclose(learner.targets(batch), torch.tensor([13.0, 1.0]))


def test_the_density_of_sac_is_that_of_the_squashed_action() -> None:
    policy = sac.Policy(1, 1)
    torch.manual_seed(0)
    action, log_prob = policy(torch.zeros(4000, 1))
    with torch.no_grad():
        share = (action.abs() < 0.25).float().mean()
        inside = (1 / (0.5 * log_prob[action.abs().squeeze() < 0.25].exp())).mean() * share
    assert inside == pytest.approx(1, abs=0.1)  # the mean of 1 / (width * density) over the samples of an interval


@pytest.mark.slow
@pytest.mark.parametrize(("module", "num_envs"), [(ppo, 1), (sac, 2)], ids=["ppo", "sac"])
def test_the_return_rises(module: ModuleType, num_envs: int) -> None:
    episodes: list[dict] = []
    envs = SyncVectorEnv([Target] * num_envs)
    module.train(envs, module.Settings(total_steps=1200 if module is ppo else 300, seed=1), episodes.append)
    returns = [row["return"] for row in episodes]
    assert np.mean(returns[-8:]) > 0.5 * np.mean(returns[:8])  # both negative; 0 is perfect


@BOTH
def test_the_same_seed_gives_the_same_returns(module: ModuleType) -> None:
    def run(seed: int) -> list[dict]:
        episodes: list[dict] = []
        module.train(SyncVectorEnv([Target] * 2), module.Settings(total_steps=40, seed=seed), episodes.append)
        return episodes

    assert run(0) == run(0) != run(1)


@BOTH
@pytest.mark.slow
def test_policy_and_student_change(module: ModuleType) -> None:
    settings = module.Settings(env_id=TINY, env_settings=SHORT, num_envs=2, total_steps=20)
    envs = module.make_envs(settings)
    torch.manual_seed(settings.seed)
    sizes = envs.single_observation_space.shape[0], envs.single_action_space.shape[0]
    first = module.Policy(*sizes) if module is ppo else module.Learner(*sizes, settings).policy
    episodes: list[dict] = []
    policy = module.train(envs, settings, episodes.append)
    assert len(episodes) >= 2
    assert any(not torch.equal(old, new) for old, new in zip(first.parameters(), policy.parameters(), strict=True))
    for env in envs.envs:
        start, last = env.unwrapped.task.stage0, env.unwrapped.last_run
        assert any(not torch.equal(start[name].cpu(), last.student[name]) for name in last.student)


@BOTH
@pytest.mark.slow
def test_as_a_program(module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "new" / "episodes.csv"
    options = ["--env-id", TINY, "--env-settings", SHORT, "--total-steps", "15"]
    assert module.main([*options, "--out", str(out)]) == 0
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 2
    assert float(rows[-1]["policy_loss"]) != 0
    assert "student 0: e " in capsys.readouterr().out


@BOTH
def test_what_cannot_be_learnt_is_refused(module: ModuleType) -> None:
    with pytest.raises(ValueError, match="total_steps"):
        module.train(SyncVectorEnv([Target]), module.Settings(total_steps=4))
    discrete = gymnasium.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
    with pytest.raises(TypeError, match="one-dimensional Box spaces. Got Discrete"):
        module.train(discrete, module.Settings())
    pieces = copy.copy(counters(AutoresetMode.SAME_STEP))
    pieces.metadata = {}
    with pytest.raises(ValueError, match="autoreset_mode"):
        module.train(pieces, module.Settings())


@BOTH
@pytest.mark.slow
def test_asynchronous_environments(module: ModuleType) -> None:
    def run(kind: type, **how: str) -> list[dict]:
        episodes: list[dict] = []
        envs = kind([Target] * 2, autoreset_mode=AutoresetMode.SAME_STEP, **how)
        module.train(envs, module.Settings(total_steps=40), episodes.append)
        envs.close()
        return episodes

    # Not forked from this process, in which earlier tests may have left threads that hold locks.
    assert run(AsyncVectorEnv, context="spawn") == run(SyncVectorEnv)
