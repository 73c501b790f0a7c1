"""The arithmetic of the study of late effects on made-up rewards, and real runs on the preset tiny."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from experiments.studies.late_effects import held_constants, late_effects, main
from experiments.studies.late_effects_page import Held, correlation, page
from fusion_env.action import ACTION_NAMES, STRENGTHS, decode_action
from fusion_env.config import DistillConfig, preset
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError
from fusion_env.task import build_task


def made_up(rewards: np.ndarray, weights: list[float]) -> list[dict]:
    """Rows of rewards [draws, actions, rounds]; the strength of blur rises with the action, nothing else acts."""
    facts = {one.name: -1.0 for one in STRENGTHS}
    return [
        {"seed": 1000 + draw, "name": f"action {action}", "round": number + 1, "reward_gap": float(paid)}
        | {**facts, "blur": action / 10, "guidance_weight": weights[action]}
        for (draw, action, number), paid in np.ndenumerate(rewards)
    ]


def test_constants_of_all_kinds() -> None:
    held = held_constants(24, 3.0)
    assert len(held) == 24
    assert next(iter(held)) == "most guidance"
    decoded = [decode_action(action) for action in held.values()]
    assert {round(weights.guidance, 3) for weights, _ in decoded} == {0.9, 0.7, 0.5, 0.3, 0.998}
    for one in STRENGTHS:
        alone = [name for name in held if name.startswith(one.name)]
        assert {name.split()[1] for name in alone} == {"light,", "strong,"}
    assert len(held_constants(49, 3.0)) == 49
    for count in (3, 50):
        with pytest.raises(ConfigError, match=f"actions must be in 4..49. Got {count}"):
            held_constants(count, 3.0)


def test_correlations_are_means_over_draws() -> None:
    up = np.arange(5.0)
    found = correlation(np.stack([up, up]), np.stack([up**3, -up]))
    assert found.value == pytest.approx(0)  # 1 in one draw, -1 in the other
    same = correlation(up[None], np.exp(up)[None])
    assert (same.value, same.low, same.high) == pytest.approx((1, 1, 1))
    assert np.isnan(correlation(up[None], np.ones((1, 5))).value)
    rng = np.random.default_rng(0)
    signal, outcome = rng.normal(size=(2, 3, 12))
    found = correlation(signal, outcome)
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(signal, outcome, strict=True)]
    assert found.value == pytest.approx(np.mean(expected))
    assert found.low < found.value < found.high
    assert found == correlation(signal, outcome)


def test_intervals_hold_for_other_actions() -> None:
    """An action's draws are drawn together: a second draw that repeats the first one does not narrow the interval."""
    signal, outcome = np.random.default_rng(1).normal(size=(2, 1, 12))
    assert correlation(signal, outcome) == correlation(signal.repeat(2, 0), outcome.repeat(2, 0))


def test_what_shows_late() -> None:
    """Early rewards rank the actions the wrong way round, the last ones follow the guidance weight."""
    weights = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    early, late = -np.arange(6.0), np.arange(6.0)
    one = np.stack([early, early, 2 * late], axis=1)
    held = Held.of(made_up(np.stack([one, one + 1])[::-1], weights))
    assert held.paid.shape == (2, 6, 3)
    assert held.first(2)[1] == pytest.approx(early)
    assert held.first(3)[1] == pytest.approx(np.zeros(6))
    assert held.behind(1) == 10  # action 0 leads and ends at 0, the best at 10
    assert held.behind(3) == 0
    assert held.between_draws(1).value == pytest.approx(1)
    assert list(held.imitating().actions.index) == [f"action {number}" for number in (2, 3, 4, 5)]
    assert held.imitating().final.tolist() == held.final[:, 2:].tolist()
    text = page("title", held)
    assert (
        "reward with the last one's: -1.00 [-1.00, -1.00]**; of the last one's with that of another draw: 1.00" in text
    )
    assert "| 1 | -1.00 [-1.00, -1.00] | -1.00 [-1.00, -1.00] | 1.00 [1.00, 1.00] | 10.0000 |" in text
    assert "| 3 | 1.00 [1.00, 1.00] | - | 1.00 [1.00, 1.00] | 0.0000 |" in text
    assert "| guidance weight | -1.00 [-1.00, -1.00] | 1.00 [1.00, 1.00] |" in text
    assert "| strength of noise | - | - |" in text
    assert "## All actions: 6 actions" in text
    assert "## Guidance weight of 0.5 or more: 4 actions" in text


def tiny(cache: str, **changes: object) -> DistillConfig:
    return preset("tiny", rounds=3, batch_size=1, score_crops=1, cache_dir=cache, threads=1).replace(**changes)


def test_runs_are_paid_as_the_environment_pays_and_read_again(cache: str, tmp_path: Path) -> None:
    config = tiny(cache, reward="gap_delta")
    rows = late_effects(config, tmp_path, actions=4, draws=2)
    frame = pd.DataFrame(rows)
    assert frame.groupby(["seed", "name"])["round"].apply(list).tolist() == [[1, 2, 3]] * 8
    assert (frame["seed"] == frame["stage0_seed"]).all()
    assert (frame["seed"] == frame["data_seed"]).all()

    env = FusionDistillEnv.from_task(build_task(config.replace(reward="gap", stage0_seed=1001, data_seed=1001)))
    env.reset(seed=1001)
    name, action = list(held_constants(4, config.logit_scale).items())[-1]
    own = frame[(frame["seed"] == 1001) & (frame["name"] == name)]
    assert own["reward_gap"].tolist() == [env.step(action)[1] for _ in range(3)]
    assert own[list(ACTION_NAMES)].to_numpy().tolist() == [list(action)] * 3
    result = env.last_run
    assert result is not None
    assert own["last_report_gap"].unique() == [result.last_report["e"] - result.teacher_report["e"]]
    assert own["best_report_gap"].unique() == [result.report["e"] - result.teacher_report["e"]]

    path = tmp_path / "runs.csv"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[: 1 + 3 * 6 + 2]))  # six runs and part of one
    assert late_effects(config, tmp_path, actions=4, draws=2) == rows
    assert path.read_text() == whole
    with pytest.raises(ConfigError, match="holds runs of other settings, data or networks: choose another --out"):
        late_effects(config.replace(learning_rate=0.001), tmp_path, actions=4, draws=2)
    lines = whole.splitlines(keepends=True)
    path.write_text("".join([*lines[:2], lines[1], *lines[3:], lines[-1]]))  # one round in place of another, one twice
    assert late_effects(config, tmp_path, actions=4, draws=2) == rows
    assert sorted(path.read_text().splitlines(keepends=True)) == sorted(lines)
    frame.assign(blur=0.5).to_csv(path, index=False)
    with pytest.raises(ConfigError, match="holds 'most guidance' with other actions: choose another --out"):
        late_effects(config, tmp_path, actions=4, draws=2)
    path.write_text(whole.replace("reward_gap", "reward"))
    with pytest.raises(ConfigError, match="has no column 'reward_gap'"):
        late_effects(config, tmp_path, actions=4, draws=2)


def test_diverged_runs_lose_their_rounds(cache: str, tmp_path: Path) -> None:
    config = tiny(cache, stage0_rounds=0, learning_rate=1e30, divergence_reward=-2.0)
    rows = late_effects(config, tmp_path, actions=4, draws=2)
    assert len(rows) == 4 * 2 * 3
    assert all(row["diverged"] for row in rows)
    assert {row["reward_gap"] for row in rows if row["round"] > 1} == {-2.0}


def test_actions_that_a_small_scale_cannot_have(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"guidance must be in 0.2689..0.7311 at logit_scale=0.5"):
        late_effects(preset("tiny", logit_scale=0.5), tmp_path)


def test_one_draw(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="draws must be at least 2. Got 1"):
        late_effects(preset("tiny"), tmp_path, draws=1)


@pytest.mark.slow
def test_the_command(cache: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--actions", "5", "--draws", "2", "--rounds", "3", "--batch-size", "1", "--score-crops", "1"]
    common = ["--preset", "tiny", "--cache-dir", cache, "--threads", "1", *small]
    assert main([*common, "--out", str(tmp_path / "one")]) == 0
    text = (tmp_path / "one" / "late_effects.md").read_text()
    assert text in capsys.readouterr().out
    assert "Settings of preset tiny; 5 constant actions x 2 draws, runs of 3 rounds." in text
    assert np.asarray(Image.open(tmp_path / "one" / "late_effects.png")).std() > 10
    assert main([*common, "--workers", "2", "--out", str(tmp_path / "two")]) == 0
    one, two = ((tmp_path / name / "runs.csv").read_text().splitlines() for name in ("one", "two"))
    assert sorted(one) == sorted(two)
