"""The whole state of learning in one file, to go on in another process as if nothing had happened."""

import io
import json
import os
import random
import uuid
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize, unwrap_vec_wrapper

from agents.registry import algorithm

__all__ = ["StateError", "load_state", "save_state"]

_VERSION = 1
# The second is unknown to older versions of Stable-Baselines3.
_BUFFERS = ("ReplayBuffer", "NStepReplayBuffer")
_BUFFER_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class StateError(Exception):
    """A state cannot be saved, or a file does not hold one that fits."""


def save_state(model: BaseAlgorithm, file: str | os.PathLike[str] | BinaryIO) -> None:
    """Save everything of an algorithm that the continuation of its learning depends on.

    To be called while the state is complete: in :meth:`agents.CompleteStateCallback.on_complete_state`, or between two
    calls of `learn`. The file holds the algorithm as its own `save` writes it (settings, networks, optimisers,
    counters, last observations, episode statistics, private random streams, action noise), the filled part of the
    replay buffer, the statistics of `VecNormalize`, `VecMonitor` and `Monitor`, the generator of the action space, and
    the global generators of Python, NumPy and PyTorch, from which the algorithms of Stable-Baselines3 draw.

    The environment's own state, that of its other wrappers included, is left to the caller. So is that of a wrapped
    policy without a `save` of its own: it is made again.

    Trust: everything is plain data (``weights_only=True``) but the part that the algorithm's `save` writes, an archive
    of Stable-Baselines3 with pickled settings. Loading that can run code: load only files that you trust.

    Args:
        model: An algorithm with an environment.
        file: A path, written whole or not at all, or a binary file. The path's folder is made if need be.

    Raises:
        StateError: The algorithm has no environment, uses gSDE, whose noise is drawn anew when learning continues, or
            has another replay buffer than Stable-Baselines3's plain ones.
    """
    if model.env is None:
        raise StateError("an algorithm without an environment has no state of learning: use its save().")
    if model.use_sde:
        raise StateError("use_sde=True cannot be continued exactly: its noise is drawn anew when learning continues.")
    archive = io.BytesIO()
    model.save(archive)
    state = {
        "version": _VERSION,
        "algorithm": _class_name(type(model)),
        "archive": _to_tensor(archive.getvalue()),
        "replay_buffer": _read_buffer(getattr(model, "replay_buffer", None)),
        "environment": _read_environment(model.env),
        "generators": _read_generators(model),
    }
    if not isinstance(file, (str, os.PathLike)):
        torch.save(state, file)
        return
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid.uuid4().hex}.part")  # short: the name itself may be as long as can be
    try:
        torch.save(state, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load_state(
    name: str, file: str | os.PathLike[str] | BinaryIO, env: GymEnv, device: torch.device | str = "cpu"
) -> BaseAlgorithm:
    """Load an algorithm that goes on exactly where :func:`save_state` left it.

    On the CPU ``load_state(name, file, env).learn(remaining, reset_num_timesteps=False)`` chooses the same actions and
    ends with the same tensors as learning that was never interrupted. Neither call resets the environment. The
    global generators of Python, NumPy and PyTorch are set: do nothing that draws from them before `learn`.

    Args:
        name: The algorithm's name, as for :func:`agents.make`.
        file: What `save_state` wrote; see there whom to trust.
        env: An environment that stands where the saved one stood, wrapped in the same way (a `Monitor` more or less
            changes the statistics of the current episode and nothing else). Where its wrappers refuse to step before a
            reset, call `reset` first and then restore its state.
        device: Where the networks go.

    Raises:
        StateError: The file is damaged, of another version or algorithm, or the environment is wrapped in another way.
        ValueError: The name is unknown, or the spaces of the environment are others.
    """
    state = _read_file(file)
    found = algorithm(name)
    if state["algorithm"] != _class_name(found):
        raise StateError(f"the state is one of {state['algorithm']}, not of {name!r} ({_class_name(found)}).")
    env = found._wrap_env(env)
    _check_environment(env, state["environment"])
    # Without a seed, setting up the loaded algorithm leaves the seeds of the environment alone.
    archive = io.BytesIO(state["archive"].numpy().tobytes())
    model = found.load(archive, env=env, device=device, force_reset=False, seed=None)
    model.seed = state["generators"]["seed"]
    if model._last_obs is None and model.seed is not None:
        env.seed(model.seed)  # nothing was stepped yet: the first reset is still to come, with this seed
    _write_buffer(getattr(model, "replay_buffer", None), state["replay_buffer"])
    _write_environment(env, state["environment"])
    _write_generators(model, state["generators"])
    return model


def _class_name(found: type[BaseAlgorithm]) -> str:
    return f"{found.__module__}:{found.__qualname__}"


def _to_tensor(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _read_file(file: str | os.PathLike[str] | BinaryIO) -> dict[str, Any]:
    where = str(file) if isinstance(file, (str, os.PathLike)) else "the file"
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise StateError(f"{where} cannot be opened: {error.strerror}.") from error
    except Exception as error:  # torch.load raises many types for a damaged file
        raise StateError(f"{where} holds no state of an algorithm, or is damaged ({error}).") from error
    version = state.get("version") if isinstance(state, dict) else None
    if version != _VERSION:
        raise StateError(f"{where} has format version {version!r}; this version of the package reads {_VERSION}.")
    return state


def _read_buffer(buffer: ReplayBuffer | None) -> dict[str, Any] | None:
    if buffer is None:
        return None
    if type(buffer).__name__ not in _BUFFERS:
        raise StateError(f"replay_buffer_class must be one of {', '.join(_BUFFERS)}. Got {type(buffer).__name__}.")
    # With optimize_memory_usage the next observation of the last transition lies one further.
    filled = buffer.buffer_size if buffer.full else min(buffer.pos + buffer.optimize_memory_usage, buffer.buffer_size)
    arrays = {name: getattr(buffer, name) for name in _BUFFER_ARRAYS if hasattr(buffer, name)}
    return {
        "position": buffer.pos,
        "full": buffer.full,
        "arrays": {name: torch.from_numpy(array[:filled].copy()) for name, array in arrays.items()},
    }


def _write_buffer(buffer: ReplayBuffer | None, saved: dict[str, Any] | None) -> None:
    if buffer is None or saved is None:
        return
    buffer.pos, buffer.full = saved["position"], saved["full"]
    for name, tensor in saved["arrays"].items():
        getattr(buffer, name)[: len(tensor)] = tensor.numpy()


def _read_environment(env: VecEnv) -> dict[str, Any]:
    monitor, normalize = unwrap_vec_wrapper(env, VecMonitor), unwrap_vec_wrapper(env, VecNormalize)
    return {
        "count": env.num_envs,
        "monitors": [list(map(float, rewards)) for rewards in env.get_attr("rewards")] if _has_monitors(env) else None,
        "vec_monitor": None if monitor is None else _tensors(monitor, "episode_returns", "episode_lengths"),
        "vec_normalize": None if normalize is None else _read_normalize(normalize),
    }


def _write_environment(env: VecEnv, saved: dict[str, Any]) -> None:
    monitor, normalize = unwrap_vec_wrapper(env, VecMonitor), unwrap_vec_wrapper(env, VecNormalize)
    if monitor is not None:
        _set_arrays(monitor, saved["vec_monitor"])
    if normalize is not None:
        _write_normalize(normalize, saved["vec_normalize"])
    if _has_monitors(env):
        for index, rewards in enumerate(saved["monitors"] or [[]] * env.num_envs):
            env.env_method("set_wrapper_attr", "rewards", rewards, indices=index)
            env.env_method("set_wrapper_attr", "needs_reset", False, indices=index)


def _check_environment(env: VecEnv, saved: dict[str, Any]) -> None:
    if env.num_envs != saved["count"]:
        raise StateError(f"the saved agent had {saved['count']} environment(s). Got {env.num_envs}.")
    present = {
        "vec_monitor": unwrap_vec_wrapper(env, VecMonitor) is not None,
        "vec_normalize": unwrap_vec_wrapper(env, VecNormalize) is not None,
    }
    for entry, has in present.items():
        if has != (saved[entry] is not None):
            kind = {"vec_monitor": "VecMonitor", "vec_normalize": "VecNormalize"}[entry]
            words = ("a", "none") if has else ("no", "one")
            raise StateError(f"the environment has {words[0]} {kind}, the saved one had {words[1]}: wrap it alike.")


def _has_monitors(env: VecEnv) -> bool:
    return all(env.env_is_wrapped(Monitor))


def _read_normalize(wrapper: VecNormalize) -> dict[str, Any]:
    names = ("ret_rms", "obs_rms") if wrapper.norm_obs else ("ret_rms",)
    statistics = {name: getattr(wrapper, name) for name in names}
    return {
        "statistics": {
            name: {**_tensors(moments, "mean", "var"), "count": float(moments.count)}
            for name, moments in statistics.items()
        },
        "arrays": _tensors(wrapper, "returns", "old_obs", "old_reward"),
    }


def _write_normalize(wrapper: VecNormalize, saved: dict[str, Any]) -> None:
    for name, moments in saved["statistics"].items():
        target = getattr(wrapper, name)
        target.mean, target.var = moments["mean"].numpy().copy(), moments["var"].numpy().copy()
        target.count = moments["count"]
    _set_arrays(wrapper, saved["arrays"])


def _tensors(owner: object, *names: str) -> dict[str, torch.Tensor]:
    present = [name for name in names if hasattr(owner, name)]  # some come with the first reset
    return {name: torch.from_numpy(np.array(getattr(owner, name))) for name in present}


def _set_arrays(owner: object, tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        setattr(owner, name, tensor.numpy().copy())


def _read_generators(model: BaseAlgorithm) -> dict[str, Any]:
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "seed": model.seed,
        "action_space": json.dumps(model.action_space.np_random.bit_generator.state),
        "python": json.dumps(random.getstate()),
        "numpy": json.dumps([kind, keys.tolist(), position, has_gauss, gauss]),  # type: ignore[attr-defined]
        "torch": torch.get_rng_state(),
    }


def _write_generators(model: BaseAlgorithm, saved: dict[str, Any]) -> None:
    model.action_space.seed(0)  # makes sure that there is a generator of the usual kind
    model.action_space.np_random.bit_generator.state = json.loads(saved["action_space"])
    version, numbers, gauss = json.loads(saved["python"])
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = json.loads(saved["numpy"])
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    torch.set_rng_state(saved["torch"])
