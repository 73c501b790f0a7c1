import argparse
import dataclasses
import importlib.util
import re
import sys
from pathlib import Path

import pytest

import experiments
from experiments.command_line import (
    add_preset,
    add_settings,
    exit_on_error,
    given_settings,
    named_values,
    results_folder,
    run_moved,
)
from fusion_env import tasks
from fusion_env.config import DistillConfig, preset
from fusion_env.errors import ConfigError


def settings_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_settings(parser, "tiny", without=("reward",))
    return parser


def parse(*arguments: str) -> dict:
    return given_settings(settings_parser().parse_args(arguments))


def test_only_given_settings_are_returned() -> None:
    assert parse() == {}
    given = parse("--rounds", "7", "--iterations", "none", "--no-self-learning", "--score-metrics", "vif", "sd")
    assert given == {"rounds": 7, "iterations": None, "self_learning": False, "score_metrics": ["vif", "sd"]}
    config = preset("tiny", **given)
    assert config.iterations is None
    assert config.score_metrics == ("vif", "sd")


def test_every_field_has_an_option_and_an_entry_of_the_page(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        parse("--help-settings")
    assert stop.value.code == 0
    page, options = capsys.readouterr().out, settings_parser()._option_string_actions
    for item in dataclasses.fields(DistillConfig):
        option = f"--{item.name.replace('_', '-')}"
        expected = item.name != "reward"
        assert (option in options) == expected
        assert bool(re.search(rf"^  {option}[ ,]", page, re.MULTILINE)) == expected


def test_the_page_shows_values_of_the_preset_and_ranges(capsys: pytest.CaptureFixture) -> None:
    def page(*arguments: str) -> str:
        parser = argparse.ArgumentParser()
        add_preset(parser, "bench")
        parser.add_argument("--out", required=True)
        add_settings(parser, "bench")
        with pytest.raises(SystemExit):
            parser.parse_args(arguments)
        return " ".join(capsys.readouterr().out.split())

    assert "Step size of Adam. (bench: 0.0002; in 0.0..1e+30)" in page("--help-settings")
    for arguments in (["--preset", "paper", "--help-settings"], ["--help-settings", "--rounds", "3", "--pre=paper"]):
        paper = page(*arguments)
        assert "Rounds (environment steps) in a run. (paper: 100; at least 1)" in paper
        assert "one pass over the training images. (paper: none; at least 1)" in paper
        assert "Reward of each round lost by divergence. (paper: -1.0; at most 0.0)" in paper
        assert "score E of Eq. 6 (paper: vif iqa). (paper: vif iqa)" in paper
        assert "Use the guidance loss (Eq. 1); off removes it exactly. (paper: on)" in paper
    titles = [f" {title}: " for title in ("data", "teacher", "training", "scoring", "machine")]
    assert sorted(titles, key=paper.index) == titles


def test_a_task_goes_over_the_preset_of_the_page(capsys: pytest.CaptureFixture) -> None:
    for arguments in (["--task", "few", "--help-settings"], ["--help-settings", "--preset", "bench", "--task=few"]):
        parser = argparse.ArgumentParser()
        add_preset(parser, "bench")
        add_settings(parser, "bench")
        with pytest.raises(SystemExit):
            parser.parse_args(arguments)
        page = " ".join(capsys.readouterr().out.split())
        assert "a seeded choice made once; none = all. (bench, task few: 8; at least 1)" in page
        assert "Number of procedural scenes; ignored for a folder. (bench, task few: 80;" in page


def test_tasks_are_listed_with_their_reasons(capsys: pytest.CaptureFixture) -> None:
    parser = argparse.ArgumentParser()
    add_preset(parser, "bench")
    assert vars(parser.parse_args([])) == {"preset": "bench", "task": None}
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--list-tasks"])
    assert stop.value.code == 0
    page = capsys.readouterr().out
    for task in map(tasks.get, tasks.names()):
        assert f"{task.name}\n  {task.summary}\n  {task.why}\n" in page
    assert "scenes=80, train_limit=8" in page


def test_a_preset_of_the_page_must_exist(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse("--help-settings", "--preset", "tinny")
    assert "invalid choice: 'tinny'" in capsys.readouterr().err


def test_a_value_of_the_wrong_type(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        parse("--rounds", "many")
    assert "--rounds: invalid int value: 'many'" in capsys.readouterr().err


def test_errors_become_one_line(capsys: pytest.CaptureFixture) -> None:
    def fail() -> int:
        raise ConfigError("rounds must be at least 1. Got 0")

    with pytest.raises(SystemExit) as stop:
        exit_on_error(fail)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: rounds must be at least 1. Got 0\n"


def test_lists_of_problems_are_lines(capsys: pytest.CaptureFixture) -> None:
    def fail() -> int:
        raise ConfigError("two problems:\n  a\x1b\n  b")

    with pytest.raises(SystemExit):
        exit_on_error(fail)
    assert capsys.readouterr().err == "error: two problems:\n  a\\x1b\n  b\n"


def test_bugs_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_on_error(lambda: 1 // 0)


def test_a_moved_script_says_where_it_is_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "new_place.py").write_text("import sys\nif __name__ == '__main__':\n    sys.exit(len(sys.argv))\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["old.py", "--option"])
    run_moved("old", "new_place")
    assert not any(capsys.readouterr())
    with pytest.raises(SystemExit, match="2"):
        run_moved("__main__", "new_place")
    assert capsys.readouterr().err.startswith("old.py is now new_place.py")


def test_moved_scripts_are_where_they_are_said_to_be() -> None:
    root = Path(experiments.__file__).parent.glob("*.py")
    calls = [re.search(r"run_moved\(__name__, \"(.+)\"\)", path.read_text()) for path in root]
    modules = [call[1] for call in calls if call]
    assert {"experiments.measurements.soak", "experiments.weights.train_student"} < set(modules)
    assert all(importlib.util.find_spec(module) for module in modules)


def test_numbers_with_an_exponent_are_numbers() -> None:
    pairs = ["a=1e6", "b=-2E-3", "c=1.5e+1", "d='1e6'", "e=1e", "f=3"]
    assert named_values(pairs) == {"a": 1e6, "b": -2e-3, "c": 15.0, "d": "1e6", "e": "1e", "f": 3}


def test_a_folder_for_results_is_no_file_and_not_in_one(tmp_path: Path) -> None:
    assert results_folder(str(tmp_path / "new" / "out")) == tmp_path / "new" / "out"
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"file is a file, not a folder"):
            results_folder(str(place))
