"""A run that broke off goes on as if it had not: every part of it, and whatever was lost on the way is said."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import agents
from experiments.measurements.kill_and_resume import differences
from experiments.run_agent import main
from experiments.running.directory import RunDirectory
from experiments.running.learn import make_env
from experiments.running.normalisation import keep_normalization, normalized_as_learned
from experiments.running.rounds import RoundsFile
from fusion_env.action import ACTION_SIZE
from fusion_env.config import preset
from fusion_env.errors import ConfigError, SnapshotError
from fusion_env.task import build_task
from tests.unfinished_files import unfinished


def scalars(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """Read what TensorBoard shows of a run, clock readings left out."""
    events = EventAccumulator(str(run_dir))
    events.Reload()
    names = [name for name in events.Tags()["scalars"] if not name.startswith("time/")]
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in names}


@pytest.mark.parametrize(
    ("algo", "more"),
    [
        pytest.param("ppo", ["--normalize", "--agent-settings", "n_steps=4", "batch_size=4"], marks=pytest.mark.slow),
        pytest.param("sac", ["--normalize", "--agent-settings", "learning_starts=2"], marks=pytest.mark.slow),
        pytest.param("reinforce", ["--normalize"], marks=pytest.mark.slow),
        pytest.param("ppo", ["--agent-settings", "n_steps=4", "batch_size=4"], marks=pytest.mark.slow),
        pytest.param("reinforce", [], marks=pytest.mark.slow),
        pytest.param(
            "planner", ["--agent-settings", "candidates=4", "lookahead=2", "execute=2"], marks=pytest.mark.slow
        ),
    ],
)
def test_agent_student_log_and_normalisation_go_on(
    finished, crashed, tmp_path: Path, algo: str, more: list[str]
) -> None:
    # Two runs, so that the statistics of returns have a beginning behind the checkpoint, too.
    common = ["--algo", algo, "--rounds", "6", "--runs", "2", "--checkpoint-every", "3", *more]
    whole, cut = finished(tmp_path / "whole", *common), crashed(10, tmp_path / "cut", *common)
    assert len(cut.checkpoints()) == 2
    assert main(["--resume", str(cut.path)]) == 0
    assert differences(whole.path, cut.path, algo) == ()
    assert scalars(cut.path) == scalars(whole.path)
    kept = [getattr(agents.algorithm(algo).load(run.agent), "observation_normalization", None) for run in (cut, whole)]
    assert kept[0] == kept[1]
    assert (kept[0] is None) == ("--normalize" not in more)


@pytest.mark.slow
def test_normalisation_changes_what_the_agent_sees_and_not_what_is_recorded(finished, tmp_path: Path) -> None:
    rows = {
        (algo, *more): finished(tmp_path / f"{algo}{len(more)}", "--algo", algo, "--rounds", "4", *more).rounds.read()
        for algo in ("random", "reinforce")
        for more in ([], ["--normalize"])
    }
    # The actions of `random` hang on neither observation nor reward.
    assert rows["random",] == rows["random", "--normalize"]
    assert rows["reinforce",][3] != rows["reinforce", "--normalize"][3]


@pytest.mark.slow
def test_the_frozen_agent_sees_what_it_learned_on(finished, tmp_path: Path) -> None:
    judged = ["--algo", "ppo", "--eval-runs", "1", "--rounds", "6"]
    settings = ["--normalize", "--agent-settings", "n_steps=3", "batch_size=3"]
    trained = finished(tmp_path / "trained", "--protocol", "across", *judged, *settings)
    agent = agents.algorithm("ppo").load(trained.agent)
    kept = agent.observation_normalization
    env = make_env(build_task(trained.read_config().env))
    env.seed(trained.evaluation.read()[0]["seed"])
    observation = (env.reset()[0] - np.array(kept["mean"])) / np.sqrt(np.array(kept["var"]) + kept["epsilon"])
    action, _ = agent.predict(np.clip(observation, -10, 10).astype(np.float32), deterministic=True)
    rows = trained.rounds.read()[6:]
    assert rows[0]["phase"] == "evaluate"
    assert float(rows[0]["action_noise"]) == pytest.approx(float(action[-1]), abs=1e-6)
    # The scale is in the agent's own file: nothing has to lie beside it.
    shutil.copy(trained.agent, tmp_path / "elsewhere.zip")
    again = finished(tmp_path / "judged", "--eval-policy", str(tmp_path / "elsewhere.zip"), *judged)
    assert [row["reward"] for row in again.rounds.read()] == [row["reward"] for row in rows]


@pytest.mark.slow
def test_frozen_statistics_stay_and_rewards_are_raw(cache: str) -> None:
    task = build_task(preset("tiny", cache_dir=cache, threads=1))
    env = make_env(task, normalize=True)
    agent = agents.make("constant", env).learn(5)
    keep_normalization(agent)
    frozen = normalized_as_learned(make_env(task), agent)
    assert isinstance(frozen, VecNormalize)
    frozen.reset()
    _, rewards, _, _ = frozen.step(np.zeros((1, ACTION_SIZE), np.float32))
    assert rewards == frozen.get_original_reward()
    np.testing.assert_array_equal(frozen.obs_rms.mean, env.obs_rms.mean)
    plain = make_env(task)
    assert normalized_as_learned(plain, agents.make("constant", plain)) is plain


@pytest.mark.slow
def test_the_distance_of_checkpoints_is_a_setting(crashed, tmp_path: Path) -> None:
    for every, rounds in {"1": [8, 9], "4": [4, 8], "50": []}.items():
        run = crashed(10, tmp_path / every, "--rounds", "20", "--checkpoint-every", every)
        assert run.checkpoints() == [run.checkpoint(number) for number in rounds]


@pytest.mark.slow
def test_rows_before_the_checkpoint_that_are_lost(crashed, tmp_path: Path) -> None:
    """As after a crash of a machine whose disk lies: going on would leave a hole in the table."""
    run = crashed(10, tmp_path / "run", "--rounds", "12", "--checkpoint-every", "4")
    path = run.rounds.path
    kept = path.read_text()
    lines = kept.splitlines(keepends=True)
    for text, held in (("".join(lines[:7]), 6), ("".join(lines[:9])[:-5], 7), ("", 0), (None, 0)):
        path.write_text(text) if text is not None else path.unlink()
        with pytest.raises(ConfigError, match=f"{path} holds {held} of the 8 rounds that were done"):
            main(["--resume", str(run.path)])
    path.write_text(kept)
    assert main(["--resume", str(run.path)]) == 0


@pytest.mark.slow
def test_rows_are_on_disk_before_the_checkpoint_that_stands_for_them(
    finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    sync = RoundsFile.sync
    monkeypatch.setattr(RoundsFile, "sync", lambda self: (sync(self), events.append("rows")))
    monkeypatch.setattr("experiments.running.learn.save_checkpoint", lambda *_: events.append("checkpoint"))
    finished(tmp_path, "--rounds", "9", "--checkpoint-every", "4")
    assert events == ["rows", "checkpoint", "rows", "checkpoint", "rows"]


@pytest.mark.parametrize(
    ("name", "also_delete"),
    [("summary", []), ("learning", ["summary"]), ("evaluation", ["summary"])],
)
@pytest.mark.parametrize("content", ["", "{", "3", "{}", "[{}]", "[3]"])
def test_damaged_results_are_named(copy: RunDirectory, name: str, also_delete: list[str], content: str) -> None:
    for other in also_delete:
        getattr(copy, other).path.unlink()
    path = getattr(copy, name).path
    path.write_text(content)
    with pytest.raises(ConfigError, match=f"{path} is damaged") as caught:
        main(["--resume", str(copy.path)])
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("part", [0, 300, 0.5])
def test_a_damaged_agent_is_named(copy: RunDirectory, part: float) -> None:
    for other in (copy.summary, copy.evaluation):
        other.path.unlink()
    data = copy.agent.read_bytes()
    copy.agent.write_bytes(data[: int(part * len(data)) if part < 1 else part])
    with pytest.raises(ConfigError, match=r"agent\.zip cannot be read as an agent reinforce") as caught:
        main(["--resume", str(copy.path)])
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("other", ["ppo", "sac", "constant"])
def test_an_agent_of_another_algorithm_is_named(tiny, across: RunDirectory, tmp_path: Path, other: str) -> None:
    with pytest.raises(ConfigError, match=f"agent.zip cannot be read as an agent {other}"):
        main(tiny(tmp_path / "x", "--eval-policy", str(across.agent), "--algo", other, "--rounds", "3"))


@pytest.mark.parametrize(
    "option",
    [
        ["--seed", "0"],
        ["--preset", "tiny"],
        ["--protocol", "online"],
        ["--runs", "0"],
        ["--normalize"],
        ["--rounds", "3"],
        ["--agent-settings", "horizon=3"],
    ],
)
def test_resume_takes_no_other_option(across: RunDirectory, option: list[str]) -> None:
    with pytest.raises(ConfigError, match="leave out the other options"):
        main(["--resume", str(across.path), *option])


@pytest.mark.parametrize("option", [["--agent-settings", "horizon=3"], ["--protocol", "online"], ["--runs", "1"]])
def test_a_saved_policy_takes_no_options_of_learning(across: RunDirectory, tmp_path: Path, option: list[str]) -> None:
    with pytest.raises(ConfigError, match="--eval-policy judges an agent as it is"):
        main(["--eval-policy", str(across.agent), "--out", str(tmp_path / "x"), *option])


@pytest.mark.slow
def test_what_a_killed_process_was_writing_is_removed(crashed, tmp_path: Path) -> None:
    run = crashed(3, tmp_path / "run", "--rounds", "5")
    with unfinished(run.checkpoint(10)), unfinished(run.images / "1-infrared.png"):
        assert len(run.partial_files()) == 2
        assert main(["--resume", str(run.path)]) == 0
    assert not run.partial_files()


def test_differences_are_seen(across: RunDirectory, copy: RunDirectory) -> None:
    assert differences(across.path, copy.path, "reinforce") == ()
    text = copy.rounds.path.read_text().splitlines(keepends=True)
    copy.rounds.path.write_text("".join([*text[:2], text[2].replace("1", "2"), *text[3:]]))
    agent = agents.algorithm("reinforce").load(copy.agent)
    with torch.no_grad():
        next(iter(agent.policy.parameters())).view(-1)[0] += 1e-6
    agent.save(copy.agent)
    with unfinished(copy.path / "x") as left:
        assert differences(across.path, copy.path, "reinforce") == (
            "rounds.csv from row 2 on",
            "agent.zip",
            f"{left.name} is left over",
        )


@pytest.mark.slow
def test_a_full_disk_leaves_the_checkpoint_and_a_resumable_run(
    finished, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    append, rows = RoundsFile.append, []

    def fill_the_disk(self: RoundsFile, row: dict) -> None:
        rows.append(row)
        append(self, row)
        if len(rows) == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))

    common = ["--rounds", "10", "--checkpoint-every", "4"]
    whole, full = finished(tmp_path / "whole", *common), RunDirectory(tmp_path / "full")
    try:
        with monkeypatch.context() as patch:
            patch.setattr(RoundsFile, "append", fill_the_disk)
            with pytest.raises(SnapshotError, match=r"checkpoint-00000008\.pt cannot be written \(File too large\)"):
                main(tiny(full.path, *common))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in full.path.glob("*checkpoint*")] == ["checkpoint-00000004.pt"]
    assert main(["--resume", str(full.path)]) == 0
    assert differences(whole.path, full.path, "reinforce") == ()


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300, "nul\0", "link"])
def test_directories_that_cannot_be(tiny, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(ConfigError, match="choose another") as caught:
        main(tiny(tmp_path / name, "--rounds", "2"))
    assert len(str(caught.value).splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can write")
def test_a_place_where_nothing_can_be_written(tiny) -> None:
    with pytest.raises(ConfigError, match="/proc/run cannot be"):
        main(tiny(Path("/proc/run"), "--rounds", "2"))
