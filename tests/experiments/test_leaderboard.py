"""From a policy of somebody's own to a row of the leaderboard, by the steps of its page."""

import csv
import shutil
from pathlib import Path

import pytest

from experiments.benchmark import main as benchmark
from experiments.leaderboard import MARK, PAGE
from experiments.leaderboard import main as leaderboard
from experiments.replay import main as replay
from fusion_env.errors import ConfigError
from tests.experiments.benchmarking.test_submission import write
from tests.experiments.test_benchmark import POLICY

SMALL = ["--preset", "tiny", "--scenes", "12", "--train-limit", "2", "--rounds", "2", "--batch-size", "1"]


def tamper(folder: Path, column: str, value: str) -> None:
    """Change one number of the first row."""
    path = folder / "raw.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    rows[0][column] = value
    with path.open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.slow
def test_from_a_policy_to_a_row(cache: str, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(POLICY)
    PAGE.parent.mkdir(parents=True)
    PAGE.write_text(f"# Leaderboard\n\nWritten by hand.\n\n{MARK}\nold tables\n")
    command = [*SMALL, "--task", "few", "--protocol", "across", "--runs", "1", "--eval-runs", "1", "--seeds", "0-1"]
    command += ["--agents", "mine.py:Alternating", "guidance-only", "guidance-only-long", "--cache-dir", cache]
    assert benchmark([*command, "--out", "runs/mine"]) == 0

    folder = PAGE.with_suffix("") / "somebody"
    folder.mkdir(parents=True)
    for name in ("raw.csv", "actions.csv"):
        shutil.copy(Path("runs/mine") / name, folder)
    capsys.readouterr()
    assert replay(["--check", str(folder)]) == 0
    assert capsys.readouterr().out.count("as recorded") == 6

    assert leaderboard([]) == 0
    page = PAGE.read_text()
    assert page.startswith(f"# Leaderboard\n\nWritten by hand.\n\n{MARK}\n## few, protocol across\n")
    assert "old tables" not in page
    assert "| `mine.py:Alternating` | somebody | 2 | 2 |" in page
    assert "Fewer than 5 starts" in page
    assert "\n    python experiments/leaderboard.py\n" in page
    assert leaderboard([]) == 0
    assert PAGE.read_text() == page

    tamper(folder, "report_gap", "0.5")
    capsys.readouterr()
    assert replay(["--check", str(folder), "--lines", "2"]) == 1
    assert "line 2: few, mine.py:Alternating, seed 0: differs\n  report_gap: recorded 0.5, replayed -" in (
        capsys.readouterr().out
    )
    tamper(folder, "data_fingerprint", "other")
    with pytest.raises(ConfigError, match=r"raw\.csv, line 2: .* made with another data \(other\)"):
        replay(["--check", str(folder)])
    tamper(folder, "report_gap", "best")
    with pytest.raises(ConfigError, match=r"somebody/raw\.csv, line 2: report_gap must be a finite number"):
        leaderboard([])


def test_a_board_on_the_screen(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert leaderboard([str(write(tmp_path / "ours"))]) == 0
    assert "| `mine` | ours | 2 | 2 | undefined | +0.0000 [+0.0000, +0.0000] | 1.000 |" in capsys.readouterr().out


def test_what_is_refused(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture) -> None:
    for name in ("a/ours", "b/ours"):
        write(tmp_path / name)
    with pytest.raises(ConfigError, match="folders of different names. Got ours, ours"):
        leaderboard([str(tmp_path / "a/ours"), str(tmp_path / "b/ours")])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="run this in a checkout"):
        leaderboard([])
    with pytest.raises(SystemExit):
        leaderboard(["--headroom", "fwe=runs.csv"])
    assert "must be TASK=FILE, of camera, few" in capsys.readouterr().err


def test_the_lines_to_check_and_what_to_replay(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(ConfigError, match="has none of the lines"):
        replay(["--check", str(write(tmp_path)), "--lines", "99"])
    with pytest.raises(ConfigError, match="tolerance must be"):
        replay(["--check", str(tmp_path), "--tolerance", "-1"])
    with pytest.raises(SystemExit):
        replay([])
    assert "give the directory of a run, or --check DIR" in capsys.readouterr().err
