import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import agents
from experiments.command_line import exit_on_error
from experiments.measurements.kill_and_resume import differences
from experiments.run_reinforce import main
from experiments.running.directory import RunDirectory
from fusion_env.action import ACTION_NAMES
from fusion_env.errors import ConfigError
from student.weights import load_student
from tests.experiments.processes import recorded, start, wait_until
from tests.unfinished_files import unfinished

OUTPUTS = {
    "config.json",
    "fingerprints.json",
    "rounds.csv",
    "student.safetensors",
    "agent.zip",
    "summary.json",
    "preview.png",
    "rewards.png",
}


def test_a_run_writes_everything(tiny, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = RunDirectory(tmp_path / "run")
    assert main(tiny(run.path, "--rounds", "6", "--details")) == 0
    names = {path.name for path in run.path.iterdir()}
    assert names >= OUTPUTS
    assert any("tfevents" in name for name in names)
    assert not run.checkpoints()

    printed = capsys.readouterr().out
    for part in ("laplacian", "embedded", "procedural", "cpu", str(run.path), "closer to the teacher"):
        assert part in printed

    table = run.rounds.read()
    assert len(table) == 6
    assert [row["round"] for row in table] == [str(i) for i in range(1, 7)]
    columns = {f"action_{name}" for name in ACTION_NAMES} | {"reward", "gap", "weight_guidance", "jpeg_quality"}
    assert columns | {"loss_guidance", "student_vif", "teacher_iqa", "guidance_share", "fused_std"} <= set(table[0])
    assert all(-1 <= float(row[f"action_{name}"]) <= 1 for row in table for name in ACTION_NAMES)

    summary = run.summary.read()
    compared = {"teacher", "stage0", "guidance_only", "last", "unsharp", "contrast", "average", "laplacian"}
    assert set(summary["report"]) == compared | {"final"}
    gaps = [float(row["gap"]) for row in table]
    (best,) = summary["best_rounds"]
    assert best == 0 or gaps[best - 1] == max(gaps)
    assert (summary["report"]["final"] == summary["report"]["last"]) == (best == len(gaps))
    final, stage0 = summary["report"]["final"], summary["report"]["stage0"]
    assert summary["closer_to_teacher"] == (final["mae"] < stage0["mae"])
    assert summary["protocol"] == "online"
    assert summary["learning_rounds"] == summary["judged_rounds"] == summary["gradient_updates"] == 6
    assert summary["iterations_per_round"] == 1
    assert "torch" in summary["versions"]
    assert summary["return"] == pytest.approx(sum(float(row["reward"]) for row in table))
    for picture in (run.preview_figure, run.rewards_figure):
        assert np.asarray(Image.open(picture)).std() > 10

    load_student(run.student)
    agents.algorithm("reinforce").load(run.agent)


@pytest.mark.slow
def test_the_result_is_reproducible_and_finished_runs_are_not_repeated(finished, tmp_path: Path) -> None:
    one, other = (finished(tmp_path / name, "--rounds", "3") for name in ("a", "b"))
    assert one.rounds.read() == other.rounds.read()
    assert one.student.read_bytes() == other.student.read_bytes()
    before = one.student.stat().st_mtime_ns
    assert finished(one.path, "--rounds", "3").student.stat().st_mtime_ns == before


def test_several_runs_in_a_row(finished, tmp_path: Path) -> None:
    run = finished(tmp_path, "--rounds", "3", "--runs", "2")
    assert [row["run"] for row in run.rounds.read()] == ["0", "0", "0", "1", "1", "1"]


@pytest.mark.slow
def test_ctrl_c_then_resume_gives_the_uninterrupted_result(finished, tiny, tmp_path: Path) -> None:
    stopped = RunDirectory(tmp_path / "stopped")
    process = start("run_reinforce.py", tiny(stopped.path, "--rounds", "24"))
    wait_until(lambda: recorded(stopped.path) >= 3, process)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"--resume {stopped.path}" in printed
    assert 3 <= recorded(stopped.path) < 24
    assert not stopped.is_finished

    assert main(["--resume", str(stopped.path)]) == 0
    whole = finished(tmp_path / "whole", "--rounds", "24")
    assert differences(whole.path, stopped.path, "reinforce") == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "paper"], "M3FD"),
        (["--preset", "tiny", "--teacher", "nosuch"], "unknown teacher 'nosuch'"),
        (["--preset", "tiny", "--teacher", "laplacain"], "Did you mean 'laplacian'"),
        (["--preset", "tiny", "--data", "/no/such/folder"], "/no/such/folder"),
        (["--preset", "tiny", "--batch-size", "0"], "batch_size"),
        (["--preset", "tiny", "--runs", "0"], "runs"),
        (["--resume", "/no/such/run"], "config.json"),
    ],
)
def test_errors_are_one_line_with_exit_code_2_and_nothing_written(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    if "--resume" not in arguments:
        arguments = [*arguments, "--out", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]
    with pytest.raises(SystemExit) as caught:
        exit_on_error(lambda: main(arguments))
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert message in printed
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_process_ends_with_the_line_and_the_exit_code() -> None:
    process = start("run_reinforce.py", ["--resume", "/no/such/run"])
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert printed.startswith("error: /no/such/run/config.json does not exist")
    assert printed.count("\n") == 1


def test_a_directory_of_something_else_is_refused(finished, tiny, tmp_path: Path) -> None:
    run = finished(tmp_path / "run", "--rounds", "2")
    with pytest.raises(ConfigError, match="another configuration"):
        main(tiny(run.path, "--rounds", "3"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="not empty"):
        main(tiny(tmp_path / "other"))


def test_what_a_process_left_that_was_killed_at_its_first_file_is_no_obstacle(finished, tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    with unfinished(tmp_path / "config.json"):
        run = finished(tmp_path, "--rounds", "2")
    assert run.is_finished
    assert not run.partial_files()


def test_real_pairs(finished, tmp_path: Path, reference_dir: Path) -> None:
    run = finished(tmp_path, "--rounds", "2", "--data", str(reference_dir / "data" / "mini"))
    assert run.summary.read()["report_pairs"] == 1
