"""The docs say what the code does."""

import inspect
import re
from pathlib import Path

import pytest
import yaml

import agents

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide"
STABLE_BASELINES = ("a2c", "ppo", "sac", "td3", "tqc")
# Stable-Baselines3 writes these defaults into its code, not into the signature.
POLICY_DEFAULTS = {
    "a2c": {"net_arch": [64, 64], "log_std_init": 0.0},
    "ppo": {"net_arch": [64, 64], "log_std_init": 0.0},
    "sac": {"net_arch": [256, 256]},
    "td3": {"net_arch": [400, 300]},
    "tqc": {"net_arch": [256, 256]},
}


def table(heading: str) -> dict[str, list]:
    """Return the cells of the table under a heading, by setting, read as YAML."""
    text = (GUIDE / "hyperparameters.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]
    rows = re.findall(r"^\| `([\w.]+)` \|([^|]*)\|([^|]*)\|", section, re.MULTILINE)
    return {name: [yaml.safe_load(cell.replace("none", "null")) for cell in cells] for name, *cells in rows}


def defaults(name: str) -> dict:
    bases = agents.algorithm(name).__mro__
    published = next(base for base in bases if base.__module__.startswith(("stable_baselines3.", "sb3_contrib.")))
    signature = inspect.signature(published)
    values = {key: parameter.default for key, parameter in signature.parameters.items()}
    return values | {f"policy_kwargs.{key}": value for key, value in POLICY_DEFAULTS[name].items()}


def flat(settings: dict) -> dict:
    policy = settings.pop("policy_kwargs", {})
    return settings | {f"policy_kwargs.{key}": value for key, value in policy.items()}


@pytest.mark.parametrize("name", STABLE_BASELINES)
def test_settings_that_differ_from_the_defaults(name):
    if name == "tqc":
        pytest.importorskip("sb3_contrib")
    default = defaults(name)
    settings = flat(agents.hyperparams(name))
    differing = {key: [value, default[key]] for key, value in settings.items() if value != default[key]}
    del differing["policy"]  # it has no default
    assert table(name) == differing


@pytest.mark.parametrize("name", STABLE_BASELINES)
def test_policy_defaults(name):
    if name == "tqc":
        pytest.importorskip("sb3_contrib")

    policy = agents.algorithm(name)(
        "MlpPolicy", "Pendulum-v1", **({} if name in ("a2c", "ppo") else {"buffer_size": 1})
    ).policy
    widths = policy.net_arch if isinstance(policy.net_arch, list) else policy.net_arch["pi"]
    assert widths == POLICY_DEFAULTS[name]["net_arch"]


def test_presets_of_reinforce():
    presets = [agents.hyperparams(name) for name in ("reinforce", "reinforce-paper")]
    signature = inspect.signature(agents.Reinforce).parameters
    for key, values in table("reinforce, reinforce-paper").items():
        assert [preset.get(key, signature[key].default) for preset in presets] == values, key


@pytest.mark.slow
def test_own_policy(tmp_path, monkeypatch, capsys):
    pytest.importorskip("fusion_env")
    pytest.importorskip("sb3_contrib")
    blocks = re.findall(r"```python\n(.*?)```", (GUIDE / "own-policy.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    monkeypatch.chdir(tmp_path)
    Path("my_policy.py").write_text(blocks[0])
    names: dict = {}
    for block in blocks:
        exec(block, names)  # the page's own code
    assert isinstance(names["agent"], agents.algorithm("sb3_contrib:TRPO"))
    assert len(capsys.readouterr().out.splitlines()) == 1 + 2
