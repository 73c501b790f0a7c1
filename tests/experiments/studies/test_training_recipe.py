from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.studies import training_recipe
from experiments.studies.training_recipe import DEFAULT, RECIPES, main, train_under
from fusion_env.action import LossWeights, even_degradation
from fusion_env.config import preset
from fusion_env.errors import ConfigError
from fusion_env.task import build_task

SMALL = (
    *("--scenes", "10", "--scene-height", "64", "--scene-width", "80", "--crop-size", "32", "--batch-size", "2"),
    *("--bank-size", "16", "--teacher", "laplacian", "--student-init", "random", "--stage0-rounds", "1"),
    *("--rounds", "2", "--iterations", "1", "--score-size", "48", "--score-crops", "4"),
)


def test_every_recipe_is_one_change_of_what_ships() -> None:
    assert RECIPES[DEFAULT] == {}
    changed = [preset("demo", **changes) for changes in RECIPES.values()]
    assert len({str(config) for config in changed}) == len(RECIPES)
    assert max(len(changes) for changes in RECIPES.values()) == 1


def test_a_run_says_how_it_went(cache: str) -> None:
    task = build_task(preset("tiny", cache_dir=cache))
    row = train_under(task, np.array([0.9, 0.1]), seed=3)
    engine = task.new_engine(3, 3)
    results = [engine.run_round(LossWeights(weight, 1 - weight), even_degradation(0.5)) for weight in (0.9, 0.1)]
    assert row["mae"] == task.report.score(engine.student)["mae"]
    assert row["share"] == pytest.approx(np.mean([result.guidance_share for result in results]))
    assert row["update_norm"] == pytest.approx(np.mean([result.update_norm for result in results]))
    assert row["diverged"] is False


@pytest.fixture
def study(cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pd.DataFrame]:
    """Function: run a study of two recipes and two curricula, and read its raw table."""
    monkeypatch.setattr(training_recipe, "RECIPES", {DEFAULT: {}, "update=sum": {"update": "sum"}})
    monkeypatch.setattr(training_recipe, "CURRICULA", {"guidance only": (1.0, 1.0), "0.5": (0.5, 0.5)})

    def run(*more: str) -> pd.DataFrame:
        assert main([*SMALL, "--cache-dir", cache, "--out", str(tmp_path), *more]) == 0
        return pd.read_csv(tmp_path / "training_recipe.csv")

    return run


@pytest.mark.slow
def test_a_study_goes_on_where_it_was(
    study: Callable[..., pd.DataFrame], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = study("--seeds", "0")
    assert len(first) == 4
    both = study("--seeds", "0", "1")
    assert len(both) == 8
    pd.testing.assert_frame_equal(both[:4], first)

    # Everything is there: nothing is trained, and the page is the same.
    page = (tmp_path / "training_recipe.md").read_text()
    monkeypatch.setattr(training_recipe, "train_under", None)
    study("--seeds", "0", "1")
    assert (tmp_path / "training_recipe.md").read_text() == page
    assert page in capsys.readouterr().out

    table = both.pivot_table(index=["curriculum", "seed"], columns="recipe", values="e")
    change = (table["update=sum"] - table[DEFAULT]).mean()
    line = next(line for line in page.splitlines() if line.startswith("| update=sum |"))
    assert line.split("|")[-2].split()[0] == f"{change:+.3f}"


@pytest.mark.slow
def test_other_settings_are_refused(study: Callable[..., pd.DataFrame]) -> None:
    study("--seeds", "0")
    with pytest.raises(ConfigError, match="made with other settings"):
        study("--seeds", "0", "--learning-rate", "0.001")
