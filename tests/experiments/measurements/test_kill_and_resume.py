import os

import pytest

from experiments.measurements import kill_and_resume as module
from experiments.measurements.kill_and_resume import Kill, main
from fusion_env.errors import ConfigError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")


@pytest.mark.slow
def test_killed_runs_end_like_the_whole_one(capsys: pytest.CaptureFixture) -> None:
    assert main(["--algos", "reinforce", "--kills", "2", "--rounds", "12"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| reinforce | 2 | ")
    assert lines[2].endswith(" | 0 |")
    assert lines[3] == "every resumed run ended as the one that was never killed"


def test_a_mismatch_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    kills = [Kill(3, 0, ()), Kill(14, 1, ("rounds.csv from row 11 on", "agent.zip"))]
    monkeypatch.setattr(module, "kill_and_resume", lambda *_: kills)
    assert main(["--algos", "sac", "--kills", "2"]) == 1
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| sac | 2 | 3-14 | 1 | 1 |",
        "sac, killed after 14 rounds: rounds.csv from row 11 on",
        "sac, killed after 14 rounds: agent.zip",
    ]


def test_no_kills() -> None:
    with pytest.raises(ConfigError, match="kills must be at least 1"):
        main(["--kills", "0"])
