"""The console scripts: the commands under their own names, in any folder, with help that a person can scan."""

import configparser
import importlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.experiments.processes import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]

_CONFIG = configparser.ConfigParser()
_CONFIG.read(CHECKOUT / "setup.cfg", encoding="utf-8")
_LINES = _CONFIG["options.entry_points"]["console_scripts"].strip().splitlines()
SCRIPTS = dict(line.split(" = ") for line in _LINES)


def start(name: str, *arguments: str, cwd: Path, **variables: str) -> "subprocess.Popen[str]":
    """Start a console script as pip writes it: a file without suffix that calls the entry point's function."""
    module, _, function = SCRIPTS[name].partition(":")
    file = cwd / "bin" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(
        f"import sys\nfrom {module} import {function}\nif __name__ == '__main__':\n    sys.exit({function}())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", **variables}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, str(file), *arguments], cwd=cwd, env=environment, **pipes)


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def shown(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *arguments: str) -> str:
    """Return what a command prints of itself."""
    module, _, function = SCRIPTS[command].partition(":")
    monkeypatch.setattr(sys, "argv", [f"/somewhere/bin/{command}", *arguments])
    with pytest.raises(SystemExit) as stop:
        getattr(importlib.import_module(module), function)()
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_names() -> None:
    commands = ("run", "agent", "benchmark", "evaluate", "compare", "report")
    commands += ("table1", "detection", "ablation", "reproduce", "replay", "leaderboard", "transfer", "export-minari")
    assert list(SCRIPTS) == [*(f"fusion-env-{name}" for name in commands), "fusion-student"]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", SCRIPTS)
def test_help(command: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    page = shown(command, monkeypatch, capsys, "--help")
    assert page.isascii()
    assert max(map(len, page.splitlines())) <= columns
    assert page.startswith(f"usage: {command} ")
    assert f"\n{command} " in page
    assert "python experiments" not in page


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", ["fusion-env-run", "fusion-env-agent", "fusion-env-benchmark"])
def test_settings(command: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    page = shown(command, monkeypatch, capsys, "--help")
    titles = re.findall(r"^(\w.*):$", page, re.MULTILINE)
    agents = "which agents" if command == "fusion-env-benchmark" else "which agent"
    assert titles == [
        *("options", "what to run", agents, "where results go", "machine"),
        "all settings of the environment",
    ]
    assert "--logit-scale" not in page
    page = shown(command, monkeypatch, capsys, "--help-settings", "--preset", "tiny")
    assert page.isascii()
    assert max(map(len, page.splitlines())) <= columns
    assert "--logit-scale" in page


@pytest.mark.slow
def test_a_mistake_on_a_console_that_is_not_utf8(tmp_path: Path) -> None:
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    status, output = finish(start("fusion-env-replay", "Bäume", cwd=tmp_path, **variables))
    assert status == 2
    assert output.startswith("error: ")


@pytest.mark.slow
def test_a_run_elsewhere_is_stopped_resumed_and_replayed(tmp_path: Path) -> None:
    more = ["--preset", "tiny", "--threads", "1", "--no-details", "--rounds", "2000"]
    run = start("fusion-env-run", *more, cwd=tmp_path)
    wait_until(lambda: any(tmp_path.glob("runs/*/rounds.csv")), run)
    run.send_signal(signal.SIGINT)
    status, output = finish(run)
    (folder,) = (tmp_path / "runs").iterdir()
    assert status == 130, output
    assert f"out        {folder}" in output
    assert f"continue with: fusion-env-run --resume {folder.relative_to(tmp_path)}" in output
    assert finish(start("fusion-env-replay", str(folder), cwd=tmp_path))[0] == 0


@pytest.mark.slow
def test_a_benchmark_in_worker_processes(tmp_path: Path) -> None:
    more = ["--preset", "tiny", "--algos", "constant", "random", "--seeds", "0", "--rounds", "2", "--out", "out"]
    pool = ["--executor", "pool", "--workers", "2"]
    status, output = finish(start("fusion-env-benchmark", *more, *pool, cwd=tmp_path))
    assert status == 0, output
    assert "fusion-env-benchmark --preset tiny" in output
