"""Policies of one benchmark on another task."""

import csv
import json
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.benchmark import main as benchmark
from experiments.transfer import learnt_policies, main, transfer
from fusion_env.errors import ConfigError
from tests.experiments.processes import recorded, start, wait_until


@pytest.fixture(scope="module")
def learnt(cache: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("learnt")
    arguments = ["--preset", "tiny", "--cache-dir", cache, "--rounds", "3", "--batch-size", "1", "--score-crops", "1"]
    arguments += ["--protocol", "across", "--runs", "2", "--eval-runs", "1", "--seeds", "0-1", "--data-seeds", "0", "1"]
    arguments += ["--agents", "reinforce", "random-search", "constant", "guidance-only", "--out", str(out)]
    assert benchmark(arguments) == 0
    return out


@pytest.mark.slow
def test_what_was_learnt_is_found(learnt: Path, tmp_path: Path) -> None:
    found = learnt_policies(learnt)
    assert sorted((one.policy, one.seed, one.data_seed) for one in found) == [
        (policy, seed, seed) for policy in ("random-search", "reinforce") for seed in (0, 1)
    ]
    with (learnt / "raw.csv").open() as file:
        gaps = {(row["policy"], row["seed"]): float(row["report_gap"]) for row in csv.DictReader(file)}
    assert [one.gain for one in found] == pytest.approx(
        [gaps[one.policy, str(one.seed)] - gaps["guidance-only", str(one.seed)] for one in found]
    )
    with pytest.raises(ConfigError, match=r"raw.csv cannot be read"):
        learnt_policies(tmp_path)


@pytest.mark.slow
def test_the_command(learnt: Path, cache: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    command = [str(learnt), "--preset", "tiny", "--cache-dir", cache, "--rounds", "4", "--batch-size", "1"]
    command += ["--out", str(out), "--eval-runs", "1", "--policies", "reinforce"]
    assert main(command) == 0
    with (out / "transfer.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["policy"], row["seed"], row["data_seed"]) for row in rows] == [
        ("reinforce", "0", "0"),
        ("reinforce", "1", "1"),
    ]
    for row in rows:
        assert float(row["gain"]) == pytest.approx(float(row["report_gap"]) - float(row["control_gap"]))
    page = (out / "transfer.md").read_text()
    assert "| reinforce | 2 | 2 |" in page
    assert "there are only 2 draw(s)" in page
    files = {path: path.stat().st_mtime_ns for path in out.glob("runs/**/student.safetensors")}
    assert len(files) == 4
    assert main(command) == 0
    assert files == {path: path.stat().st_mtime_ns for path in files}
    with pytest.raises(ConfigError, match="it has random-search, reinforce"):
        main([*command[:-1], "sac"])


@pytest.mark.slow
def test_damaged_and_ambiguous_benchmarks_are_refused(learnt: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(learnt, copy)
    raw, rows = copy / "raw.csv", (learnt / "raw.csv").read_text()
    raw.write_text(f"{rows}across,,tiny,reinforce\n")  # cut off
    with pytest.raises(ConfigError, match=r"raw.csv cannot be read"):
        learnt_policies(copy)
    raw.write_bytes(b"\xff" * 5000)
    with pytest.raises(ConfigError, match=r"raw.csv cannot be read") as refused:
        learnt_policies(copy)
    assert len(str(refused.value)) < 500
    raw.write_text(rows + rows.partition("\n")[2].replace(",laplacian,", ",average,"))
    with pytest.raises(ConfigError, match="several teachers or data sets"):
        learnt_policies(copy)
    raw.write_text(rows + rows.partition("\n")[2])
    with pytest.raises(ConfigError, match="two rows of the same policy and seeds"):
        learnt_policies(copy)
    raw.write_text(rows.partition("\n")[0])
    with pytest.raises(ConfigError, match="has no rows"):
        learnt_policies(copy)
    raw.write_text(rows.replace("across,", "online,"))
    with pytest.raises(ConfigError, match="not of the protocol across"):
        learnt_policies(copy)
    gap = next(csv.DictReader(rows.splitlines()))["report_gap"]
    raw.write_text(rows.replace(gap, "nan"))
    with pytest.raises(ConfigError, match="cannot be read .*report_gap nan"):
        learnt_policies(copy)
    raw.write_text(rows)
    shutil.copytree(copy / "runs" / "reinforce-laplacian-procedural", copy / "runs" / "reinforce-average-procedural")
    with pytest.raises(ConfigError, match="are of the same policy and seeds"):
        learnt_policies(copy)


@pytest.mark.slow
def test_a_missing_agent_is_named_unless_others_are_chosen(learnt: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(learnt, copy)
    (copy / "runs" / "reinforce-laplacian-procedural" / "1" / "agent.zip").unlink()
    with pytest.raises(ConfigError, match=r"has no agent.zip of reinforce with seed 1, .* --policies and --seeds"):
        learnt_policies(copy)
    assert [one.seed for one in learnt_policies(copy, ["reinforce"], [0])] == [0]
    assert {one.policy for one in learnt_policies(copy, ["random-search"])} == {"random-search"}
    for asked, seeds, named in ((["reinforce", "sac"], [], "policy sac"), ([], [0, 7], "seed 7")):
        with pytest.raises(ConfigError, match=f"has no {named} that learnt"):
            learnt_policies(copy, asked, seeds)
    shutil.rmtree(copy / "runs")
    with pytest.raises(ConfigError, match="has no agent.zip of .*copy all runs"):
        learnt_policies(copy)


@pytest.mark.slow
def test_runs_are_told_apart_by_their_folders(learnt: Path, cache: str, tmp_path: Path) -> None:
    one = next(one for one in learnt_policies(learnt) if one.policy == "reinforce")
    other = tmp_path / "runs" / "other" / "0" / "agent.zip"
    other.parent.mkdir(parents=True)
    shutil.copy(one.file, other)
    pair = [one, replace(one, file=other)]
    settings = {"cache_dir": cache, "rounds": 3, "batch_size": 1, "threads": 1}
    transfer(pair, None, "tiny", settings, tmp_path / "out", eval_runs=1)
    assert len(list((tmp_path / "out" / "runs").glob("*/*/summary.json"))) == 3  # the control is one run


@pytest.mark.slow
def test_failed_runs_count_as_where_they_learnt(learnt: Path, cache: str, tmp_path: Path) -> None:
    one = next(one for one in learnt_policies(learnt) if one.policy == "reinforce")
    settings = {"cache_dir": cache, "rounds": 3, "batch_size": 1, "threads": 1}
    (before,) = transfer([one], None, "tiny", settings, tmp_path, eval_runs=1)
    path = tmp_path / "runs" / one.file.parent.parent.name / f"{one.seed}-{one.data_seed}" / "summary.json"
    summary = json.loads(path.read_text())
    summary["ranked"]["final"]["e"] = -1.0  # what `ranked_reports` makes of a run that failed
    path.write_text(json.dumps(summary))
    (row,) = transfer([one], None, "tiny", settings, tmp_path, eval_runs=1)
    assert row["report_gap"] == pytest.approx(-1 - summary["report"]["teacher"]["e"])
    assert row["control_gap"] == before["control_gap"]


OWN = """
from stable_baselines3 import PPO


class Mine(PPO):
    def __init__(self, policy="MlpPolicy", env=None, n_steps=2, batch_size=2, **others):
        super().__init__(policy, env, n_steps=n_steps, batch_size=batch_size, **others)
"""


@pytest.mark.slow
def test_runs_of_a_policy_from_a_file_lie_where_results_go(cache: str, tmp_path: Path) -> None:
    own = tmp_path / "own" / "mine.py"
    own.parent.mkdir()
    own.write_text(OWN)
    settings = ["--preset", "tiny", "--cache-dir", cache, "--rounds", "4", "--batch-size", "1"]
    arguments = ["--protocol", "across", "--runs", "1", "--eval-runs", "1", "--seeds", "0", "--score-crops", "1"]
    arguments += ["--agents", f"{own}:Mine", "guidance-only", "--out", str(tmp_path / "learnt")]
    assert benchmark([*settings, *arguments]) == 0
    assert main([str(tmp_path / "learnt"), *settings, "--eval-runs", "1", "--out", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out" / "runs").glob("*/0-0/summary.json"))) == 2
    assert [path.name for path in own.parent.iterdir() if path.name != "__pycache__"] == ["mine.py"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs the signals of POSIX")
def test_ctrl_c_is_answered_in_words(learnt: Path, cache: str, tmp_path: Path) -> None:
    command = [str(learnt), "--preset", "tiny", "--cache-dir", cache, "--rounds", "400", "--out", str(tmp_path / "out")]
    process = start("transfer.py", command)
    wait_until(lambda: recorded(tmp_path) >= 3, process)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; the same command goes on" in printed
    assert "Traceback" not in printed
