from pathlib import Path

import pytest

import agents
from experiments.measurements.kill_and_resume import differences
from experiments.run_agent import main
from experiments.running.directory import RunDirectory
from fusion_env.errors import ConfigError, FusionEnvError, SnapshotError
from tests.experiments.processes import recorded, start, wait_until

REPORTED = {"teacher", "stage0", "final", "last", "unsharp", "contrast", "average", "laplacian"}


@pytest.mark.parametrize(
    "algo",
    [pytest.param(name, marks=pytest.mark.slow) for name in ("constant", "linear", "td3")] + ["random", "a2c"],
)
def test_every_kind_of_agent_runs(finished, tmp_path: Path, algo: str) -> None:
    rows = finished(tmp_path, "--algo", algo, "--rounds", "20").rounds.read()
    assert len(rows) == 20
    assert (len({row["action_noise"] for row in rows}) == 1) == (algo == "constant")


@pytest.mark.slow
def test_guidance_only_is_the_control_that_run_prints(finished, tmp_path: Path) -> None:
    run = finished(tmp_path, "--algo", "guidance-only", "--batch-size", "2", "--rounds", "3", "--details")
    assert {row["weight_self_learning"] for row in run.rounds.read()} == {"0.0"}
    report = run.summary.read()["report"]
    assert report["final"] == pytest.approx(report["guidance_only"])  # the same random streams


def test_without_control_and_pictures(finished, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = finished(tmp_path, "--rounds", "2", "--no-details")
    assert set(run.summary.read()["report"]) == REPORTED
    assert not run.rewards_figure.exists()
    printed = capsys.readouterr().out
    assert "to the teacher than the stage-0 start (by MAE)." in printed
    assert "guidance only" not in printed


@pytest.mark.slow
def test_across_scores_only_the_frozen_agent(finished, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = finished(tmp_path, "--protocol", "across", "--runs", "3", "--eval-runs", "2", "--rounds", "4")
    assert "frozen agent" in capsys.readouterr().out
    rows = run.rounds.read()
    assert [row["phase"] for row in rows] == ["learn"] * 12 + ["evaluate"] * 8
    assert [row["run"] for row in rows[::4]] == ["0", "1", "2", "3", "4"]
    summary, frozen = run.summary.read(), run.evaluation.read()
    assert len({result["seed"] for result in frozen}) == 2
    mean = sum(result["report"]["final"]["e"] for result in frozen) / 2
    assert summary["report"]["final"]["e"] == pytest.approx(mean)
    assert summary["return"] == pytest.approx(sum(float(row["reward"]) for row in rows[12:]) / 2)
    assert summary["best_rounds"] == [result["best_round"] for result in frozen]


@pytest.mark.slow
def test_a_trained_policy_on_another_task(finished, tiny, tmp_path: Path, reference_dir: Path) -> None:
    trained = finished(tmp_path / "trained", "--rounds", "12")
    more = ["--eval-policy", str(trained.agent), "--eval-runs", "1", "--seed", "5"]
    more += ["--data", str(reference_dir / "data" / "mini"), "--rounds", "3"]
    judged = finished(tmp_path / "judged", *more)
    summary = judged.summary.read()
    assert (summary["protocol"], summary["learning_rounds"], summary["judged_rounds"]) == ("across", 0, 3)
    assert judged.rounds.read()[0]["phase"] == "evaluate"
    assert agents.algorithm("reinforce").load(trained.agent).num_timesteps == 12

    other = tmp_path / "elsewhere.zip"
    other.write_bytes(trained.agent.read_bytes())
    with pytest.raises(ConfigError, match="--algo"):
        main(["--eval-policy", str(other), "--preset", "tiny", "--out", str(tmp_path / "x")])
    with pytest.raises(ConfigError, match="observation_space"):
        main(tiny(tmp_path / "y", *more, "--observation", "scalar"))


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
    tiny, tmp_path: Path, algo: str, more: list[str], message: str
) -> None:
    with pytest.raises(FusionEnvError, match=message):
        main(tiny(tmp_path / "out", "--algo", algo, "--rounds", "12", *more))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_killed_and_resumed_is_as_if_never_killed(finished, tiny, tmp_path: Path, algo: str) -> None:
    more = ["--algo", algo, "--rounds", "40"]
    cut = RunDirectory(tmp_path / "cut")
    process = start("run_agent.py", tiny(cut.path, *more))
    wait_until(lambda: recorded(cut.path) >= 23, process)
    process.kill()
    process.communicate(timeout=60)
    assert len(cut.checkpoints()) == 2
    assert main(["--resume", str(cut.path)]) == 0
    whole = finished(tmp_path / "whole", *more)
    assert differences(whole.path, cut.path, algo) == ()
    assert not cut.checkpoints()


@pytest.mark.slow
def test_damaged_checkpoints(finished, crashed, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole, cut = (tmp_path / name for name in ("whole", "cut"))
    more = ["--rounds", "8", "--checkpoint-every", "2"]
    whole, cut = finished(whole, *more), crashed(5, cut, *more)
    older, newest = cut.checkpoints()
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    kept = {path: path.read_bytes() for path in (older, newest)}
    assert main(["--resume", str(cut.path)]) == 0
    assert f"{newest} is damaged" in caplog.text
    assert older.name in caplog.text
    assert cut.rounds.read() == whole.rounds.read()

    # With no intact one left there is nothing to go on from, and starting anew would be a silent loss.
    cut.summary.path.unlink()
    cut.learning.path.unlink()
    for path, data in kept.items():
        path.write_bytes(data[:-1])
    with pytest.raises(SnapshotError, match="damaged"):
        main(["--resume", str(cut.path)])
