import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import agents
from experiments.run_agent import _agent_settings, main
from fusion_env.errors import ConfigError, FusionEnvError, SnapshotError
from student.weights import load_state

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "run_agent.py"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def tiny(cache: str, out: Path, algo: str, *more: str) -> list[str]:
    return ["--algo", algo, "--preset", "tiny", "--cache-dir", cache, "--threads", "1", "--out", str(out), *more]


def rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "rounds.csv").open() as file:
        return list(csv.DictReader(file))


def agent_tensors(path: Path, algo: str) -> dict[str, torch.Tensor]:
    agent = agents.algorithm(algo).load(path)
    return agent.policy.state_dict()


@pytest.mark.parametrize("algo", ["constant", "random", "linear", "td3", "a2c"])
def test_every_kind_of_agent_runs(cache: str, tmp_path: Path, algo: str) -> None:
    assert main(tiny(cache, tmp_path, algo, "--rounds", "20")) == 0
    assert len(rows(tmp_path)) == 20
    actions = {row["action_noise"] for row in rows(tmp_path)}
    assert (len(actions) == 1) == (algo == "constant")


def test_guidance_only_is_the_control_that_run_prints(cache: str, tmp_path: Path) -> None:
    main(tiny(cache, tmp_path, "guidance-only", "--rounds", "3"))
    assert {row["weight_self_learning"] for row in rows(tmp_path)} == {"0.0"}
    report = json.loads((tmp_path / "summary.json").read_text())["report"]
    assert report["final"]["mae"] == pytest.approx(report["guidance_only"]["mae"], rel=0.2)  # other data order


def test_across_scores_only_the_frozen_agent(cache: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    more = ["--protocol", "across", "--runs", "3", "--eval-runs", "2", "--rounds", "4"]
    assert main(tiny(cache, tmp_path, "reinforce", *more)) == 0
    assert "frozen agent" in capsys.readouterr().out
    table = rows(tmp_path)
    assert [row["phase"] for row in table] == ["learn"] * 12 + ["evaluate"] * 8
    assert [row["run"] for row in table[::4]] == ["0", "1", "2", "3", "4"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    frozen = json.loads((tmp_path / "evaluation.json").read_text())
    assert len({result["seed"] for result in frozen}) == 2
    mean = sum(result["student"]["e"] for result in frozen) / 2
    assert summary["report"]["final"]["e"] == pytest.approx(mean)
    assert summary["return"] == pytest.approx(sum(float(row["reward"]) for row in table[12:]) / 2)


def test_a_trained_policy_on_another_task(cache: str, tmp_path: Path, reference_dir: Path) -> None:
    trained, judged = tmp_path / "trained", tmp_path / "judged"
    main(tiny(cache, trained, "reinforce", "--rounds", "12"))
    data = ["--data", str(reference_dir / "data" / "mini"), "--rounds", "3", "--seed", "5"]
    arguments = ["--eval-policy", str(trained / "agent.zip"), "--eval-runs", "1", "--preset", "tiny", *data]
    assert main([*arguments, "--cache-dir", cache, "--out", str(judged)]) == 0
    summary = json.loads((judged / "summary.json").read_text())
    assert (summary["protocol"], summary["learning_rounds"], summary["judged_rounds"]) == ("across", 0, 3)
    agent = agents.algorithm("reinforce").load(trained / "agent.zip")
    (first, *_) = rows(judged)
    assert first["phase"] == "evaluate"
    assert agent.num_timesteps == 12

    other = tmp_path / "elsewhere.zip"
    other.write_bytes((trained / "agent.zip").read_bytes())
    with pytest.raises(ConfigError, match="--algo"):
        main(["--eval-policy", str(other), "--preset", "tiny", "--out", str(tmp_path / "x")])
    with pytest.raises(ConfigError, match="observation_space"):
        main([*arguments, "--cache-dir", cache, "--observation", "scalar", "--out", str(tmp_path / "y")])


@pytest.mark.parametrize(
    ("algo", "more", "message"),
    [
        ("sacc", [], "Did you mean 'sac'"),
        ("sac", ["--agent-settings", "gamm=1"], "Did you mean 'gamma'"),
        ("sac", ["--agent-settings", "gamma"], "NAME=VALUE"),
        ("sac", ["--agent-settings", "learning_starts=9"], "learning_starts"),
        ("ppo", ["--agent-settings", "n_steps=64"], "n_steps"),
        ("ppo", ["--agent-settings", "batch_size=0"], "agent ppo: `batch_size` must be greater than 1"),
        ("ppo", ["--agent-settings", "policy=CnnPolicy"], "agent ppo: You should use NatureCNN only with images not"),
        ("sac", ["--agent-settings", "use_sde=true", "learning_starts=2"], "use_sde=True cannot be continued exactly"),
        ("", [], "unknown agent|no algorithm|Known"),
        ("random", ["--eval-runs", "2"], "across"),
        ("nosuch.module:Policy", [], "nosuch"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(
    cache: str, tmp_path: Path, algo: str, more: list[str], message: str
) -> None:
    with pytest.raises(FusionEnvError, match=message):
        main(tiny(cache, tmp_path / "out", algo, "--rounds", "12", *more))
    assert not (tmp_path / "out").exists()


def test_numbers_with_an_exponent_are_numbers() -> None:
    pairs = ["a=1e6", "b=-2E-3", "c=1.5e+1", "d='1e6'", "e=1e", "f=3"]
    assert _agent_settings(pairs) == {"a": 1e6, "b": -2e-3, "c": 15.0, "d": "1e6", "e": "1e", "f": 3}


def killed(arguments: list[str], out: Path, at: int) -> None:
    """Start a run and kill it when it has written so many rounds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "rounds.csv").exists() or len(rows(out)) < at:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_killed_and_resumed_is_as_if_never_killed(cache: str, tmp_path: Path, algo: str) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    main(tiny(cache, whole, algo, "--rounds", "40"))
    killed(tiny(cache, cut, algo, "--rounds", "40"), cut, at=23)
    assert len(list(cut.glob("checkpoint-*.pt"))) == 2
    assert main(["--resume", str(cut)]) == 0
    assert rows(cut) == rows(whole)
    for name, tensor in load_state(whole / "student.safetensors").items():
        assert torch.equal(tensor, load_state(cut / "student.safetensors")[name])
    ours, theirs = agent_tensors(cut / "agent.zip", algo), agent_tensors(whole / "agent.zip", algo)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert not list(cut.glob("checkpoint-*.pt"))


@pytest.mark.slow
def test_damaged_checkpoints(cache: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    arguments = ["--rounds", "36"]
    main(tiny(cache, whole, "reinforce", *arguments))
    killed(tiny(cache, cut, "reinforce", *arguments), cut, at=24)
    older, newest = sorted(cut.glob("checkpoint-*.pt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    kept = {path: path.read_bytes() for path in (older, newest)}
    assert main(["--resume", str(cut)]) == 0
    assert f"{newest} is damaged" in caplog.text
    assert older.name in caplog.text
    assert rows(cut) == rows(whole)

    # With no intact one left there is nothing to go on from, and starting anew would be a silent loss.
    (cut / "summary.json").unlink()
    (cut / "learning.json").unlink()
    for path, data in kept.items():
        path.write_bytes(data[:-1])
    with pytest.raises(SnapshotError, match="damaged"):
        main(["--resume", str(cut)])
