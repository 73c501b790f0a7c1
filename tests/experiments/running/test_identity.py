"""A run goes on with the data and the networks that it was begun with, or says what is another."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.benchmark import main as benchmark
from experiments.measurements.kill_and_resume import differences
from experiments.replay import replay
from experiments.run_agent import main
from experiments.running.directory import RunDirectory
from fusion_env import teachers
from fusion_env.config import preset
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError, FusionEnvError, SnapshotError
from student import FusionStudent
from student.weights import save_state

OPTIONS = ("--algo", "constant", "--rounds", "6", "--data", "data", "--checkpoint-every", "2")


def write_pairs(folder: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for index in range(6):
        for side, channels in (("ir", ()), ("vi", (3,))):
            path = folder / side / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = rng.integers(0, 255, (8, 10, *channels), dtype=np.uint8)
            Image.fromarray(picture).resize((120, 96)).save(path)
    return folder


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders with different pictures under one relative path; the working directory is the first."""
    write_pairs(tmp_path / "one" / "data")
    write_pairs(tmp_path / "two" / "data", seed=1)
    monkeypatch.chdir(tmp_path / "one")
    return tmp_path


@pytest.mark.slow
def test_a_run_is_resumed_anywhere_and_means_the_same_data(
    finished: Callable, crashed: Callable, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = finished(places / "whole", *OPTIONS), crashed(3, places / "cut", *OPTIONS)
    assert json.loads(cut.config_file.read_text())["env"]["data"] == str(places / "one" / "data")
    assert cut.fingerprints.read().keys() == {"data", "teacher", "perception", "iqa", "student_init"}
    monkeypatch.chdir(places / "two")
    assert main(["--resume", str(cut.path)]) == 0
    assert differences(whole.path, cut.path, "constant") == ()


@pytest.mark.slow
def test_other_pictures_at_the_same_place_are_refused(finished: Callable, crashed: Callable, places: Path) -> None:
    runs = [crashed(3, places / "cut", *OPTIONS), finished(places / "whole", *OPTIONS)]
    shutil.copytree(places / "two" / "data" / "ir", places / "one" / "data" / "ir", dirs_exist_ok=True)
    for run in runs:
        with pytest.raises(ConfigError, match=r"another configuration: content of data \('\w+', here '\w+'\)"):
            main(["--resume", str(run.path)])


@pytest.mark.slow
def test_the_same_pictures_elsewhere_are_the_same(
    tiny: Callable, crashed: Callable, finished: Callable, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = finished(places / "whole", *OPTIONS), crashed(3, places / "cut", *OPTIONS)
    shutil.move(places / "one", places / "three")
    monkeypatch.chdir(places / "three")
    assert main(tiny(cut.path, *OPTIONS)) == 0
    assert differences(whole.path, cut.path, "constant") == ()
    assert main(tiny(whole.path, *OPTIONS)) == 0


def test_an_older_directory_goes_on_and_says_what_is_not_checked(
    crashed: Callable, places: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut = crashed(3, places / "cut", *OPTIONS)
    cut.fingerprints.path.unlink()
    config = json.loads(cut.config_file.read_text())
    config["env"]["data"] = "data"
    cut.config_file.write_text(json.dumps(config))
    with caplog.at_level("INFO"):
        assert main(["--resume", str(cut.path)]) == 0
    assert "has no fingerprints" in caplog.text
    assert cut.fingerprints.read()


@pytest.mark.slow
def test_a_benchmark_does_not_mix_data(places: Path, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    common = ["--preset", "tiny", "--data", "data", "--protocol", "online", "--seeds", "0", "--stage0-seeds", "0"]
    common += ["--rounds", "3", "--cache-dir", cache, "--out", str(places / "benchmark")]
    assert benchmark([*common, "--algos", "constant"]) == 0
    before = (places / "benchmark" / "raw.csv").read_bytes()
    monkeypatch.chdir(places / "two")
    with pytest.raises(FusionEnvError, match=r"runs/constant-\w+-data/0 holds .*data \('.*/one/data', here '.*/two/"):
        benchmark([*common, "--algos", "constant", "linear"])
    assert (places / "benchmark" / "raw.csv").read_bytes() == before


@pytest.mark.slow
def test_a_replay_wants_what_the_run_was_made_with(
    finished: Callable, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished(places / "run", *OPTIONS)
    monkeypatch.chdir(places / "two")
    assert replay(run.path).equal
    shutil.copytree(places / "two" / "data" / "ir", places / "one" / "data" / "ir", dirs_exist_ok=True)
    with pytest.raises(ConfigError, match=r"run cannot be replayed, .* content: content of data \('\w+', here '\w+'\)"):
        replay(run.path)


@pytest.mark.slow
def test_a_replay_of_an_older_directory_says_what_is_not_checked(
    finished: Callable, places: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = finished(places / "run", *OPTIONS)
    run.fingerprints.path.unlink()
    with caplog.at_level("INFO"):
        assert replay(run.path).equal
    assert "has no fingerprints" in caplog.text


class TestPolicyFiles:
    """A policy from a file, a saved agent or code, is known by the file's content."""

    JUDGE = ("--algo", "reinforce", "--eval-runs", "1", "--rounds", "3")

    @pytest.mark.slow
    def test_another_saved_agent_at_the_same_place_is_refused(
        self, tiny: Callable, across: RunDirectory, finished: Callable, crashed: Callable, places: Path
    ) -> None:
        agent = Path(shutil.copy(across.agent, places / "one"))
        policy = ("--eval-policy", agent.name, *self.JUDGE)
        whole, cut = finished(places / "whole", *policy), crashed(2, places / "cut", *policy)
        assert whole.fingerprints.read()["policy"] == hashlib.sha256(agent.read_bytes()).hexdigest()
        assert json.loads(whole.config_file.read_text())["policy"] == str(agent)
        moved = str(shutil.copy(agent, places / "moved.zip"))
        assert main(tiny(whole.path, "--eval-policy", moved, *self.JUDGE)) == 0
        with agent.open("ab") as file:
            file.write(b"another")
        for run in (whole, cut):
            with pytest.raises(ConfigError, match=r"another configuration: content of policy \('\w+', here '\w+'\)"):
                main(["--resume", str(run.path)])

    def test_edited_code_is_refused(self, crashed: Callable, tmp_path: Path) -> None:
        file = tmp_path / "mine.py"
        code = (
            "import numpy as np\n\n\nclass Mine:\n"
            "    def predict(self, observation, *_, **__): return np.full((len(observation), 7), 0.1), None\n"
        )
        file.write_text(code)
        cut = crashed(2, tmp_path / "cut", "--algo", f"{file}:Mine", "--rounds", "4")
        file.write_text(code.replace("0.1", "0.2"))
        with pytest.raises(ConfigError, match=r"another configuration: content of policy \('\w+', here '\w+'\)"):
            main(["--resume", str(cut.path)])


@pytest.mark.parametrize(
    "setting",
    [
        "data",
        pytest.param("teacher_weights", marks=pytest.mark.slow),
        pytest.param("student_init", marks=pytest.mark.slow),
    ],
)
def test_a_snapshot_goes_by_content(setting: str, places: Path, cache: str) -> None:
    torch.manual_seed(0)

    def write(path: Path, seed: int) -> str:
        if setting == "data":
            write_pairs(path, seed)
        elif setting == "teacher_weights":
            save_state(
                {k: v + 0.01 * seed for k, v in teachers.load("embedded").state_dict().items()}, path := path / "t"
            )
        else:
            torch.manual_seed(seed)
            save_state(FusionStudent().state_dict(), path := path / "s")
        return str(path)

    teacher = "ldfusion" if setting == "teacher_weights" else "laplacian"

    def env(value: str) -> FusionDistillEnv:
        settings = {"cache_dir": cache, "teacher": teacher, "stage0_rounds": 0, setting: value}
        return FusionDistillEnv(config=preset("tiny", **settings))

    first = env(write(places / "first", 1))
    first.reset(seed=0)
    snapshot, action = first.state_dict(), np.zeros(first.action_space.shape, np.float32)
    elsewhere = env(write(places / "elsewhere", 1))
    elsewhere.load_state_dict(snapshot)
    assert elsewhere.step(action)[1] == first.step(action)[1]
    other = env(write(places / "first", 2))
    with pytest.raises(SnapshotError, match=f"content of {setting.removesuffix('_weights')}"):
        other.load_state_dict(snapshot)
    del snapshot["fingerprints"]  # as older ones
    first.load_state_dict(snapshot)


def test_the_directory_says_which_setting_differs(finished: Callable, tiny: Callable, places: Path) -> None:
    run = finished(places / "run", *OPTIONS)
    with pytest.raises(ConfigError, match=r"another configuration: seed \(0, here 1\), rounds \(6, here 7\)\. Choose"):
        main([*tiny(run.path, *OPTIONS), "--rounds", "7", "--seed", "1"])
