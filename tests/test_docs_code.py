"""The Python code of pages runs as it stands there, block after block; the list of agents is the code's."""

import re
from pathlib import Path
from typing import Any

import pytest

from experiments import run_agent
from experiments.export_minari import export_minari
from experiments.running import policies

DOCS = Path(__file__).resolve().parent.parent / "docs"


def run(page: str) -> dict[str, Any]:
    """Run the blocks of a page one after the other, and return the names that they leave."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        exec(block, names)  # the page's own code
    return names


def test_environment() -> None:
    names = run("reference/environment.md")
    assert names["weights"].guidance == pytest.approx(0.8, abs=1e-3)
    assert names["trial"].run.rounds == 1
    assert names["env"].unwrapped.run.rounds == 0


@pytest.mark.slow
def test_quick_start() -> None:
    names = run("guide/quick-start.md")
    assert names["action"].shape == (7,)
    action, _ = names["Gentle"]().predict(names["observation"][None])
    assert names["env"].action_space.contains(action[0])


def test_surrogate(capsys: pytest.CaptureFixture[str]) -> None:
    run("guide/surrogate.md")
    assert capsys.readouterr().out == "(8, 7)\n"


@pytest.mark.slow
def test_minari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("minari", reason="needs the extra [clients]")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    for command in re.findall(r"^python (experiments/run_agent.*)", (DOCS / "guide" / "minari.md").read_text(), re.M):
        _, *arguments = command.split()
        out = str(tmp_path / arguments.pop())
        assert run_agent.main([*arguments, out, "--rounds", "2", "--runs", "5", "--threads", "1", "--no-details"]) == 0
    export_minari([tmp_path / "runs" / name for name in ("random", "ppo")], "fusion/tiny-v0")
    names = run("guide/minari.md")
    assert names["episode"].observations.shape == (3, 10)


def test_agents(capsys: pytest.CaptureFixture[str]) -> None:
    run("reference/agents.md")
    assert capsys.readouterr().out.count("\n") == 1


def test_every_agent_is_listed() -> None:
    rows = re.findall(r"^\| (`.*?`) \|", (DOCS / "reference" / "agents.md").read_text(), re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`(.*?)`", row)) == sorted(policies.names())
