"""Runs as Minari data sets: what is read back equals the rows of the runs, and what the environment gives."""

from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from experiments.export_minari import export_minari, main
from experiments.running.directory import RunDirectory
from fusion_env.action import ACTION_NAMES
from fusion_env.errors import ConfigError

minari = pytest.importorskip("minari", reason="needs the extra [clients]")
ID = "fusion/test-v0"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def numbers(info: dict) -> Iterator[tuple[str, object]]:
    """Yield every number or array of an info with its path."""
    for name, value in info.items():
        if isinstance(value, dict):
            yield from ((f"{name}/{key}", inner) for key, inner in numbers(value))
        else:
            yield name, value


@pytest.mark.slow
def test_what_is_loaded_equals_the_rows_of_the_runs(across: RunDirectory, capsys: pytest.CaptureFixture) -> None:
    assert main([str(across.path), "--dataset", ID, "--author", "somebody"]) == 0
    assert "3 episodes, 9 steps" in capsys.readouterr().out
    loaded = minari.load_dataset(ID)
    rows = across.rounds.read()
    for number, episode in enumerate(loaded):
        of_run = [row for row in rows if row["run"] == str(number)]
        assert episode.rewards.tolist() == [float(row["reward"]) for row in of_run]
        assert episode.actions.tolist() == [[float(row[f"action_{name}"]) for name in ACTION_NAMES] for row in of_run]
        assert episode.infos["student"]["vif"][1:].tolist() == [float(row["student_vif"]) for row in of_run]
        assert episode.infos["degradation"]["noise_std"][1:].tolist() == [float(row["noise_std"]) for row in of_run]
        assert episode.infos["round"].tolist() == [0, 1, 2, 3]
        assert episode.terminations.tolist() == [False] * 3
        assert episode.truncations.tolist() == [False, False, True]
        assert all(loaded.action_space.contains(action) for action in episode.actions)
        assert all(loaded.observation_space.contains(observation) for observation in episode.observations)
    metadata = list(loaded.storage.get_episode_metadata(range(3)))
    assert [entry["phase"] for entry in metadata] == ["learn", "learn", "evaluate"]
    assert [entry.get("seed") for entry in metadata][:2] == [7, None]
    (run,) = loaded.storage.metadata["runs"]
    assert run["config"] == across.read_config().to_dict()
    assert run["versions"] == across.summary.read()["versions"]
    assert loaded.storage.metadata["author"] == {"somebody"}


@pytest.mark.slow
@pytest.mark.parametrize("observation", ["rich", "vector+time"])
def test_the_environment_gives_the_same(finished: Callable, tmp_path: Path, cache: str, observation: str) -> None:
    run = finished(tmp_path / "run", "--rounds", "3", "--observation", observation, "--algo", "random", "--seed", "5")
    (episode,) = export_minari([run.path], ID)
    spec = minari.load_dataset(ID).env_spec
    env = gymnasium.make(spec, cache_dir=cache, threads=1)
    observation, info = env.reset(seed=5)
    seen, told, paid = [observation], [info], []
    for action in episode.actions:
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append(observation)
        told.append(info)
        paid.append(reward)
    np.testing.assert_array_equal(episode.observations, np.stack(seen))
    np.testing.assert_array_equal(episode.rewards, np.array(paid, np.float32))
    assert (episode.terminations[-1], episode.truncations[-1]) == (terminated, truncated)
    for name, values in numbers(episode.infos):
        group, _, key = name.partition("/")
        expected = [info[group][key] if key else info[group] for info in told]
        np.testing.assert_array_equal(values, expected, err_msg=name)
    assert set(episode.infos) == set(info) - {"report"}


@pytest.mark.slow
def test_several_runs_of_one_task_an_unfinished_one_among_them(
    finished: Callable, crashed: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    one = finished(tmp_path / "one", "--rounds", "3", "--algo", "random")
    other = crashed(2, tmp_path / "other", "--rounds", "3", "--algo", "constant")
    assert main([str(one.path), str(other.path), "--dataset", ID]) == 0
    assert "1 of the runs were cut off before their 3 rounds" in capsys.readouterr().out
    lengths = [(len(episode), bool(episode.truncations[-1])) for episode in minari.load_dataset(ID)]
    assert lengths == [(3, True), (2, True)]
    assert [run["versions"] is None for run in minari.load_dataset(ID).storage.metadata["runs"]] == [False, True]


@pytest.mark.slow
def test_what_cannot_be_exported(across: RunDirectory, copy: RunDirectory, finished: Callable, tmp_path: Path) -> None:
    for name in ("no version", "fusion/", "fusion/mine"):
        with pytest.raises(ConfigError, match="no name for a data set"):
            export_minari([across.path], name)
    other = finished(tmp_path / "other", "--rounds", "2", "--algo", "random")
    with pytest.raises(ConfigError, match=r"other is a run of another task than .*: rounds \(3, here 2\)"):
        export_minari([across.path, other.path], ID)
    lines = copy.rounds.path.read_text().splitlines(keepends=True)
    copy.rounds.path.write_text("".join(lines[:2] + lines[3:]))
    with pytest.raises(ConfigError, match=r"rounds\.csv is damaged: learn run 0 lacks rounds"):
        export_minari([copy.path], ID)
    assert not minari.list_local_datasets()
    export_minari([across.path], ID)
    with pytest.raises(ConfigError, match="there is a data set 'fusion/test-v0' already"):
        export_minari([across.path], ID)
