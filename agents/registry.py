"""Algorithms by name, each with settings for runs of 25 to 100 steps."""

import inspect
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
import yaml
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.type_aliases import GymEnv

from agents.settings import check_names, check_types, hint, setting_names, setting_types
from agents.stable_baselines import own_numerics
from agents.wrapped import Wrapped, check_imported, is_import_path, load_object, make_imported

__all__ = ["algorithm", "check_settings", "hyperparams", "make", "names"]

# By import path, so that a module is imported when its algorithm is asked for: tqc needs a package that is not always
# there.
_ALGORITHMS = {
    "a2c": "agents.stable_baselines:A2C",
    "constant": "agents.schedules:Constant",
    "linear": "agents.schedules:Linear",
    "planner": "agents.planner:Planner",
    "ppo": "agents.stable_baselines:PPO",
    "random": "agents.random_actions:Random",
    "random-search": "agents.random_actions:RandomSearch",
    "reinforce": "agents.reinforce:Reinforce",
    "reinforce-paper": "agents.reinforce:Reinforce",
    "sac": "agents.stable_baselines:SAC",
    "td3": "agents.stable_baselines:TD3",
    "tqc": "agents.tqc:TQC",
}
# What the algorithms hand to their policies themselves.
_NOT_POLICY_SETTINGS = {"self", "observation_space", "action_space", "lr_schedule"}


def names() -> tuple[str, ...]:
    """List the names that :func:`make` knows."""
    return tuple(_ALGORITHMS)


def algorithm(name: str) -> type[BaseAlgorithm]:
    """Return the class behind a name, to load a saved agent with.

    Args:
        name: One of :func:`names`, or an import path as for :func:`make`.

    Raises:
        ValueError: The name is unknown; the message suggests the nearest one.
        ImportError: The algorithm needs a package that is not installed.
    """
    if name not in _ALGORITHMS and not is_import_path(name):
        raise ValueError(f"unknown algorithm {name!r}.{hint(name, names())} Known: {', '.join(names())}.")
    try:
        found = load_object(_ALGORITHMS.get(name, name))
    except ModuleNotFoundError as error:
        if error.name != "sb3_contrib":
            raise
        raise ImportError(f"algorithm {name!r} needs the package sb3-contrib: pip install sb3-contrib") from error
    return found if inspect.isclass(found) and issubclass(found, BaseAlgorithm) else Wrapped


def hyperparams(name: str) -> dict[str, Any]:
    """Read the settings of an algorithm from its file `hyperparams/NAME.yml`.

    Args:
        name: One of :func:`names`.

    Returns:
        Settings for :func:`make`, ready to be changed.

    Raises:
        ValueError: The name is unknown or an import path, or the file sets something that the class does not have.
    """
    if is_import_path(name):
        raise ValueError(f"{name!r} is an import path: only {', '.join(names())} have a file of settings.")
    found = algorithm(name)
    text = resources.files("agents").joinpath("hyperparams", f"{name}.yml").read_text(encoding="utf-8")
    settings = yaml.safe_load(text) or {}
    check_names(f"hyperparams/{name}.yml", name, settings, setting_names(found))
    return settings


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings that :func:`make` would refuse by their names or types, without an environment.

    Args:
        name: As for :func:`make`.
        settings: As its `overrides`.

    Raises:
        ValueError: A name is unknown; the message suggests the nearest one.
        TypeError: A setting has the wrong type.
    """
    if is_import_path(name):
        check_imported(name, settings)
        return
    found = algorithm(name)
    check_names("arguments", name, settings, setting_names(found))
    announced = setting_types(found)
    announced["action_noise"] = float | announced.get("action_noise", float)
    check_types(f"{name!r}", settings, announced)


@own_numerics()
def make(name: str, env: GymEnv | str, **overrides: Any) -> BaseAlgorithm:
    """Create an algorithm for an environment.

    Args:
        name: One of :func:`names`; or an import path of a policy, ``"package.module:Factory"`` or
            ``"path/to/file.py:Factory"``. A factory that has a parameter `env` gets the environment. What it returns is
            wrapped as by :func:`agents.wrap`, or taken as it is if it is an algorithm of Stable-Baselines3. `seed`
            goes to the environment, and to the factory if that has a parameter of this name.
        env: Environment, vector environment or registered id.
        **overrides: Keyword arguments of the algorithm's class that replace the settings of its file, such as
            `horizon=3` or `seed=0`; `policy_kwargs` is merged key by key. A number for `action_noise` is the standard
            deviation of Gaussian noise where [-1, 1] stands for the bounds of the action space. For an import path: the
            settings of the factory.

    Returns:
        The algorithm, not yet trained.

    Raises:
        ValueError: A name is unknown, in `policy_kwargs` too; the message suggests the nearest one. Or a value is out
            of range.
        TypeError: A setting has the wrong type.
        ImportError: The algorithm needs a package that is not installed.
    """
    if is_import_path(name):
        return make_imported(name, env, overrides)
    settings = hyperparams(name)
    found = algorithm(name)
    check_settings(name, overrides)
    if settings.get("policy_kwargs") and overrides.get("policy_kwargs"):
        overrides["policy_kwargs"] = settings["policy_kwargs"] | overrides["policy_kwargs"]
    settings |= overrides
    _check_policy(name, found, settings)
    noise = settings.get("action_noise")
    if isinstance(noise, (int, float)):
        del settings["action_noise"]
    model = found(env=env, **settings)
    if isinstance(noise, (int, float)):
        model.action_noise = _gaussian_noise(noise, model.action_space.shape)  # type: ignore[arg-type]  # a Box
    return model


def _check_policy(name: str, found: type[BaseAlgorithm], settings: dict[str, Any]) -> None:
    """Check the name of the policy's network and the settings that go to it."""
    policy, aliases = settings.get("policy"), found.policy_aliases
    if isinstance(policy, str):
        if policy not in aliases:
            raise ValueError(f"{name!r} has no policy {policy!r}.{hint(policy, aliases)} Known: {', '.join(aliases)}.")
        policy = aliases[policy]
    given = settings.get("policy_kwargs")
    if not (given and inspect.isclass(policy)):
        return
    reserved = _NOT_POLICY_SETTINGS.union(setting_names(found))
    if "optimizer" in reserved:
        reserved |= {"optimizer_class", "optimizer_kwargs"}
    check_names("policy_kwargs", name, given, [key for key in setting_names(policy) if key not in reserved])
    check_types(f"policy_kwargs of {name!r}", given, setting_types(policy))


def _gaussian_noise(std: float, shape: tuple[int, ...]) -> NormalActionNoise | None:
    if not (math.isfinite(std) and std >= 0):
        raise ValueError(f"action_noise must be a standard deviation of 0 or more. Got {std!r}.")
    return NormalActionNoise(np.zeros(shape), np.full(shape, float(std))) if std else None
