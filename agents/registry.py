"""Algorithms by name, each with settings for runs of 25 to 100 steps."""

import difflib
import inspect
from collections.abc import Iterable
from importlib import resources
from typing import Any

import yaml
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv

from agents.reinforce import Reinforce

__all__ = ["algorithm", "hyperparams", "make", "names"]

_ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"reinforce": Reinforce, "reinforce-paper": Reinforce}


def names() -> tuple[str, ...]:
    """List the names that :func:`make` knows."""
    return tuple(sorted(_ALGORITHMS))


def algorithm(name: str) -> type[BaseAlgorithm]:
    """Return the class behind a name, to load a saved agent with.

    Raises:
        ValueError: The name is unknown; the message suggests the nearest one.
    """
    if name not in _ALGORITHMS:
        raise ValueError(f"unknown algorithm {name!r}.{_hint(name, names())} Known: {', '.join(names())}.")
    return _ALGORITHMS[name]


def hyperparams(name: str) -> dict[str, Any]:
    """Read the settings of an algorithm from its file `hyperparams/NAME.yml`.

    Args:
        name: One of :func:`names`.

    Returns:
        Keyword arguments of the algorithm's class, ready to be changed.

    Raises:
        ValueError: The name is unknown, or the file sets something that the class does not have.
    """
    algorithm(name)
    text = resources.files("agents").joinpath("hyperparams", f"{name}.yml").read_text(encoding="utf-8")
    settings = yaml.safe_load(text)
    _check_keys(name, settings, f"hyperparams/{name}.yml")
    return settings


def make(name: str, env: GymEnv | str, **overrides: Any) -> BaseAlgorithm:
    """Create an algorithm for an environment.

    Args:
        name: One of :func:`names`.
        env: Environment, vector environment or registered id.
        **overrides: Keyword arguments of the algorithm's class that replace the settings of its file, such as
            `horizon=3` or `seed=0`; `policy_kwargs` is merged key by key.

    Returns:
        The algorithm, not yet trained.

    Raises:
        ValueError: A name is unknown; the message suggests the nearest one.
    """
    settings = hyperparams(name)
    _check_keys(name, overrides, "arguments")
    if settings.get("policy_kwargs") and overrides.get("policy_kwargs"):
        overrides["policy_kwargs"] = settings["policy_kwargs"] | overrides["policy_kwargs"]
    settings |= overrides
    return _ALGORITHMS[name](env=env, **settings)


def _check_keys(name: str, keys: Iterable[str], source: str) -> None:
    known = [key for key in inspect.signature(_ALGORITHMS[name]).parameters if not key.startswith("_") and key != "env"]
    for key in keys:
        if key not in known:
            raise ValueError(
                f"{source}: {name!r} has no setting {key!r}.{_hint(key, known)} Known: {', '.join(known)}."
            )


def _hint(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.4)
    return f" Did you mean {near[0]!r}?" if near else ""
