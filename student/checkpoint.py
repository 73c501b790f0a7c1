"""Weights on disk: read safely, checked before use, written atomically.

Files are safetensors, or PyTorch files read with ``weights_only=True`` (no code is run). Every problem is a
`WeightsError` that names the file.
"""

import os
import pickle
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from student.network import FusionStudent

__all__ = [
    "WeightsError",
    "load_into",
    "load_metadata",
    "load_state",
    "load_student",
    "save_state",
    "write_atomic",
]

_SHOWN_KEYS = 3


class WeightsError(Exception):
    """Weights cannot be read, written or fitted to a network."""


def load_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a state dict from a safetensors or PyTorch file; the format is told by content, not by name.

    Args:
        path: The file.

    Returns:
        Tensors by key on the CPU, floating ones as float32.

    Raises:
        WeightsError: If the file is missing, truncated, holds code or anything but tensors by name, or has non-finite
            values.
    """
    path = Path(path)
    with _open_weights(path) as file:
        head = file.read(9)
    # A safetensors file is an 8-byte length and a JSON object; PyTorch's are zip archives or pickles.
    if head[8:] == b"{":
        content = _read_safetensors(path)
    elif head.startswith((b"PK", b"\x80")):
        content = _read_torch(path)
    else:
        raise WeightsError(f"{path} is neither a safetensors nor a PyTorch file (it starts with {head!r}).")
    state = {key: _to_float32(value) for key, value in _check_state_dict(content, path).items()}
    _check_finite(state, str(path))
    return state


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the strings that `save_state` stored beside the tensors; empty where there are none.

    Args:
        path: A safetensors file.

    Raises:
        WeightsError: If the file is missing or is no safetensors file.
    """
    path = Path(path)
    _open_weights(path).close()
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is not a complete safetensors file ({error}).") from error


def save_state(
    state: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    half: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a state dict as safetensors: whole or not at all, replacing an older file at once.

    Args:
        state: Tensors by key, on any device.
        path: The file; its folder is made if need be.
        half: Store floating tensors as float16 (half the size; `load_state` still returns float32).
        metadata: Strings to store beside the tensors; see `load_metadata`.

    Raises:
        WeightsError: If a value is not finite, or leaves float16's range with ``half``; nothing is written then.
    """
    path = Path(path)
    _check_finite(state, f"state for {path}")
    stored = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state.items()}
    if half:
        stored = {key: value.half() if value.is_floating_point() else value for key, value in stored.items()}
        _check_finite(stored, f"state for {path}, rounded to float16 (largest value 65504)")
    write_atomic(path, safetensors.torch.save(stored, dict(metadata) if metadata else None))


def load_into(module: nn.Module, state: Mapping[str, Tensor], source_name: str) -> None:
    """Copy a state dict into a module, strictly.

    Args:
        module: The network; unchanged if the state does not fit.
        state: Tensors by key.
        source_name: Where the state is from, for the error message.

    Raises:
        WeightsError: If a key is missing or unexpected, or a shape differs.
    """
    own = module.state_dict()
    problems = []
    for what, keys in (("missing", own.keys() - state.keys()), ("unexpected", state.keys() - own.keys())):
        if keys:
            problems.append(f"{len(keys)} {what} keys: {_brief(sorted(keys))}")
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if shapes:
        problems.append(f"{len(shapes)} wrong shapes: {_brief(shapes)}")
    if problems:
        raise WeightsError(
            f"{source_name} does not fit {type(module).__name__} ({len(own)} tensors): {'; '.join(problems)}."
        )
    module.load_state_dict(state)


def load_student(path: str | os.PathLike[str]) -> FusionStudent:
    """Build a student of the width that a file holds, with its weights, in evaluation mode.

    Args:
        path: A file for `load_state`, such as the official ``final.pt`` or one that `save_state` wrote.

    Raises:
        WeightsError: If the file cannot be read or holds no student.
    """
    state = load_state(path)
    first = state.get("encoder.content_encoder1.model.1.bias")
    # Without the tensor that tells the width, load_into reports what the file holds instead.
    student = FusionStudent(len(first)) if first is not None and first.ndim == 1 and len(first) else FusionStudent()
    load_into(student, state, str(path))
    return student.eval()


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that readers see the old or the new content, never a part, even after a crash.

    Args:
        path: The file; its folder is made if need be.
        data: The new content.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _open_weights(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise WeightsError(f"Weights file {path} cannot be opened: {error.strerror}.") from error


def _read_safetensors(path: Path) -> object:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is not a complete safetensors file ({error}); fetch or write it again.") from error


def _read_torch(path: Path) -> object:
    try:
        # A handle, because torch.load also goes by the file's extension.
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds Python objects other than tensors, which could run code and are refused (or it is damaged). "
            "Save the network's state_dict() alone instead."
        ) from error
    except (EOFError, OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).split(". ")[0] or type(error).__name__
        raise WeightsError(f"{path} is not a complete PyTorch file ({reason}); fetch or write it again.") from error


def _check_state_dict(content: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a state dict (tensors by name).")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f"{path} is not a state dict: entry {key!r} is a {type(value).__name__}, not a tensor. "
                "If the weights are under an entry of their own, save that entry alone."
            )
    return dict(content)


def _check_finite(state: Mapping[str, Tensor], source_name: str) -> None:
    bad = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise WeightsError(
            f"{source_name}: NaN or infinite values in {len(bad)} of {len(state)} tensors: {_brief(bad)}."
        )


def _to_float32(value: Tensor) -> Tensor:
    return value.detach().float() if value.is_floating_point() else value.detach()


def _brief(items: Sequence[str]) -> str:
    more = ", ..." if len(items) > _SHOWN_KEYS else ""
    return ", ".join(items[:_SHOWN_KEYS]) + more
