"""The files for RL Baselines3 Zoo say what the agents' own files say, and the zoo accepts them."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

import agents
from fusion_env.config import preset

CHECKOUT = Path(__file__).resolve().parents[2]
FILES = sorted((CHECKOUT / "experiments" / "rl_zoo").glob("*.yml"))
PRESETS = {"FusionDistill": "demo", "FusionDistillTiny": "tiny", "FusionDistillPaper": "paper"}
RUNS = 20

each_file = pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])


def in_the_terms_of_the_zoo(settings: dict[str, Any]) -> dict[str, Any]:
    del settings["device"]  # an option of the zoo's command
    if noise := settings.pop("action_noise", None):
        settings |= {"noise_type": "normal", "noise_std": noise}
    return settings


def test_every_algorithm_has_a_file() -> None:
    assert [file.stem for file in FILES] == ["a2c", "ppo", "sac", "td3", "tqc"]


@each_file
def test_the_settings_are_those_of_the_agents(file: Path) -> None:
    if file.stem == "tqc":
        pytest.importorskip("sb3_contrib")
    found = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert list(found) == [f"fusion_env/{name}-v0" for name in PRESETS]
    expected = in_the_terms_of_the_zoo(agents.hyperparams(file.stem))
    for (_, name), settings in zip(PRESETS.items(), found.values(), strict=True):
        assert settings.pop("n_timesteps") == RUNS * preset(name).rounds
        assert settings == expected


@each_file
def test_the_command_in_the_file_names_it(file: Path) -> None:
    head = file.read_text(encoding="utf-8")
    assert f"--algo {file.stem} " in head
    assert f"--conf-file experiments/rl_zoo/{file.name} " in head


@each_file
@pytest.mark.slow
def test_the_zoo_accepts_it(file: Path, tmp_path: Path) -> None:
    if find_spec("rl_zoo3") is None:
        pytest.skip("needs rl_zoo3")
    environment = ["--env", "fusion_env/FusionDistillTiny-v0", "--gym-packages", "fusion_env", "--device", "cpu"]
    options = ["--algo", file.stem, "--conf-file", str(file), "--eval-freq", "-1", "-n", "20", *environment]
    command = [sys.executable, "-m", "rl_zoo3.train", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob(f"logs/{file.stem}/*/fusion_env-FusionDistillTiny-v0.zip"))
