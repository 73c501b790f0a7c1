"""The planner as a policy of runs."""

from pathlib import Path

import numpy as np
import pytest

import agents
from experiments.running.policies import policy_setup
from fusion_env.action import decode_action
from fusion_env.config import preset
from fusion_env.env import FusionDistillEnv

SMALL = ["--agent-settings", "candidates=4", "lookahead=2", "execute=2"]
pytestmark = pytest.mark.filterwarnings("ignore:.*expect no learning")


def test_where_it_starts_and_what_it_always_tries() -> None:
    setup = policy_setup("planner", preset("tiny", logit_scale=2.0))
    assert not setup.learns
    weights = [
        decode_action(action, logit_scale=2.0)[0].guidance
        for action in (setup.settings["start"], *setup.settings["anchors"])
    ]
    assert weights == pytest.approx([0.9, 1 / (1 + np.exp(-4)), 0.5])
    assert decode_action(setup.settings["anchors"][0])[1] == decode_action([-1.0] * 7)[1], "without degradation"


@pytest.mark.slow
def test_both_protocols(finished, tmp_path: Path) -> None:
    online = finished(tmp_path / "online", "--algo", "planner", "--rounds", "3", *SMALL)
    frozen = ["--protocol", "across", "--eval-runs", "2"]
    across = finished(tmp_path / "across", "--algo", "planner", "--rounds", "3", *frozen, *SMALL)
    once = 4 * (2 + 1)
    assert online.summary.read()["planning_rounds"] == online.learning.read()["planning_rounds"] == once
    assert across.summary.read()["planning_rounds"] == 2 * once
    assert [run["planning_rounds"] for run in across.evaluation.read()] == [once] * 2
    rows = across.rounds.read()
    assert [row["run"] for row in rows] == ["0"] * 3 + ["1"] * 3
    assert rows[0]["action_blur"] == rows[1]["action_blur"]


@pytest.mark.slow
def test_beats_a_bad_start_and_leaves_the_environment_alone() -> None:
    env = FusionDistillEnv("tiny", rounds=4, batch_size=1, score_crops=1, threads=1)
    bad = [-1.0, *[1.0] * 6]  # nothing is learnt from the teacher, and everything is degraded
    agents.make("constant", env, seed=0, action=bad).learn(4)
    constant = env.last_run
    planner = agents.make("planner", env, seed=0, start=bad, lookahead=2, execute=2).learn(4)
    assert planner.planning_rounds == 8 * 4
    planned = env.last_run
    assert planned.rewards[-1] > constant.rewards[-1]
    env.reset(seed=0)
    for action in planned.actions:
        env.step(action)
    assert env.last_run.rewards == planned.rewards, "planning has drawn nothing from the environment's streams"
