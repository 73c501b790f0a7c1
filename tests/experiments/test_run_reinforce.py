import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import agents
from experiments.run_reinforce import main
from fusion_env.action import ACTION_NAMES
from student.weights import load_student

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "run_reinforce.py"
OUTPUTS = {
    "config.json",
    "rounds.csv",
    "student.safetensors",
    "agent.zip",
    "summary.json",
    "preview.png",
    "rewards.png",
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def tiny(cache: str, out: Path, *more: str) -> list[str]:
    return ["--preset", "tiny", "--cache-dir", cache, "--threads", "1", "--out", str(out), *more]


def rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "rounds.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_writes_everything(cache: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "run"
    assert main(tiny(cache, out, "--rounds", "6")) == 0
    names = {path.name for path in out.iterdir()}
    assert names >= OUTPUTS
    assert any("tfevents" in name for name in names)
    assert "checkpoint.pt" not in names

    printed = capsys.readouterr().out
    for part in ("laplacian", "embedded", "procedural", "cpu", str(out), "closer to the teacher"):
        assert part in printed

    table = rows(out)
    assert len(table) == 6
    assert [row["round"] for row in table] == [str(i) for i in range(1, 7)]
    columns = {f"action_{name}" for name in ACTION_NAMES} | {"reward", "gap", "weight_guidance", "jpeg_quality"}
    assert columns | {"loss_guidance", "student_vif", "teacher_iqa", "guidance_share", "fused_std"} <= set(table[0])
    assert all(-1 <= float(row[f"action_{name}"]) <= 1 for row in table for name in ACTION_NAMES)

    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["report"]) == {"teacher", "stage0", "guidance_only", "final"}
    final, stage0 = summary["report"]["final"], summary["report"]["stage0"]
    assert summary["closer_to_teacher"] == (final["mae"] < stage0["mae"])
    assert summary["protocol"] == "online"
    assert summary["learning_rounds"] == summary["judged_rounds"] == summary["gradient_updates"] == 6
    assert summary["iterations_per_round"] == 1
    assert "torch" in summary["versions"]
    assert summary["return"] == pytest.approx(sum(float(row["reward"]) for row in table))
    for name in ("preview.png", "rewards.png"):
        assert np.asarray(Image.open(out / name)).std() > 10

    load_student(out / "student.safetensors")
    agents.algorithm("reinforce").load(out / "agent.zip")


def test_the_result_is_reproducible_and_finished_runs_are_not_repeated(cache: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        main(tiny(cache, tmp_path / name, "--rounds", "3"))
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert (tmp_path / "a" / "student.safetensors").read_bytes() == (
        tmp_path / "b" / "student.safetensors"
    ).read_bytes()
    before = (tmp_path / "a" / "student.safetensors").stat().st_mtime_ns
    assert main(tiny(cache, tmp_path / "a", "--rounds", "3")) == 0
    assert (tmp_path / "a" / "student.safetensors").stat().st_mtime_ns == before


def test_several_runs_in_a_row(cache: str, tmp_path: Path) -> None:
    main(tiny(cache, tmp_path / "run", "--rounds", "3", "--runs", "2"))
    assert [row["run"] for row in rows(tmp_path / "run")] == ["0", "0", "0", "1", "1", "1"]


def test_ctrl_c_then_resume_gives_the_uninterrupted_result(cache: str, tmp_path: Path) -> None:
    arguments = ["--rounds", "40"]
    main(tiny(cache, tmp_path / "whole", *arguments))
    stopped = tmp_path / "stopped"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *tiny(cache, stopped, *arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (stopped / "rounds.csv").exists() or len(rows(stopped)) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"--resume {stopped}" in printed
    assert 3 <= len(rows(stopped)) < 40
    assert not (stopped / "summary.json").exists()

    assert main(["--resume", str(stopped)]) == 0
    assert rows(stopped) == rows(tmp_path / "whole")
    expected, got = (
        torch.cat([p.flatten() for p in load_student(d / "student.safetensors").parameters()])
        for d in (tmp_path / "whole", stopped)
    )
    assert torch.equal(expected, got)


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
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    out = [] if "--resume" in arguments else ["--out", str(tmp_path / "out")]
    result = subprocess.run(
        [
            sys.executable,
            str(SCRIPT),
            *arguments,
            *out,
            *([] if "--resume" in arguments else ["--cache-dir", str(tmp_path / "cache")]),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "runs").exists()


def test_a_directory_of_something_else_is_refused(cache: str, tmp_path: Path) -> None:
    main(tiny(cache, tmp_path / "run", "--rounds", "2"))
    from fusion_env.errors import ConfigError

    with pytest.raises(ConfigError, match="another configuration"):
        main(tiny(cache, tmp_path / "run", "--rounds", "3"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="not empty"):
        main(tiny(cache, tmp_path / "other"))


def test_real_pairs(cache: str, tmp_path: Path, reference_dir: Path) -> None:
    data = str(reference_dir / "data" / "mini")
    assert main(tiny(cache, tmp_path / "run", "--rounds", "2", "--data", data)) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["report_pairs"] == 1
