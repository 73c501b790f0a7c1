"""The surrogate's model: found again where it is known, ranked as it plays, and made by one command."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest

import agents
from experiments.running.policies import run_config
from experiments.weights import surrogate_runs, train_surrogate
from experiments.weights.surrogate_fit import Recordings, fit
from experiments.weights.surrogate_ranking import agreement, ordered_pairs, surrogate_returns
from experiments.weights.surrogate_runs import RandomSchedules, fit_runs, held_out_runs
from fusion_env.action import ACTION_SIZE
from fusion_env.config import preset
from fusion_env.surrogate import Surrogate, load_surrogate
from fusion_env.updates import Schedule

ID = "fusion_env:fusion_env/FusionDistillSurrogate-v0"
ROUNDS = 10


def known(count: int, noise: float) -> Recordings:
    """Runs in which guidance raises all indicators, and noise in self-learning lowers them."""
    rng, schedule = np.random.default_rng(0), Schedule("cosine", ROUNDS)
    actions = rng.uniform(-1, 1, (count, 1, ACTION_SIZE)).repeat(ROUNDS, axis=1)
    states = np.zeros((count, ROUNDS + 1, 5))
    for done in range(ROUNDS):
        guidance = 1 / (1 + np.exp(3 * (actions[:, done, 1] - actions[:, done, 0])))
        change = 0.2 * guidance - 0.1 * (1 - guidance) * (actions[:, done, 6] + 1) / 2
        drawn = change[:, None] + noise * rng.standard_normal((count, 5))
        states[:, done + 1] = states[:, done] + schedule.factor(done) * drawn
    task = Surrogate(preset("tiny"), np.full(5, 0.5), np.ones(5), tensors={}, fingerprints={})
    return Recordings(task, states, actions)


def test_known_rounds_are_found_again() -> None:
    model, explained = fit(known(100, noise=0.02), seed=0)
    assert (explained > 0.8).all()
    assert model.tensors["noise"].T @ model.tensors["noise"] == pytest.approx(np.diag([0.02**2] * 5), abs=1e-4)
    fresh = known(80, noise=0.0)
    state = model.start(80)
    for done in range(ROUNDS):
        state = model.step(state, fresh.actions[:, done], np.full(80, done), np.zeros((80, 5)))
    assert np.sqrt(np.mean((state[:, 0] - fresh.states[:, -1]) ** 2)) < 0.1 * fresh.states[:, -1].std()


def test_returns_are_those_of_the_environment() -> None:
    env = gymnasium.make(ID, noise=0.0)
    agent = agents.make("linear", env, start=-0.5, end=1.0, rounds=ROUNDS)
    model = load_surrogate()

    class Still:
        def standard_normal(self, shape: tuple[int, int]) -> np.ndarray:
            return np.zeros(shape)

    env.reset(seed=0)
    played = sum(env.step(action)[1] for action in agent.policy.action(np.arange(ROUNDS)))
    assert surrogate_returns(model, agent, Still(), runs=3) == pytest.approx([played] * 3)


def test_agreement() -> None:
    policies = [np.array([level, level + 0.1]) for level in (0.0, 1.0, 2.0, 3.0, 4.0)]
    assert agreement(policies, policies)[0] == 1
    assert agreement(policies, policies[::-1])[0] == -1
    value, low, high = agreement(policies, [policies[i] for i in (1, 0, 2, 4, 3)])
    assert value == pytest.approx(0.8)
    assert low < value < high


def test_pairs() -> None:
    policies = [np.array([level]) for level in (0.0, 0.1, 1.0, 2.0)]
    assert ordered_pairs(policies, [policies[i] for i in (1, 0, 2, 3)], apart=0.5) == (5, 5, 0, 1)
    assert ordered_pairs(policies, policies, apart=0.0) == (6, 6, 0, 0)


def test_runs_to_fit_and_to_judge_have_nothing_in_common() -> None:
    fitted, judged = fit_runs(), held_out_runs()
    assert len(judged) >= 20
    assert not fitted.keys() & judged.keys()
    configs = [[run_config(**policy) for policy in policies.values()] for policies in (fitted, judged)]
    seeds = [{config.seed for config in side} for side in configs]
    assert not seeds[0] & seeds[1]
    assert len({str(config.to_dict()) for config in configs[1]}) == len(judged)
    assert len({config.env for side in configs for config in side}) == 1


def test_random_schedules() -> None:
    class Kept(gymnasium.Wrapper):
        actions: list[np.ndarray] = []  # noqa: RUF012

        def step(self, action: np.ndarray) -> tuple:
            self.actions.append(action)
            return super().step(action)

    env = Kept(gymnasium.make(ID))
    RandomSchedules(env=env, seed=0).learn(30 * ROUNDS)
    runs = np.reshape(env.actions, (30, ROUNDS, ACTION_SIZE))
    steps = np.diff(runs, axis=1)
    assert steps == pytest.approx(steps[:, :1].repeat(ROUNDS - 1, axis=1), abs=1e-5)  # lines
    constant = (steps == 0).all((1, 2))
    assert 4 < constant.sum() < 16
    assert (abs(runs) == 1).any()
    assert len(np.unique(runs[:, 0], axis=0)) == 30


@pytest.mark.slow
def test_one_command_makes_runs_model_and_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"_SCHEDULES": 4, "_RANDOM": 1, "_LEARNED": 1, "_CONSTANTS": 1, "_LINES": 1, "_TRAINED": 1, "_JUDGED": 2}
    for name, size in sizes.items():
        monkeypatch.setattr(surrogate_runs, name, size)
    monkeypatch.setattr(surrogate_runs, "_LEARNERS", ("reinforce",))
    for name in ("student_init", "teacher"):  # the networks of `tiny` are quicker to make
        monkeypatch.delitem(surrogate_runs.SETTINGS, name)
    monkeypatch.setitem(surrogate_runs.SETTINGS, "cache_dir", str(tmp_path / "cache"))
    command = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--seed", "3"]
    assert train_surrogate.main(command) == 0
    model = load_surrogate(tmp_path / "out" / "surrogate.safetensors")
    assert model.config.rounds == ROUNDS
    assert model.config.cache_dir is None
    card = (tmp_path / "out" / "surrogate.md").read_text()
    assert "--seed 3" in card
    assert "Data: 6 runs of 10 rounds" in card
    assert "| constant-0 |" in card
    assert f"iqa `{model.fingerprints['iqa']}`" in card
    assert len(list((tmp_path / "runs").iterdir())) == 3 + 6
    before = (tmp_path / "out" / "surrogate.safetensors").read_bytes()
    assert train_surrogate.main(command) == 0  # nothing is run again
    assert (tmp_path / "out" / "surrogate.safetensors").read_bytes() == before
