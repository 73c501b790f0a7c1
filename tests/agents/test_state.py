"""A run that is stopped and continued elsewhere ends exactly as one that never stopped."""

import io
import json
import os
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

import agents
from agents import StateError, load_state, save_state
from tests.agents.continuation import STEPS, make_env, result
from tests.agents.toy import Target, Walk, falling, monitored_walk

CHECKOUT = Path(__file__).resolve().parents[2]
NAMES = tuple(name for name in agents.names() if name != "reinforce-paper")
CASES = (*((name, False) for name in NAMES), *((name, True) for name in ("a2c", "random-search", "reinforce", "sac")))
pytestmark = pytest.mark.filterwarnings("ignore:.*expect no learning")


class Stopped(Exception):
    pass


class StopHalfway(agents.CompleteStateCallback):
    """Save agent and environments at the first complete state after half of the steps, and stop."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_complete_state(self) -> None:
        if self.num_timesteps >= STEPS / 2:
            self.folder.mkdir()
            save_state(self.model, self.folder / "agent.pt")
            envs = self.training_env.unwrapped.envs
            saved = {
                "states": [one.unwrapped.state_dict() for one in envs],
                "actions": [[action.tolist() for action in one.unwrapped.log] for one in envs],
            }
            (self.folder / "env.json").write_text(json.dumps(saved))
            raise Stopped


def make_agent(name: str, env) -> agents.Reinforce:
    """An agent with a falling learning rate, where it has one."""
    schedule = {"learning_rate": falling} if "learning_rate" in agents.hyperparams(name) else {}
    ends = {"start": -0.5, "end": 0.5, "rounds": 7} if name == "linear" else {}
    return agents.make(name, env, seed=0, **schedule, **ends)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[dict[str, dict], Path]:
    """Uninterrupted results by case, and the folder with those of runs continued in another process."""
    folder, whole = tmp_path_factory.mktemp("states"), {}
    for name, normalised in CASES:
        if name == "tqc" and not find_spec("sb3_contrib"):
            continue
        case = f"{name}@{'normalised' if normalised else 'plain'}"
        env = make_env(normalised)
        whole[case] = result(make_agent(name, env).learn(STEPS), env, [[], []])
        with pytest.raises(Stopped):
            make_agent(name, make_env(normalised)).learn(STEPS, callback=StopHalfway(folder / case))
    command = [sys.executable, "-m", "tests.agents.continuation", str(folder)]
    subprocess.run(command, cwd=CHECKOUT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
    return whole, folder


def assert_equal(first, second, where: str) -> None:
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert set(first) == set(second), where
        for key in first:
            assert_equal(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_equal(one, other, f"{where}[{index}]")
    else:
        assert first == second, where


@pytest.mark.slow
@pytest.mark.parametrize(("name", "normalised"), CASES)
def test_another_process_continues_exactly(runs, name, normalised):
    if name == "tqc":
        pytest.importorskip("sb3_contrib")
    whole, folder = runs
    case = f"{name}@{'normalised' if normalised else 'plain'}"
    assert_equal(whole[case], torch.load(folder / case / "result.pt", weights_only=False), case)


def both_halves(name: str, **settings):
    """Return (uninterrupted agent, continued agent, their environments) for a plain environment, not a vector one."""
    whole_env, first_env, second_env = Walk(), Walk(), Walk()
    whole = agents.make(name, whole_env, seed=0, **settings).learn(40)
    first = agents.make(name, first_env, seed=0, **settings).learn(20)
    file = io.BytesIO()
    save_state(first, file)
    second_env.reset(seed=99)
    second_env.load_state_dict(first_env.state_dict())
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    first.action_space.sample()
    file.seek(0)
    second = load_state(name, file, second_env).learn(20, reset_num_timesteps=False)
    return whole, second, np.array(whole_env.log), np.array(first_env.log + second_env.log)


@pytest.mark.parametrize(
    # Two calls make the rollouts of one where these fit into both.
    ("name", "settings"),
    [("ppo", {"n_steps": 5, "batch_size": 5}), ("td3", {}), ("linear", {})],
)
def test_a_plain_environment_is_not_reset(name, settings):
    whole, second, actions, continued = both_halves(name, **settings)
    np.testing.assert_array_equal(actions, continued)
    assert_equal(whole.get_parameters(), second.get_parameters(), name)
    assert [info["r"] for info in whole.ep_info_buffer] == [info["r"] for info in second.ep_info_buffer]


def test_noise_with_a_memory_goes_on():
    noise = [OrnsteinUhlenbeckActionNoise(np.zeros(2), np.full(2, 0.3), dt=0.5) for _ in range(2)]
    whole, split = Walk(length=100), Walk(length=100)
    agents.make("td3", whole, action_noise=noise[0], seed=0).learn(40)
    agents.make("td3", split, action_noise=noise[1], seed=0).learn(20).learn(20, reset_num_timesteps=False)
    np.testing.assert_array_equal(whole.log, split.log)
    _, _, actions, continued = both_halves("td3", action_noise=noise[0])
    np.testing.assert_array_equal(actions, continued)


def test_a_full_replay_buffer():
    _, second, actions, continued = both_halves("sac", buffer_size=16)
    np.testing.assert_array_equal(actions, continued)
    assert second.replay_buffer.full


def test_a_memory_saving_replay_buffer():
    settings = {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}}
    whole, second, actions, continued = both_halves("sac", **settings)
    np.testing.assert_array_equal(actions, continued)
    assert_equal(whole.get_parameters(), second.get_parameters(), "sac")


def test_only_the_filled_part_of_the_buffer_is_saved():
    agent = agents.make("sac", Walk(), buffer_size=1_000_000, seed=0).learn(20)
    file = io.BytesIO()
    save_state(agent, file)
    assert file.getbuffer().nbytes < 300_000


def test_neither_loading_nor_learning_on_resets_or_seeds():
    class Guarded(Walk):
        locked, seed = False, None

        def reset(self, *, seed=None, options=None):
            assert not self.locked
            self.seed = seed
            return super().reset(seed=seed, options=options)

    agent = agents.make("sac", Walk(100), seed=0).learn(20)
    file, env = io.BytesIO(), DummyVecEnv([lambda: Guarded(100)])
    save_state(agent, file)
    env.reset()
    env.envs[0].locked = True
    env.seed(7)
    file.seek(0)
    loaded = load_state("sac", file, env)
    assert loaded.seed == 0
    loaded.learn(10, reset_num_timesteps=False)
    env.envs[0].locked = False
    env.reset()
    assert env.envs[0].seed == 7


def test_before_the_first_step():
    envs = [Walk(), Walk()]
    agent, file = agents.make("reinforce", envs[0], seed=3), io.BytesIO()
    save_state(agent, file)
    agent.learn(10)
    file.seek(0)
    load_state("reinforce", file, envs[1]).learn(10)
    np.testing.assert_array_equal(envs[0].log, envs[1].log)


def test_vec_monitor_and_vec_normalize_go_on():
    def wrapped():
        return VecNormalize(VecMonitor(DummyVecEnv([lambda: Walk(7)])))

    whole, first, second = wrapped(), wrapped(), wrapped()
    agent = agents.make("constant", whole, seed=0).learn(17)
    half, file = agents.make("constant", first, seed=0).learn(10), io.BytesIO()
    save_state(half, file)
    second.reset()
    second.unwrapped.envs[0].unwrapped.load_state_dict(first.unwrapped.envs[0].unwrapped.state_dict())
    file.seek(0)
    loaded = load_state("constant", file, second).learn(7, reset_num_timesteps=False)
    assert [info["r"] for info in agent.ep_info_buffer] == [info["r"] for info in loaded.ep_info_buffer]
    np.testing.assert_array_equal(whole.returns, second.returns)
    observations = [env.normalize_obs(env.get_original_obs()) for env in (whole, second)]
    np.testing.assert_array_equal(*observations)


def test_the_file_is_plain_data_but_for_the_archive(tmp_path):
    save_state(agents.make("sac", Walk(), seed=0).learn(20), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert set(state) == {"version", "algorithm", "archive", "replay_buffer", "environment", "generators"}
    assert state["archive"].numpy().tobytes().startswith(b"PK")


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    agent = agents.make("constant", Walk(), seed=0).learn(5)
    save_state(agent, path)
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_state(agent, path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["state.pt"]


class TestErrors:
    @pytest.fixture
    def path(self, tmp_path) -> Path:
        path = tmp_path / "folder" / "state.pt"
        save_state(agents.make("constant", Walk(), seed=0).learn(5), path)
        return path

    def test_another_algorithm(self, path):
        with pytest.raises(StateError, match="agents.schedules:Constant, not of 'linear'"):
            load_state("linear", path, Walk())

    def test_another_wrapping(self, path):
        with pytest.raises(StateError, match="a VecNormalize, the saved one had none"):
            load_state("constant", path, VecNormalize(DummyVecEnv([monitored_walk])))

    def test_another_number_of_environments(self, path):
        with pytest.raises(StateError, match=r"had 1 environment\(s\). Got 2"):
            load_state("constant", path, DummyVecEnv([monitored_walk, monitored_walk]))

    def test_other_spaces(self, path):
        with pytest.raises(ValueError, match="spaces do not match"):
            load_state("constant", path, Target(dims=5))

    def test_another_version(self, path):
        state = torch.load(path, weights_only=True)
        torch.save({**state, "version": 99}, path)
        with pytest.raises(StateError, match="version 99"):
            load_state("constant", path, Walk())

    @pytest.mark.parametrize("content", [b"", b"nonsense", None])
    def test_damaged(self, path, content):
        path.write_bytes(path.read_bytes()[:2000] if content is None else content)
        with pytest.raises(StateError, match=r"state\.pt"):
            load_state("constant", path, Walk())

    def test_missing(self, tmp_path):
        with pytest.raises(StateError, match=r"none\.pt cannot be opened"):
            load_state("constant", tmp_path / "none.pt", Walk())

    def test_gsde(self):
        with pytest.raises(StateError, match="use_sde"):
            save_state(agents.make("sac", Walk(), use_sde=True), io.BytesIO())

    def test_without_environment(self, tmp_path):
        agents.make("constant", Walk()).save(tmp_path / "agent.zip")
        with pytest.raises(StateError, match="without an environment"):
            save_state(agents.Constant.load(tmp_path / "agent.zip"), io.BytesIO())


class Snapshots(BaseCallback):
    def __init__(self) -> None:
        super().__init__()
        self.file, self.env = io.BytesIO(), None

    def _on_step(self) -> bool:
        if self.num_timesteps == 9:
            save_state(self.model, self.file)
            self.env = self.training_env.envs[0].unwrapped.state_dict()
        return True


def test_reinforce_can_be_saved_inside_a_step():
    snapshot, whole, second = Snapshots(), Walk(), Walk()
    agent = agents.make("reinforce", Monitor(whole), seed=0).learn(20, callback=snapshot)
    second.reset()
    second.load_state_dict(snapshot.env)
    snapshot.file.seek(0)
    loaded = load_state("reinforce", snapshot.file, second).learn(11, reset_num_timesteps=False)
    np.testing.assert_array_equal(whole.log[9:], second.log)
    assert_equal(agent.get_parameters(), loaded.get_parameters(), "reinforce")
