import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.running.config import RunConfig
from experiments.running.directory import RunDirectory
from fusion_env.config import preset
from fusion_env.errors import ConfigError, FusionEnvError, UnknownNameError

CONFIG = RunConfig(env=preset("tiny"))

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.just(10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_names = st.sampled_from(sorted(CONFIG.to_dict())) | st.text(max_size=8)


def test_round_trip(tmp_path: Path) -> None:
    config = RunConfig(
        env=preset("tiny"),
        task="few",
        agent="linear",
        agent_settings={"start": (0.5, -0.5), 3: None},
        protocol="across",
        eval_runs=2,
        normalize=True,
        checkpoint_every=3,
    )
    RunDirectory(tmp_path).write_config(config)
    assert RunDirectory(tmp_path).read_config() == config
    assert config.agent_settings == {"start": [0.5, -0.5], "3": None}  # as JSON has it


def test_files_of_the_versions_before_are_read(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write_config(CONFIG)
    values = json.loads(directory.config_file.read_text())
    for version, unknown in {4: ["task"], 3: ["num_envs"], 2: ["normalize", "checkpoint_every"]}.items():
        for name in unknown:
            del values[name]
        directory.config_file.write_text(json.dumps({**values, "version": version}))
        assert directory.read_config() == CONFIG
    for version in (1, 6, None, "3", [3]):
        directory.config_file.write_text(json.dumps({**values, "version": version}))
        with pytest.raises(ConfigError, match="format version"):
            directory.read_config()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": "3"}, "runs must be int. Got '3'"),
        ({"runs": 1.5}, "runs must be int"),
        ({"runs": True}, "runs must be int. Got True"),
        ({"seed": None}, "seed must be int"),
        ({"seed": 2**32}, "seed must be at most 4294967295"),
        ({"agent": None}, "agent must be str"),
        ({"agent_settings": [1]}, "agent_settings must be dict"),
        ({"agent_settings": {"learning_rate": float("nan")}}, "not NaN"),
        ({"env": []}, "must be a mapping"),
        ({"protocol": "offline"}, "unknown protocol"),
        ({"policy": 5}, "policy must be str | None"),
        ({"details": "x"}, "details must be bool"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1"),
        ({"normalise": True}, "Did you mean 'normalize'"),
        ({"protocol": "across", "runs": 0, "eval_runs": 1, "normalize": True}, "normalize needs learning runs"),
    ],
)
def test_wrong_values_are_named(change: dict, message: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError)) as caught:
        RunConfig.from_dict({**CONFIG.to_dict(), **change})
    assert message in str(caught.value)


def test_settings_that_json_cannot_hold() -> None:
    loop: list = []
    loop.append(loop)
    for value in ({1, 2}, object(), b"x", loop):
        with pytest.raises(ConfigError, match="agent_settings must be numbers, texts, lists and mappings"):
            RunConfig(env=preset("tiny"), agent_settings={"horizon": value})


@given(st.dictionaries(_names, _json, max_size=3) | _json)
@settings(deadline=None, max_examples=150)
def test_any_description_is_a_run_or_one_clear_error(change: object) -> None:
    values = {**CONFIG.to_dict(), **change} if isinstance(change, dict) else change
    try:
        config = RunConfig.from_dict(json.loads(json.dumps(values)))
    except FusionEnvError as caught:
        error = caught
    else:
        assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
        return
    assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{}", b"\xff\xfe", b"\0", b"[" * 200_000, b'{"version": 3}'])
def test_damaged_files_are_one_line(tmp_path: Path, content: bytes) -> None:
    RunDirectory(tmp_path).config_file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.json cannot be read") as caught:
        RunDirectory(tmp_path).read_config()
    assert "\n" not in str(caught.value)
