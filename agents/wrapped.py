"""Policies from elsewhere, as objects or by import path, behind the interface of the algorithms here."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv

from agents.settings import check_names, hint
from agents.stepwise import Unlearned

__all__ = ["Origin", "Policy", "Wrapped", "check_imported", "is_import_path", "load_object", "make_imported", "wrap"]


@runtime_checkable
class Policy(Protocol):
    """Anything that chooses actions in the form of Stable-Baselines3."""

    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """Return an action for each observation of a batch [E, ...], and what the next call shall get as `state`."""


@dataclass(frozen=True)
class Origin:
    """How a policy can be made again.

    Attributes:
        path: Import path of its class or factory.
        settings: Keyword arguments of the factory.
        wants_env: Whether the factory takes the environment, too.
    """

    path: str
    settings: dict[str, Any] = field(default_factory=dict)
    wants_env: bool = False

    def make(self, env: GymEnv | None) -> Policy:
        """Make the policy.

        Raises:
            ValueError: The factory cannot be imported, or wants an environment and there is none.
        """
        if self.wants_env and env is None:
            raise ValueError(f"{self.path} makes its policy for an environment: load it with env=...")
        return load_object(self.path)(**({"env": env} if self.wants_env else {}), **self.settings)


class Wrapped(Unlearned):
    """Give a policy the interface of an algorithm; :func:`agents.wrap` makes one.

    `learn` steps the environment with ``policy.predict(obs, state, episode_start, deterministic=False)`` and calls the
    callback; the policy is not taught. Observations come in batches [E, ...], also from a single environment.

    Saving uses the policy's own ``save(path)`` and its class's ``load(path)`` where it has both. Otherwise a policy
    that was made by name is made again by this name with the same settings: what it learnt or remembers is lost. A
    policy with neither cannot be saved; it is never pickled. Loading imports its module, which runs the module's code.

    Args:
        policy: The policy; None while Stable-Baselines3 loads an algorithm.
        env: Environment, vector environment or registered id.
        origin: How to make the policy again.
        **common: The other arguments of :class:`agents.stepwise.Unlearned`.

    Raises:
        TypeError: The policy has no `predict`.
    """

    policy: Policy  # type: ignore[assignment]

    def __init__(
        self, policy: Policy | None = None, env: GymEnv | str | None = None, origin: Origin | None = None, **common: Any
    ) -> None:
        if policy is not None and not isinstance(policy, Policy):
            raise TypeError(
                "a policy must have predict(observation, state, episode_start, deterministic). "
                f"Got {type(policy).__name__}."
            )
        self.origin = origin
        self._policy_state: Any = None
        self._saved_as = ""
        self._files: dict[str, bytes] | None = None
        super().__init__(None, env, **common)
        if policy is not None:
            self.policy = policy

    def _setup_model(self) -> None:
        super()._setup_model()
        if self._files is not None:
            self.policy = _unpack(load_object(self._saved_as), self._files)
            self._files = None
        elif self.origin is not None and not hasattr(self, "policy"):
            self.policy = self.origin.make(self.env)

    def predict(  # type: ignore[override]  # observations are arrays
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """Ask the policy; see :class:`Policy`.

        Raises:
            TypeError: It does not return a pair, or its actions are no real numbers.
            ValueError: Its actions have another shape than one for each observation.
        """
        answer = self.policy.predict(observation, state=state, episode_start=episode_start, deterministic=deterministic)
        if not (isinstance(answer, tuple) and len(answer) == 2):
            raise TypeError(
                f"predict of {type(self.policy).__name__} must return (action, state). Got a {type(answer).__name__}."
            )
        batch = np.shape(observation)[: np.ndim(observation) - len(self.observation_space.shape or ())]
        expected = (*batch, *self.action_space.shape)
        if np.shape(answer[0]) != expected:
            raise ValueError(
                f"predict of {type(self.policy).__name__} must return actions of shape {expected} for observations of "
                f"shape {np.shape(observation)}. Got {np.shape(answer[0])}."
            )
        actions = np.asarray(answer[0])
        if actions.dtype.kind not in "biuf":
            raise TypeError(
                f"predict of {type(self.policy).__name__} must return actions of real numbers. Got {actions.dtype}."
            )
        return actions, answer[1]

    def _act(self, obs: np.ndarray) -> tuple[np.ndarray, None]:
        actions, self._policy_state = self.predict(obs, self._policy_state, self._last_episode_starts)
        return np.asarray(actions, self.action_space.dtype), None

    def _forget_episodes(self) -> None:
        self._policy_state = None

    def save(self, path: Any, exclude: Any = None, include: Any = None) -> None:
        """Save as the class describes; the arguments are those of the base class.

        Raises:
            TypeError: The policy has no `save` with a `load` beside it, and was not made by name.
        """
        if hasattr(self.policy, "save") and hasattr(type(self.policy), "load"):
            self._saved_as = self._class_path()
            self._files = _pack(self.policy)
        elif self.origin is None:
            raise TypeError(
                f"{type(self.policy).__name__} cannot be saved: give it save(path) and a class method load(path), or "
                "make it by name, agents.make('package.module:Name', env, **settings)."
            )
        try:
            super().save(path, exclude, include)
        finally:
            self._files = None

    def _class_path(self) -> str:
        policy_class = type(self.policy)
        module = policy_class.__module__
        # A class from a file is found by the file: its module has no name that another process knows.
        source = self.origin.path.rpartition(":")[0] if self.origin is not None else ""
        if source.endswith(".py") and module.startswith("_policy_"):
            module = source
        return f"{module}:{policy_class.__qualname__}"


def wrap(policy: Policy, env: GymEnv | str, **common: Any) -> Wrapped:
    """Give a policy of any class the interface of an algorithm.

    Args:
        policy: Anything with Stable-Baselines3's `predict`; see :class:`Policy`.
        env: Environment, vector environment or registered id.
        **common: `seed`, `verbose`, `tensorboard_log`, `stats_window_size`.

    Raises:
        TypeError: The policy has no `predict`.
    """
    return Wrapped(policy, env, **common)


def check_imported(path: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings that a factory, given by import path, does not take.

    Raises:
        ValueError: A name is unknown; the message suggests the nearest one.
    """
    parameters = _parameters(path)
    if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        check_names("arguments", path, settings, [name for name in parameters if name != "env"])


def make_imported(path: str, env: GymEnv | str, settings: dict[str, Any]) -> BaseAlgorithm:
    """Make a policy or an algorithm by import path; see :func:`agents.make`."""
    source, _, name = path.rpartition(":")
    if source.endswith(".py"):
        # A file that is saved beside an agent must be found from any folder.
        path = f"{Path(source).expanduser().resolve()}:{name}"
    parameters = _parameters(path)
    seed = settings.get("seed") if "seed" in parameters else settings.pop("seed", None)
    check_imported(path, settings)
    env = gymnasium.make(env) if isinstance(env, str) else env
    origin = Origin(path, settings, wants_env="env" in parameters)
    made = origin.make(env)
    return made if isinstance(made, BaseAlgorithm) else Wrapped(made, env, origin, seed=seed)


def _parameters(path: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(load_object(path)).parameters


def is_import_path(name: str) -> bool:
    """Tell whether a name is an import path rather than the name of an algorithm."""
    return ":" in name


def load_object(path: str) -> Callable[..., Any]:
    """Import a class or function. This runs the module's code.

    Args:
        path: ``"package.module:Name"`` or ``"path/to/file.py:Name"``; the name may have dots.

    Raises:
        ValueError: The module, the file or the name does not exist, or the name is nothing that can be called.
    """
    source, _, qualified_name = path.rpartition(":")
    found: Any = _load_file(source) if source.endswith(".py") else _load_module(source)
    for name in qualified_name.split("."):
        if not hasattr(found, name):
            raise ValueError(f"{source} has no {name!r}.{hint(name, vars(found))} (From {path!r}.)")
        found = getattr(found, name)
    if not callable(found):
        raise ValueError(f"{path!r} must be a class or a function. It is a {type(found).__name__}.")
    return found


def _pack(policy: Any) -> dict[str, bytes]:
    """Let a policy save itself into a folder, and return the files by name."""
    with tempfile.TemporaryDirectory() as folder:
        policy.save(str(Path(folder, "policy")))
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _unpack(policy_class: Any, files: dict[str, bytes]) -> Policy:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return policy_class.load(str(Path(folder, "policy")))


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that exists and lacks a requirement of its own is another mistake than a misspelt one.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"there is no module {name!r} to import a policy from. "
            "Write 'package.module:Name' or 'path/to/file.py:Name'."
        ) from error


def _load_file(name: str) -> ModuleType:
    path = Path(name).expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"there is no file {path} to import a policy from. Write 'path/to/file.py:Name'.")
    # Pickling and dataclasses look a class's module up by name; two files of one name are two modules.
    module_name = f"_policy_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        sys.modules[module_name] = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]  # a file has one
        try:
            spec.loader.exec_module(sys.modules[module_name])  # type: ignore[union-attr]
        except BaseException:
            del sys.modules[module_name]
            raise
    return sys.modules[module_name]
