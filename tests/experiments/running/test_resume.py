"""A run that broke off goes on as if it had not: every part of it, and whatever was lost on the way is said."""

import json
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
from experiments.running.learn import make_env
from experiments.running.normalisation import keep_normalization, normalized_as_learned
from experiments.running.rounds import RoundsFile, read_rounds
from fusion_env.action import ACTION_SIZE
from fusion_env.config import preset
from fusion_env.errors import ConfigError, SnapshotError
from fusion_env.task import build_task


class Crash(BaseException):
    """Stands for whatever ends a process."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def tiny(cache: str, out: Path, *more: str) -> list[str]:
    return ["--preset", "tiny", "--cache-dir", cache, "--threads", "1", "--out", str(out), *more]


def crashed(arguments: list[str], rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command up to the moment when the row of a round is written, and no further."""
    append, written = RoundsFile.append, []

    def break_off(self: RoundsFile, row: dict) -> None:
        append(self, row)
        written.append(row)
        if len(written) == rounds:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(RoundsFile, "append", break_off)
        with pytest.raises(Crash):
            main(arguments)


def scalars(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """Read what TensorBoard shows of a run, clock readings left out."""
    events = EventAccumulator(str(run_dir))
    events.Reload()
    names = [name for name in events.Tags()["scalars"] if not name.startswith("time/")]
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in names}


@pytest.mark.parametrize(
    ("algo", "more"),
    [
        ("ppo", ["--normalize", "--agent-settings", "n_steps=4", "batch_size=4"]),
        ("sac", ["--normalize", "--agent-settings", "learning_starts=3"]),
        ("reinforce", ["--normalize"]),
        ("ppo", ["--agent-settings", "n_steps=4", "batch_size=4"]),
        ("reinforce", []),
    ],
)
def test_agent_student_log_and_normalisation_go_on(
    cache: str, tmp_path: Path, algo: str, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    # Two runs, so that the statistics of returns have a beginning behind the checkpoint, too.
    common = ["--algo", algo, "--rounds", "8", "--runs", "2", "--checkpoint-every", "3", *more]
    main(tiny(cache, whole, *common))
    crashed(tiny(cache, cut, *common), 11, monkeypatch)
    assert len(list(cut.glob("checkpoint-*.pt"))) == 2
    assert main(["--resume", str(cut)]) == 0
    assert differences(whole, cut, algo) == ()
    assert scalars(cut) == scalars(whole)
    kept = [
        getattr(agents.algorithm(algo).load(d / "agent.zip"), "observation_normalization", None) for d in (cut, whole)
    ]
    assert kept[0] == kept[1]
    assert (kept[0] is None) == ("--normalize" not in more)


def test_normalisation_changes_what_the_agent_sees_and_not_what_is_recorded(cache: str, tmp_path: Path) -> None:
    for name, more in {"raw": [], "normalised": ["--normalize"]}.items():
        # The actions of `random` hang on neither observation nor reward.
        main(tiny(cache, tmp_path / name, "--algo", "random", "--rounds", "4", *more))
    assert read_rounds(tmp_path / "raw") == read_rounds(tmp_path / "normalised")
    for name, more in {"seen": [], "scaled": ["--normalize"]}.items():
        main(tiny(cache, tmp_path / name, "--rounds", "4", *more))
    assert read_rounds(tmp_path / "seen")[3] != read_rounds(tmp_path / "scaled")[3]


def test_the_frozen_agent_sees_what_it_learned_on(cache: str, tmp_path: Path) -> None:
    trained, judged = tmp_path / "trained", tmp_path / "judged"
    across = [
        "--protocol",
        "across",
        "--eval-runs",
        "1",
        "--rounds",
        "6",
        "--agent-settings",
        "n_steps=3",
        "batch_size=3",
    ]
    main(tiny(cache, trained, "--algo", "ppo", "--normalize", *across))
    agent = agents.algorithm("ppo").load(trained / "agent.zip")
    kept = agent.observation_normalization
    env = build_and_reset(cache, json.loads((trained / "evaluation.json").read_text())[0]["seed"])
    observation = (env.reset()[0] - np.array(kept["mean"])) / np.sqrt(np.array(kept["var"]) + kept["epsilon"])
    action, _ = agent.predict(np.clip(observation, -10, 10).astype(np.float32), deterministic=True)
    first = read_rounds(trained)[6]
    assert first["phase"] == "evaluate"
    assert float(first["action_noise"]) == pytest.approx(float(action[-1]), abs=1e-6)
    # The scale is in the agent's own file: nothing has to lie beside it.
    shutil.copy(trained / "agent.zip", tmp_path / "elsewhere.zip")
    policy = ["--eval-policy", str(tmp_path / "elsewhere.zip"), "--algo", "ppo", "--eval-runs", "1", "--rounds", "6"]
    main(tiny(cache, judged, *policy))
    assert [row["reward"] for row in read_rounds(judged)] == [row["reward"] for row in read_rounds(trained)[6:]]


def build_and_reset(cache: str, seed: int):
    env = make_env(build_task(preset("tiny", cache_dir=cache, threads=1, rounds=6)))
    env.seed(seed)
    return env


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


def test_the_distance_of_checkpoints_is_a_setting(cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for every, names in {"1": [8, 9], "4": [4, 8], "50": []}.items():
        out = tmp_path / every
        crashed(tiny(cache, out, "--rounds", "20", "--checkpoint-every", every), 10, monkeypatch)
        assert sorted(path.name for path in out.glob("checkpoint-*")) == [f"checkpoint-{n:08d}.pt" for n in names]


def test_rows_before_the_checkpoint_that_are_lost(cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a crash of a machine whose disk lies: going on would leave a hole in the table."""
    out = tmp_path / "run"
    crashed(tiny(cache, out, "--rounds", "12", "--checkpoint-every", "4"), 10, monkeypatch)
    path, kept = out / "rounds.csv", (out / "rounds.csv").read_text()
    lines = kept.splitlines(keepends=True)
    for text, held in (("".join(lines[:7]), 6), ("".join(lines[:9])[:-5], 7), ("", 0), (None, 0)):
        path.write_text(text) if text is not None else path.unlink()
        with pytest.raises(ConfigError, match=f"{path} holds {held} of the 8 rounds that were done"):
            main(["--resume", str(out)])
    path.write_text(kept)
    assert main(["--resume", str(out)]) == 0


def test_rows_are_on_disk_before_the_checkpoint_that_stands_for_them(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    sync = RoundsFile.sync
    monkeypatch.setattr(RoundsFile, "sync", lambda self: (sync(self), events.append("rows")))
    monkeypatch.setattr("experiments.running.learn.save_checkpoint", lambda *_: events.append("checkpoint"))
    main(tiny(cache, tmp_path / "run", "--rounds", "9", "--checkpoint-every", "4"))
    assert events == ["rows", "checkpoint", "rows", "checkpoint", "rows"]


@pytest.mark.parametrize(
    ("name", "also_delete"),
    [("summary.json", []), ("learning.json", ["summary.json"]), ("evaluation.json", ["summary.json"])],
)
@pytest.mark.parametrize("content", ["", "{", "3", "{}", "[{}]", "[3]"])
def test_damaged_results_are_named(
    finished: Path, tmp_path: Path, name: str, also_delete: list[str], content: str
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "copy"))
    for other in also_delete:
        (out / other).unlink()
    (out / name).write_text(content)
    with pytest.raises(ConfigError, match=f"{out / name} is damaged") as caught:
        main(["--resume", str(out)])
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("part", [0, 300, 0.5])
def test_a_damaged_agent_is_named(finished: Path, tmp_path: Path, part: float) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "copy"))
    for other in ("summary.json", "evaluation.json"):
        (out / other).unlink()
    data = (out / "agent.zip").read_bytes()
    (out / "agent.zip").write_bytes(data[: int(part * len(data)) if part < 1 else part])
    with pytest.raises(ConfigError, match=r"agent\.zip cannot be read as an agent reinforce") as caught:
        main(["--resume", str(out)])
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("other", ["ppo", "sac", "constant"])
def test_an_agent_of_another_algorithm_is_named(cache: str, finished: Path, tmp_path: Path, other: str) -> None:
    policy = ["--eval-policy", str(finished / "agent.zip"), "--algo", other, "--rounds", "3"]
    with pytest.raises(ConfigError, match=f"agent.zip cannot be read as an agent {other}"):
        main(tiny(cache, tmp_path / "x", *policy))


@pytest.fixture(scope="module")
def finished(cache: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "across"
    main(tiny(cache, out, "--protocol", "across", "--eval-runs", "1", "--rounds", "3"))
    return out


@pytest.mark.parametrize(
    "option", [["--seed", "0"], ["--preset", "tiny"], ["--protocol", "online"], ["--runs", "0"], ["--normalize"]]
)
def test_resume_takes_no_other_option(finished: Path, option: list[str]) -> None:
    with pytest.raises(ConfigError, match="leave out the other options"):
        main(["--resume", str(finished), *option])


@pytest.mark.parametrize("option", [["--agent-settings", "horizon=3"], ["--protocol", "online"], ["--runs", "1"]])
def test_a_saved_policy_takes_no_options_of_learning(finished: Path, tmp_path: Path, option: list[str]) -> None:
    with pytest.raises(ConfigError, match="--eval-policy judges an agent as it is"):
        main(["--eval-policy", str(finished / "agent.zip"), "--out", str(tmp_path / "x"), *option])


def test_what_a_killed_process_was_writing_is_removed(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    crashed(tiny(cache, out, "--rounds", "5"), 3, monkeypatch)
    (out / ".checkpoint-00000010.pt.0123.part").write_bytes(b"half a file")
    assert main(["--resume", str(out)]) == 0
    assert not list(out.glob(".*.part"))


def test_differences_are_seen(finished: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(finished, tmp_path / "copy"))
    assert differences(finished, other, "reinforce") == ()
    text = (other / "rounds.csv").read_text().splitlines(keepends=True)
    (other / "rounds.csv").write_text("".join([*text[:2], text[2].replace("1", "2"), *text[3:]]))
    agent = agents.algorithm("reinforce").load(other / "agent.zip")
    with torch.no_grad():
        next(iter(agent.policy.parameters())).view(-1)[0] += 1e-6
    agent.save(other / "agent.zip")
    (other / ".x.part").touch()
    assert differences(finished, other, "reinforce") == (
        "rounds.csv from row 2 on",
        "agent.zip",
        ".x.part is left over",
    )


def test_a_full_disk_leaves_the_checkpoint_and_a_resumable_run(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    append, rows = RoundsFile.append, []

    def fill_the_disk(self: RoundsFile, row: dict) -> None:
        rows.append(row)
        append(self, row)
        if len(rows) == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))

    whole, full = tmp_path / "whole", tmp_path / "full"
    common = ["--rounds", "10", "--checkpoint-every", "4"]
    main(tiny(cache, whole, *common))
    try:
        with monkeypatch.context() as patch:
            patch.setattr(RoundsFile, "append", fill_the_disk)
            with pytest.raises(SnapshotError, match=r"checkpoint-00000008\.pt cannot be written \(File too large\)"):
                main(tiny(cache, full, *common))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in full.glob("*checkpoint*")] == ["checkpoint-00000004.pt"]
    assert main(["--resume", str(full)]) == 0
    assert differences(whole, full, "reinforce") == ()


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300, "nul\0", "link"])
def test_directories_that_cannot_be(cache: str, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(ConfigError, match="choose another") as caught:
        main(tiny(cache, tmp_path / name, "--rounds", "2"))
    assert len(str(caught.value).splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can write")
def test_a_place_where_nothing_can_be_written(cache: str) -> None:
    with pytest.raises(ConfigError, match="/proc/run cannot be"):
        main(tiny(cache, Path("/proc/run"), "--rounds", "2"))
