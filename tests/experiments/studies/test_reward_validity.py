from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from experiments.studies import reward_validity as reward_validity_module
from experiments.studies.reward_validity import (
    actions,
    correlations,
    interval,
    page,
    reward_validity,
    score,
    spearman,
    usable_scores,
)
from fusion_env import tasks
from fusion_env.config import preset
from fusion_env.errors import ConfigError
from fusion_env.task import DistillationTask, build_task

NAMES = ("vif", "iqa", "mae", "viff", "ag", "qabf", "ssim", "ei", "sd")


def references() -> dict[str, dict[str, float]]:
    levels = {"teacher": 2.0, "average": 1.0, "laplacian": 4.0}
    return {
        method: {f"{split}_{name}": level for split in ("reward", "report", "crops") for name in NAMES}
        for method, level in levels.items()
    }


def students(count: int = 12) -> pd.DataFrame:
    """Whole images rank as the report does, crops the other way round."""
    rows = []
    for run in range(count):
        values = {"reward": run, "report": run**2 + 1, "crops": -run}
        row = {f"{split}_{name}": float(value) for split, value in values.items() for name in NAMES}
        rows.append({"action": run // 2, "seed": run % 2, "guidance_weight": run / count, **row})
    return pd.DataFrame(rows)


def test_rank_correlation_by_hand() -> None:
    a = np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(a, a**3) == pytest.approx([1.0])
    assert spearman(a, np.array([1.0, 3.0, 2.0, 4.0])) == pytest.approx([1 - 6 * 2 / (4 * 15)])
    assert np.isnan(spearman(a, np.ones(4))).all()
    b = np.array([2.0, 2.0, 1.0, 5.0])
    counts = np.array([[1.0, 2.0, 0.0, 3.0]])
    drawn = [0, 1, 1, 3, 3, 3]
    assert spearman(a, b, counts) == pytest.approx([pd.Series(a[drawn]).rank().corr(pd.Series(b[drawn]).rank())])


def test_the_interval_is_over_actions() -> None:
    rng = np.random.default_rng(0)
    a = np.repeat(rng.normal(size=30), 4)
    b = np.repeat(a[::4] + rng.normal(size=30), 4)
    together, apart = interval(a, b, np.repeat(np.arange(30), 4)), interval(a, b, np.arange(120))
    assert together[0] < spearman(a, b)[0] < together[1]
    assert together[1] - together[0] > 1.5 * (apart[1] - apart[0])


def test_e_in_each_scale() -> None:
    frame, known = students(3), references()
    for by, scale in (("teacher", 2.0), ("average", 1.0), ("laplacian", 2.0)):
        assert score(frame, known, "report", by, ("vif", "iqa")).tolist() == [1 / scale, 2 / scale, 5 / scale]
    assert usable_scores({**known, "laplacian": known["teacher"]}, ("vif",)) == ["teacher", "average"]


def test_agreement_has_its_sign() -> None:
    lines = {(split, by): cells for split, by, cells in correlations(students(), references(), ("vif", "iqa"))}
    assert lines["reward", "teacher"]["E"].startswith("1.00 [1.00")
    assert lines["crops", "teacher"]["E"].startswith("-1.00")
    assert lines["reward", "average"]["mae"].startswith("-1.00")  # the lower the better


def test_actions_cover_the_box() -> None:
    drawn = actions(24, 0)
    assert drawn.shape == (24, 7)
    assert ((drawn < -0.5).sum(0) >= 4).all()
    assert ((drawn > 0.5).sum(0) >= 4).all()


@pytest.fixture(scope="module")
def task(cache: str) -> DistillationTask:
    return build_task(preset("tiny", rounds=1, batch_size=1, cache_dir=cache))


def test_cameras_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="compares them with crops"):
        reward_validity(SimpleNamespace(config=tasks.config("camera", "tiny")), tmp_path, count=4, seeds=1)


def test_a_key_that_looks_like_a_number_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("task,seed\n12e456789012,0\n")
    assert reward_validity_module._finished(tmp_path / "runs.csv", "12e456789012")[0]["seed"] == 0


def test_runs_are_kept_and_other_tasks_refused(task: DistillationTask, tmp_path: Path) -> None:
    first, known = reward_validity(task, tmp_path, count=4, seeds=1)
    before = (tmp_path / "runs.csv").read_bytes()
    again, _ = reward_validity(task, tmp_path, count=4, seeds=1)
    assert (tmp_path / "runs.csv").read_bytes() == before
    assert pd.DataFrame(again).equals(pd.DataFrame(first).astype(pd.DataFrame(again).dtypes))
    assert len({row["report_vif"] for row in first}) == 4
    assert known["teacher"]["report_mae"] == 0
    report = task.report.teacher()
    assert known["teacher"]["report_vif"] == pytest.approx(report["vif"], rel=1e-6)
    assert "| best run |" in page("title", first, known, ("vif", "iqa"))
    other = build_task(task.config.replace(rounds=2))
    with pytest.raises(ConfigError, match="holds the runs of another task"):
        reward_validity(other, tmp_path, count=4, seeds=1)
