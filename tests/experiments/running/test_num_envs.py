"""Several students that are trained beside each other while the agent learns."""

import json
from pathlib import Path

import numpy as np
import pytest

import agents
from experiments.replay import main as replay
from experiments.run_agent import main
from experiments.running.checkpoint import Checkpoint, load_newest, save_checkpoint
from experiments.running.directory import RunDirectory
from experiments.running.learn import make_env
from fusion_env.config import preset
from fusion_env.errors import ConfigError
from fusion_env.task import build_task
from student.weights import load_state


@pytest.mark.slow
def test_each_student_is_trained_for_its_part_of_the_runs(
    finished, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = finished(tmp_path, "--algo", "random", "--num-envs", "2", "--runs", "4", "--rounds", "3", "--seed", "5")
    assert "on average, " in capsys.readouterr().out
    rows = run.rounds.read()
    assert [(row["run"], row["round"]) for row in rows] == [
        (str(2 * part + student), str(number)) for part in (0, 1) for number in (1, 2, 3) for student in (0, 1)
    ]
    students, summary = run.learning.read()["students"], run.summary.read()
    assert [student["seed"] for student in students] == [5, 6]
    for student, result in enumerate(students):
        assert result["return"] == pytest.approx(sum(float(row["reward"]) for row in rows[6 + student :: 2]))
    mean = np.mean([student["report"]["final"]["e"] for student in students])
    assert summary["report"]["final"]["e"] == pytest.approx(mean)
    assert summary["best_rounds"] == [student["best_round"] for student in students]
    assert (summary["learning_rounds"], summary["judged_rounds"]) == (12, 6)
    # Each student is as one that is trained alone with its seed, and the one that is kept is that of the last run.
    assert replay([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "student: as recorded"


def test_runs_that_cannot_be_shared_out_are_refused(tiny, tmp_path: Path) -> None:
    for more, message in {
        ("--runs", "3"): "runs must be a multiple of num_envs=2.* Got 3",
        ("--algo", "constant", "--protocol", "across", "--runs", "0"): "runs must be a multiple of num_envs=2.* Got 0",
        ("--num-envs", "0"): "num_envs must be at least 1",
    }.items():
        with pytest.raises(ConfigError, match=message):
            main(tiny(tmp_path / "out", "--num-envs", "2", "--rounds", "2", *more))


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [5, 8])  # in a step, and after the first runs
def test_crashed_and_resumed_is_as_if_never_crashed(finished, crashed, tmp_path: Path, rounds: int) -> None:
    more = ["--num-envs", "2", "--runs", "4", "--rounds", "3", "--checkpoint-every", "2"]
    cut = crashed(rounds, tmp_path / "cut", *more)
    assert main(["--resume", str(cut.path)]) == 0
    whole = finished(tmp_path / "whole", *more)
    assert cut.rounds.read() == whole.rounds.read()
    assert cut.learning.read()["students"] == whole.learning.read()["students"]
    assert all((load_state(cut.student)[name] == tensor).all() for name, tensor in load_state(whole.student).items())


def test_what_a_student_delivered_is_in_the_checkpoint(cache: str, tmp_path: Path) -> None:
    """One whose runs end early goes on until the others have ended theirs."""
    task = build_task(preset("tiny", cache_dir=cache, threads=1, rounds=1))
    env = make_env(task, 2)
    agent = agents.make("random", env, seed=0).learn(2)
    last = env.get_attr("last_run")[1]
    directory = RunDirectory(tmp_path)
    save_checkpoint(directory, Checkpoint(2, [1, 1], 0.5, delivered={1: last}), agent, env)
    _, at = load_newest(directory, "random", make_env(task, 2))
    assert (at.rounds, list(at.runs), list(at.delivered)) == (2, [1, 1], [1])
    assert at.delivered[1].report == last.report
    assert at.delivered[1].rewards == last.rewards
    np.testing.assert_equal(at.delivered[1].actions, last.actions)


def test_what_an_older_version_learnt_is_judged(finished, tmp_path: Path) -> None:
    run = finished(tmp_path, "--rounds", "2")
    before, learning = run.summary.read(), run.learning.read()
    (student,) = learning.pop("students")
    older = {"last_rounds": student["rounds"], "return": student["return"], "report": student["report"]}
    run.learning.write({**learning, **older})
    run.summary.path.unlink()
    assert main(["--resume", str(tmp_path)]) == 0
    after = run.summary.read()
    for name in before.keys() - {"seconds"}:
        assert json.dumps(after[name]) == json.dumps(before[name])
