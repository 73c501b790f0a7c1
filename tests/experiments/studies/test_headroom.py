"""The arithmetic of the headroom study on made-up runs, and real ones on the preset tiny."""

import itertools
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.studies import trials as trials_module
from experiments.studies.headroom import Budget, headroom, main, named_constants
from experiments.studies.headroom_page import best_found, difference, page
from experiments.studies.trials import (
    CONSTANT,
    GUIDANCE_ONLY,
    METRICS,
    MOST_GUIDANCE,
    PLANNER,
    SCHEDULE,
    Stratum,
    Trial,
    Trials,
    ends,
    row_stratum,
)
from fusion_env.action import ACTION_NAMES, decode_action
from fusion_env.config import DistillConfig, preset
from fusion_env.errors import ConfigError, MissingRequirementsError

CONFIG = preset("tiny", rounds=3)
BUDGET = Budget(constants=4, keep=3, choice=2, strata=5, search="random", schedules=7, population=3)
BEST_START, BEST_END = np.linspace(0.5, -0.5, 7), np.linspace(0, 0.9, 7)


def made_up(job: tuple[DistillConfig, Trial]) -> trials_module.Finished:
    """Pay for being near a known schedule; the reward split has luck of its own in every run."""
    config, trial = job
    stratum = trial.stratum
    luck = np.random.default_rng([stratum.seed, *trial.name.encode(), len(trial.kind)]).normal(0, 0.3, 2)
    far = np.abs(np.array(trial.start) - BEST_START).sum() + np.abs(np.array(trial.end) - BEST_END).sum()
    gap = -0.1 * far + 0.5 * (trial.kind == PLANNER) + 0.01 * stratum.data_seed
    named = {"kind": trial.kind, "name": trial.name, **vars(stratum)}
    gaps = {"best_reward_gap": gap + luck[0], "best_report_gap": gap + luck[1], "last_reward_gap": gap - 1.0}
    row = {
        "task": trials_module.task_key(config, stratum),
        **named,
        **{f"start_{name}": value for name, value in zip(ACTION_NAMES, trial.start, strict=True)},
        **{f"end_{name}": value for name, value in zip(ACTION_NAMES, trial.end, strict=True)},
        **{
            "best_round": 2,
            "rounds": 3,
            "planning_rounds": 24 * (trial.kind == PLANNER),
            "cpu_seconds": 1.5,
            "diverged": False,
        },
        **gaps,
        "last_report_gap": gap - 2.0,
        **{
            f"{which}_{split}_{name}": float(number)
            for which, split in itertools.product(("best", "last"), ("reward", "report"))
            for number, name in enumerate(METRICS)
        },
    }
    taken = [{**named, "round": number, **dict.fromkeys(ACTION_NAMES, 0.25)} for number in (1, 2, 3)]
    return trial.key, row, taken if trial.kind == PLANNER else []


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Nothing is trained; how often each kind ran."""
    ran: Counter = Counter()

    def counted(job: tuple[DistillConfig, Trial]) -> trials_module.Finished:
        ran[job[1].kind] += 1
        return made_up(job)

    monkeypatch.setattr(trials_module, "_run", counted)
    monkeypatch.setattr(trials_module, "task_key", lambda config, stratum: f"{config.rounds}e{stratum.data_seed}")
    return ran


def study(out: Path, budget: Budget = BUDGET, config: DistillConfig = CONFIG) -> tuple[dict, Trials]:
    with Trials(config, out) as trials:
        return headroom(trials, budget), trials


def test_everything_follows_from_the_rows(runs: Counter, tmp_path: Path) -> None:
    judged, trials = study(tmp_path)
    frame = pd.read_csv(tmp_path / "runs.csv", dtype={"task": str})
    choice, counted = frame[frame.seed >= 1000], frame[frame.seed < 1000]
    assert runs == {CONSTANT: 53 + 3 + 5, SCHEDULE: 7 + 3 + 5, GUIDANCE_ONLY: 5, PLANNER: 5}
    for kind, tried in ((CONSTANT, 53), (SCHEDULE, 7)):
        own = choice[choice.kind == kind]
        once = own[own.seed == 1000].sort_values("best_reward_gap", ascending=False)
        kept = list(once.name[:3])
        assert len(once) == tried
        assert set(own[own.seed == 1001].name) == set(kept)
        best = own[own.name.isin(kept)].groupby("name").best_reward_gap.mean().idxmax()
        assert {row["name"] for row in judged[kind]} == {best}
    assert all(len(set(row_stratum(row).__dict__.values())) == 1 for row in trials.rows)
    table = counted.pivot(index="seed", columns="kind", values="best_report_gap")
    text = page("title", judged, [row for row in trials.rows if row["seed"] >= 1000], 3)
    for kind in (CONSTANT, SCHEDULE, PLANNER):
        changes = table[kind] - table[GUIDANCE_ONLY]
        low, high = changes.mean() - 2.776445 * changes.sem(), changes.mean() + 2.776445 * changes.sem()
        cell = f"{changes.mean():+.4f} ± {changes.sem():.4f} [{low:+.4f}, {high:+.4f}]"
        assert f"| {cell} | {changes.mean() / changes.sem():+.1f} |" in text
    best = counted.groupby("kind").best_reward_gap.mean().drop(GUIDANCE_ONLY).idxmax()
    assert best == best_found(judged) == PLANNER
    assert f"standard errors**: {best} minus guidance only" in text
    changing = table[SCHEDULE] - table[CONSTANT]
    assert f"| schedule minus constant | {changing.mean():+.4f} ± {changing.sem():.4f} [" in text
    assert "| 2 | 3 | 24 | 1.5 | 0 |" in text
    assert "Fewer than" not in text


def test_what_is_done_is_read_exactly(runs: Counter, tmp_path: Path) -> None:
    whole, _ = study(tmp_path / "whole")
    total = runs.total()
    study(tmp_path / "cut")
    path = tmp_path / "cut" / "runs.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:20]))
    runs.clear()
    assert study(tmp_path / "cut")[0] == whole
    assert runs.total() == total - 19
    for name in ("runs.csv", "planner.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    runs.clear()
    before = path.read_bytes()
    assert study(tmp_path / "cut")[0] == whole
    assert (runs.total(), path.read_bytes()) == (0, before)


def test_more_constants_and_other_settings_of_the_planner_only_add(runs: Counter, tmp_path: Path) -> None:
    study(tmp_path)
    runs.clear()
    study(tmp_path, Budget(**{**vars(BUDGET), "planner": {"candidates": 4}}))
    assert runs == {PLANNER: 5}


def test_rows_of_other_settings_are_refused(runs: Counter, tmp_path: Path) -> None:
    study(tmp_path)
    with pytest.raises(ConfigError, match=r"runs.csv holds runs of other settings, data or networks: choose another"):
        Trials(CONFIG.replace(rounds=4), tmp_path)
    path = tmp_path / "runs.csv"
    frame = pd.read_csv(path, dtype={"task": str})
    frame.loc[frame.name == "most guidance", "start_blur"] = 0.5
    frame.to_csv(path, index=False)
    with pytest.raises(ConfigError, match="holds a constant 'most guidance' with other actions"):
        study(tmp_path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="has no column 'task'"):
        Trials(CONFIG, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",best_reward_gap,", ",paid,", "has no column 'best_reward_gap'"),
        ("\n", ",more\n", "has a column 'more' that is unknown here"),
        (",1.5,False,", ",,False,", "line 2: cpu_seconds must be a number. Got ''"),
        (",1.5,False,", ",soon,False,", "line 2: cpu_seconds must be a number. Got 'soon'"),
        (",1.5,False,", ",", "line 2: too many or too few columns"),
        (",1.5,False,", ",1.5,False,0,", "line 2: too many or too few columns"),
        ("task,", "\udcff,", "cannot be read"),
    ],
)
def test_damaged_rows_are_named(runs: Counter, tmp_path: Path, old: str, new: str, message: str) -> None:
    study(tmp_path)
    path = tmp_path / "runs.csv"
    path.write_text(path.read_text().replace(old, new, 1), errors="surrogateescape")
    with pytest.raises(ConfigError, match=f"runs.csv.*{message}.*: choose another --out"):
        Trials(CONFIG, tmp_path)


def test_rows_that_do_not_belong_together(runs: Counter, tmp_path: Path) -> None:
    study(tmp_path)
    path, actions = tmp_path / "runs.csv", tmp_path / "planner.csv"
    rows = path.read_text()
    path.write_text(rows + rows.splitlines(keepends=True)[-1])
    with pytest.raises(ConfigError, match=r"runs.csv holds a planner .* with seed 4 twice: choose another --out"):
        Trials(CONFIG, tmp_path)
    path.write_text(rows)
    actions.write_text("".join(actions.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ConfigError, match=r"planner.csv lacks actions of .* with seed 4: choose another --out"):
        Trials(CONFIG, tmp_path)


def test_no_place_for_results(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/out"):
        with pytest.raises(ConfigError, match=rf"{place} cannot be a folder for results \(.*\): choose another --out"):
            Trials(CONFIG, tmp_path / place)


def test_differences_are_paired() -> None:
    def rows(*values: float) -> list[dict]:
        return [
            {"seed": seed, "stage0_seed": seed, "data_seed": 0, "best_report_gap": value}
            for seed, value in enumerate(values)
        ]

    found = difference(rows(1.0, 2.0, 6.0), rows(0.0, 2.0, 4.0))
    assert found.mean == 1
    assert found.error == pytest.approx(1 / np.sqrt(3))
    assert found.half == pytest.approx(4.302653 / np.sqrt(3), rel=1e-5)
    assert found.in_errors == pytest.approx(np.sqrt(3))
    assert np.isnan(difference(rows(1, 1), rows(0, 0)).in_errors)
    for theirs in (rows(1.0, 2.0), rows(1.0, 2.0, 3.0)[::-1]):
        with pytest.raises(ValueError, match="paired by stratum"):
            difference(rows(1.0, 2.0, 3.0), theirs)
    with pytest.raises(ValueError, match="two or more"):
        difference(rows(1.0), rows(2.0))


def test_named_constants() -> None:
    found = named_constants(3.0)
    assert len(found) == len(set(found.values())) == 49
    assert found["most guidance"] == MOST_GUIDANCE
    weights, degradation = decode_action(found["noise strong, 0.7"])
    assert (weights.guidance, degradation.noise_std) == (pytest.approx(0.7), pytest.approx(0.1))
    assert (degradation.blur_kernel, degradation.jpeg_quality, degradation.contrast) == (1, 100, 0)
    assert decode_action(found["blur light, 0.9"])[1].blur_kernel == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strata": 1}, "strata must be at least 2. Got 1"),
        ({"strata": 2000}, "seeds from 1000 on are for choosing"),
        ({"population": 1}, "population must be at least 2"),
        ({"planner": {"candidate": 3}}, "settings of the planner: .*Did you mean 'candidates'"),
        ({"planner": {"seed": 3}}, "settings of the planner: seed is the study's: leave it out"),
        ({"planner": {"start": 0.5}}, "settings of the planner: start is the study's: leave it out"),
    ],
)
def test_budgets_out_of_range(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Budget(**change)


def test_another_reward(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set reward=gap. Got gap_delta"):
        study(tmp_path, config=CONFIG.replace(reward="gap_delta"))


@pytest.mark.parametrize(
    ("planner", "message"),
    [
        ({"candidates": 1}, "candidates must be 2 or more. Got 1"),
        ({"objective": "bset"}, "no objective 'bset'. Did you mean 'best'"),
        ({"anchors": [[0.0, 0.0]]}, "anchors must be one number or 7 numbers"),
    ],
)
def test_the_planner_is_checked_before_anything_runs(
    runs: Counter, tmp_path: Path, planner: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"settings of the planner: {message}"):
        study(tmp_path, Budget(**{**vars(BUDGET), "planner": planner}))
    long = Budget(**{**vars(BUDGET), "planner": {"lookahead": 1}})
    with pytest.raises(ConfigError, match="settings of the planner: execute must be at most lookahead=1"):
        study(tmp_path, long, CONFIG.replace(rounds=6))
    assert not runs


def test_a_search_without_its_package(runs: Counter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(MissingRequirementsError, match="needs the package cma"):
        study(tmp_path, Budget(**{**vars(BUDGET), "search": "cma"}))
    assert not runs


def test_actions_that_a_small_scale_cannot_have(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"guidance must be in 0.2689..0.7311 at logit_scale=0.5"):
        study(tmp_path, config=CONFIG.replace(logit_scale=0.5))


def test_no_workers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers must be at least 1"):
        Trials(CONFIG, tmp_path, workers=0)


@pytest.mark.slow
def test_real_trials(cache: str, tmp_path: Path) -> None:
    config = preset("tiny", rounds=2, batch_size=1, cache_dir=cache, threads=1)
    stratum = Stratum(3, 1, 2)
    settings = {"candidates": 3, "lookahead": 2, "execute": 1}
    trials = [
        Trial(GUIDANCE_ONLY, GUIDANCE_ONLY, MOST_GUIDANCE, MOST_GUIDANCE, stratum),
        Trial(CONSTANT, "zero", (0.0,) * 7, (0.0,) * 7, stratum),
        Trial(SCHEDULE, "up", (0.0,) * 7, (1.0,) * 7, stratum),
        Trial(PLANNER, "small", (0.0,) * 7, (0.0,) * 7, stratum, settings),
    ]
    with Trials(config, tmp_path / "one") as one:
        rows = one.run(trials, "trials")
    assert [row["rounds"] for row in rows] == [2] * 4
    assert [row["planning_rounds"] for row in rows] == [0, 0, 0, 3 * (2 + 1)]
    assert len({row["last_report_gap"] for row in rows[:3]}) == 3
    assert all(np.isfinite(row[f"{which}_{split}_{name}"]) for row in rows for which, split, name in
               itertools.product(("best", "last"), ("reward", "report"), METRICS))  # fmt: skip
    assert ends(rows[2]) == ((0.0,) * 7, (1.0,) * 7)
    assert [action["round"] for action in one.planned(rows[3])] == [1, 2]
    assert Trials(config, tmp_path / "one").rows == rows
    with Trials(config, tmp_path / "two", workers=2) as two:
        again = two.run(trials, "trials")
    for row, other in zip(rows, again, strict=True):
        assert row | {"cpu_seconds": 0} == other | {"cpu_seconds": 0}
    with pytest.raises(ConfigError, match="other settings, data or networks"):
        Trials(config.replace(learning_rate=0.001), tmp_path / "one")


def test_the_command(runs: Counter, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = {"constants": 0, "keep": 2, "choice": 1, "strata": 2, "schedules": 3, "population": 2}
    small = [word for name, number in numbers.items() for word in (f"--{name}", str(number))]
    common = ["--preset", "tiny", "--rounds", "3", "--search", "random", "--out", str(tmp_path)]
    assert main([*common, *small, "--planner", "width=0.2"]) == 0
    text = (tmp_path / "headroom.md").read_text()
    assert text in capsys.readouterr().out
    assert "Settings of preset tiny; runs of 3 rounds; 60 runs" in text
    assert "lookahead=None, objective=best, execute=1, foresight=False, width=0.2, from " in text
    assert "**Fewer than 5 strata" in text
    assert (tmp_path / "headroom.png").exists()
