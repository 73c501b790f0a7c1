import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from experiments.replay import main, replay
from experiments.running.directory import RunDirectory
from fusion_env.action import ACTION_NAMES
from fusion_env.errors import ConfigError
from student.weights import load_state, save_state

POLICY = """
import numpy as np

from fusion_env.action import ACTION_SIZE


class Uneven:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.full((len(observation), ACTION_SIZE), 0.1 + observation.mean() / 100), None
"""


def rewrite(run: RunDirectory, change: Callable[[list[dict[str, str]]], object]) -> None:
    rows = run.rounds.read()
    change(rows)
    with run.rounds.path.open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_a_finished_run_is_replayed_to_the_last_digit(across: RunDirectory, capsys: pytest.CaptureFixture) -> None:
    before = {path: path.read_bytes() for path in across.path.iterdir()}
    assert main([str(across.path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "learn run 0: 3 rounds as recorded",
        "learn run 1: 3 rounds as recorded",
        "evaluate run 2: 3 rounds as recorded",
        "student: as recorded",
    ]
    assert before == {path: path.read_bytes() for path in across.path.iterdir()}


def test_actions_are_written_with_all_digits(across: RunDirectory) -> None:
    for row in across.rounds.read():
        for name in ACTION_NAMES:
            value = float(row[f"action_{name}"])
            assert float(np.float32(value)) == value
            assert repr(value) == row[f"action_{name}"]


@pytest.mark.slow
def test_policies_without_a_seed_of_their_own(finished, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(POLICY)
    more = ["--algo", f"{file}:Uneven", "--rounds", "2", "--runs", "2"]
    one, other = (finished(tmp_path / name, *more) for name in "ab")
    assert one.rounds.read() == other.rounds.read()
    assert replay(one.path).equal


def test_the_first_difference_is_named(copy: RunDirectory, capsys: pytest.CaptureFixture) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        rows[4]["reward"] = "-0.25"
        rows[5]["gap"] = "0.0"

    original = copy.rounds.read()[4]["reward"]
    rewrite(copy, change)
    assert main([str(copy.path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "learn run 0: 3 rounds as recorded",
        "learn run 1: 1 rounds as recorded",
        "learn run 1, round 2 differs from what was recorded:",
        f"  reward: recorded -0.25, replayed {original}",
    ]


def test_another_action_shows_in_its_round(copy: RunDirectory) -> None:
    rewrite(copy, lambda rows: rows[6].update(action_guidance_logit="0.987"))
    found = replay(copy.path)
    assert (found.mismatch.phase, found.mismatch.run, found.mismatch.round) == ("evaluate", 2, 1)
    assert {"weight_guidance", "reward", "loss_total"} <= set(found.mismatch.values)
    assert found.student is None


@pytest.mark.parametrize(
    ("change", "column", "message"),
    [
        (lambda rows: rows.pop(2), "run", "the run before goes on"),
        (lambda rows: rows.insert(3, dict(rows[2])), "round", "the run is over"),
    ],
)
def test_missing_and_surplus_rounds(copy: RunDirectory, change: Callable, column: str, message: str) -> None:
    rewrite(copy, change)
    found = replay(copy.path)
    assert found.mismatch.values[column][1] == message
    assert not found.equal


def test_an_unfinished_run_with_half_a_row(copy: RunDirectory) -> None:
    text = copy.rounds.path.read_text()
    copy.rounds.path.write_text("\n".join(text.splitlines()[:6])[:-40])
    copy.summary.path.unlink()
    found = replay(copy.path)
    assert found.matched == {("learn", 0): 3, ("learn", 1): 1}
    assert found.equal
    assert found.student is None


def test_another_student_is_noticed(copy: RunDirectory, capsys: pytest.CaptureFixture) -> None:
    state = load_state(copy.student)
    name = next(iter(state))
    state[name].view(-1)[0] += 1e-6
    save_state(state, copy.student)
    assert main([str(copy.path)]) == 1
    assert "student: not the one" in capsys.readouterr().out


def test_tolerance(copy: RunDirectory) -> None:
    rewrite(copy, lambda rows: rows[1].update(gap=repr(float(rows[1]["gap"]) * (1 + 1e-9))))
    assert not replay(copy.path).equal
    assert replay(copy.path, tolerance=1e-6).equal
    for tolerance in (-1.0, float("nan")):
        with pytest.raises(ConfigError, match="tolerance must be"):
            replay(copy.path, tolerance=tolerance)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("learn,1,2", "learn,one,2"), "damaged .*'one'"),
        (lambda text: text.replace("action_blur", "blur"), "damaged .*action_blur"),
        (lambda text: text.replace(",False\n", "\n", 1), "damaged .*row 1"),
        (lambda text: text.partition("\n")[0] + "\n", "no finished round"),
        (lambda text: "", "no finished round"),
    ],
)
def test_damaged_files_are_one_line(copy: RunDirectory, damage: Callable[[str], str], message: str) -> None:
    path = copy.rounds.path
    path.write_text(damage(path.read_text()))
    with pytest.raises(ConfigError, match=message) as caught:
        replay(copy.path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_run(tmp_path: Path, copy: RunDirectory) -> None:
    with pytest.raises(ConfigError, match=r"config\.json does not exist"):
        main([str(tmp_path)])
    copy.rounds.path.unlink()
    with pytest.raises(ConfigError, match="no round of this run"):
        main([str(copy.path)])
