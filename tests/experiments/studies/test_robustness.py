import csv
from pathlib import Path

import pytest
import torch

from experiments.benchmark import benchmark
from experiments.benchmarking.grid import Grid
from experiments.studies.robustness import STRENGTHS, TEACHER, main, score_degraded
from fusion_env import tasks
from fusion_env.config import preset
from fusion_env.task import build_task


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    folder = tmp_path_factory.mktemp("benchmark")
    settings = {"rounds": 2, "threads": 1, "batch_size": 1, "score_crops": 1}
    grid = Grid(
        "online", ("constant", "guidance-only"), seeds=(0, 1), stage0_seeds=(0,), preset="tiny", settings=settings
    )
    rows = benchmark(grid, folder)
    assert main([str(folder), "--draws", "1"]) == 0
    return folder, rows


@pytest.mark.slow
def test_every_run_and_the_teacher_at_every_strength(results: tuple[Path, list[dict]]) -> None:
    folder, _ = results
    with (folder / "robustness.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["policy"], int(row["seed"]), float(row["strength"])) for row in rows} == {
        (policy, seed, strength)
        for policy, seed in [
            *((f"{name}-laplacian-procedural", seed) for name in ("constant", "guidance-only") for seed in (0, 1)),
            (TEACHER, 0),
        ]
        for strength in STRENGTHS
    }
    text = (folder / "robustness.md").read_text()
    assert text.count("| constant-laplacian-procedural | 2 |") == 2


@pytest.mark.slow
def test_clean_images_give_the_report(results: tuple[Path, list[dict]]) -> None:
    folder, runs = results
    with (folder / "robustness.csv").open() as file:
        clean = {(r["policy"], int(r["seed"])): r for r in csv.DictReader(file) if float(r["strength"]) == 0}
    for run in runs:
        row = clean[f"{run['policy']}-laplacian-procedural", run["seed"]]
        assert float(row["mae"]) == pytest.approx(run["report_mae"], abs=1e-5)
        assert float(row["gap"]) == pytest.approx(run["report_gap"], abs=1e-4)
    teacher = clean[TEACHER, 0]
    assert float(teacher["mae"]) < 1e-3  # stored in half precision
    assert abs(float(teacher["gap"])) < 1e-2


def test_more_degradation_is_further_from_the_clean_image() -> None:
    task = build_task(preset("tiny"))
    errors = [score_degraded(task, task.teacher.fuse_luma, strength, draws=2)["mae"] for strength in STRENGTHS]
    assert errors == sorted(errors)
    assert errors[-1] > errors[1] + 0.01


def average(ir: torch.Tensor, vis: torch.Tensor) -> torch.Tensor:
    return (ir + vis) / 2


@pytest.mark.slow
def test_through_cameras_it_is_what_they_see_that_is_degraded() -> None:
    task = build_task(tasks.config("camera", "tiny", scenes=20))
    scores = score_degraded(task, average, 0.0, draws=1)
    report, teacher = task.report.score(average), task.report.teacher()
    assert scores["mae"] == pytest.approx(report["mae"], rel=1e-5)
    assert scores["gap"] == pytest.approx(report["e"] - teacher["e"], abs=1e-5)


def test_what_ignores_its_input_is_immune() -> None:
    task = build_task(preset("tiny"))
    scores = [score_degraded(task, lambda ir, vis: torch.full_like(vis, 0.5), s, draws=1)["mae"] for s in STRENGTHS]
    assert len(set(scores)) == 1


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="holds no finished run"):
        main([str(tmp_path)])
