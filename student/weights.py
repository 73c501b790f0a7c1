"""Weights on disk: read safely, checked before use, written whole or not at all.

Files are safetensors, or PyTorch files read with ``weights_only=True`` (no code is run). Every problem with a file's
content is a `WeightsError` that names the file.
"""

import logging
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from student.files import write_atomic
from student.network import FusionStudent
from student.numerics import own_numerics

__all__ = [
    "PRETRAINED",
    "WeightsError",
    "bare_name",
    "build_student",
    "check_finite",
    "load_into",
    "load_metadata",
    "load_state",
    "load_student",
    "metadata_of",
    "read_torch",
    "save_state",
    "unwrapped",
]

PRETRAINED = "model.safetensors"
"""What ``save_pretrained`` and the Hugging Face hub call a file of weights."""

_EXPOSURE = {"exposure": "sources"}
"""What a file of weights says beside them if the student's fused images get their sources' brightness and contrast."""

_SHOWN_KEYS = 3
_WRAPPERS = {"module": "DataParallel", "_orig_mod": "torch.compile"}
"""What stands before the names of a network that was wrapped when it was saved, and who puts it there."""

_WIDTH_TENSOR = "encoder.content_encoder1.model.1.bias"

_logger = logging.getLogger(__name__)


class WeightsError(Exception):
    """Weights cannot be read, written or fitted to a network."""


@own_numerics()
def load_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a state dict from a safetensors or PyTorch file; the format is told by content, not by name.

    Args:
        path: The file.

    Returns:
        Tensors by key on the CPU, floating ones as float32.

    Raises:
        WeightsError: If the file is missing, truncated, holds code or anything but plain tensors by name, tensors
            larger than itself, or non-finite values.
    """
    path = Path(path)
    with _open_weights(path) as file:
        head = file.read(9)
        size = os.fstat(file.fileno()).st_size
    # A safetensors file is an 8-byte length and a JSON object; PyTorch's are zip archives or pickles.
    if head[8:] == b"{":
        content = _read_safetensors(path)
    elif head.startswith((b"PK", b"\x80")):
        content = read_torch(path)
    else:
        found = f"starts with {head!r}" if head else "is empty"
        raise WeightsError(f"{path} is neither a safetensors nor a PyTorch file (it {found}).")
    state = {key: _to_float32(key, value, size, path) for key, value in _check_state_dict(content, path).items()}
    check_finite(state, str(path))
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
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a complete safetensors file ({error}).") from error


def read_torch(path: Path) -> object:
    """Read a PyTorch file without running code that it may hold.

    Args:
        path: A file of tensors, plain values and containers of them.

    Returns:
        Its content on the CPU, not checked.

    Raises:
        WeightsError: If the file holds other Python objects (which could run code), is compressed or damaged.
    """
    try:
        # A handle, because torch.load also goes by the file's extension.
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formats that are refused or read all the same
            _refuse_compressed(file, path)
            return torch.load(file, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds Python objects other than tensors, which could run code and are refused (or it is damaged). "
            "Save the network's state_dict() alone instead."
        ) from error
    # Hostile bytes make the unpickler raise nearly anything: EOFError, KeyError, IndexError, RuntimeError, ...
    except Exception as error:
        text = re.sub(r"^\[enforce fail at [^]]*\][ .]*", "", str(error))
        reason = text.partition("\n")[0].split(". ")[0] or type(error).__name__
        raise WeightsError(f"{path} is not a complete PyTorch file ({reason}); fetch or write it again.") from error


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
    check_finite(state, f"state for {path}")
    stored = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state.items()}
    if half:
        stored = {key: value.half() if value.is_floating_point() else value for key, value in stored.items()}
        check_finite(stored, f"state for {path}, rounded to float16 (largest value 65504)")
    write_atomic(path, safetensors.torch.save(stored, dict(metadata) if metadata else None))


def bare_name(key: str) -> str:
    """Return a tensor's name without ``module.`` and ``_orig_mod.``, which wrappers of networks add, also inside."""
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def unwrapped(state: Mapping[str, Tensor], expected: Collection[str], source_name: str) -> Mapping[str, Tensor]:
    """Undo the renaming by DataParallel and torch.compile where that gives exactly the expected names, and say so.

    Args:
        state: Tensors by key.
        expected: The network's own keys.
        source_name: Where the state is from, for the message.

    Returns:
        The tensors by `bare_name`; as they were if they fit so, or if not even that makes them fit.
    """
    bare = {bare_name(key): value for key, value in state.items()}
    if state.keys() == set(expected) or bare.keys() != set(expected) or len(bare) < len(state):
        return state
    added = [f"{part}. ({maker})" for part, maker in _WRAPPERS.items() if any(part in key.split(".") for key in state)]
    _logger.warning("%s: %s in the names of its tensors is left out", source_name, " and ".join(added))
    return bare


def load_into(module: nn.Module, state: Mapping[str, Tensor], source_name: str) -> None:
    """Copy a state dict into a module, strictly but for what wrappers add to names (see `unwrapped`).

    Args:
        module: The network; unchanged if the state does not fit.
        state: Tensors by key.
        source_name: Where the state is from, for messages.

    Raises:
        WeightsError: If a key is missing or unexpected, or a shape or the kind of numbers differs.
    """
    state = unwrapped(state, module.state_dict().keys(), source_name)
    _check_fits(module, state, source_name)
    module.load_state_dict(state)


def load_student(path: str | os.PathLike[str], source_name: str | None = None) -> FusionStudent:
    """Build a student of the width that a file holds, with its weights, in evaluation mode.

    Args:
        path: A file for `load_state`, such as the official ``final.pt`` or one that `save_state` wrote. What
            `metadata_of` gave it decides the student's `exposure_of_sources`.
        source_name: What messages call it; None for the path.

    Raises:
        WeightsError: If the file cannot be read or holds no student.
    """
    student = build_student(load_state(path), source_name or str(path))
    with _open_weights(Path(path)) as file:
        is_safetensors = file.read(9)[8:] == b"{"
    student.exposure_of_sources = is_safetensors and _EXPOSURE.items() <= load_metadata(path).items()
    return student


def metadata_of(student: FusionStudent) -> dict[str, str]:
    """Return what `save_state` must store beside a student's tensors, so that `load_student` gives the same student."""
    return dict(_EXPOSURE) if student.exposure_of_sources else {}


@own_numerics()
def build_student(state: Mapping[str, Tensor], source_name: str) -> FusionStudent:
    """Build a student of the width that a state dict has, with its weights, on the CPU in evaluation mode.

    Args:
        state: Tensors by key.
        source_name: Where the state is from, for the error message.

    Raises:
        WeightsError: If it is no student's.
    """
    first = next((value for key, value in state.items() if bare_name(key) == _WIDTH_TENSOR), None)
    # Without the tensor that tells the width, the check reports what the state holds instead.
    width = (len(first),) if first is not None and first.ndim == 1 and len(first) else ()
    with torch.device("meta"):  # no memory until the state is known to fill it, and no random first weights
        student = FusionStudent(*width)
    state = unwrapped(state, student.state_dict().keys(), source_name)
    _check_fits(student, state, source_name)
    student.to_empty(device="cpu").load_state_dict(state)
    return student.eval()


def _open_weights(path: Path) -> BinaryIO:
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # opening a named pipe could wait for ever
            raise WeightsError(f"Weights file {path} cannot be opened: not a regular file.")
        return path.open("rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"Weights file {path} cannot be opened: {reason}.") from error


def _read_safetensors(path: Path) -> object:
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # which types there are, and which of them old versions raise, is not documented
        raise WeightsError(f"{path} is not a complete safetensors file ({error}); fetch or write it again.") from error


def _refuse_compressed(file: BinaryIO, path: Path) -> None:
    """Refuse a zip archive that unpacks to much more than itself: PyTorch stores tensors without compression."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > 2 * os.fstat(file.fileno()).st_size:
            raise WeightsError(f"{path} is a compressed archive, not a file that torch.save wrote; unpack it first.")
    file.seek(0)


def _check_state_dict(content: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a state dict (tensors by name).")
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise WeightsError(
                f"{path} is not a state dict: entry {key!r} is a {type(value).__name__}, not a tensor. "
                "If the weights are under an entry of their own, save that entry alone."
            )
        if not isinstance(key, str):
            raise WeightsError(f"{path} is not a state dict: {key!r} is a {type(key).__name__}, not a tensor's name.")
    return dict(content)


def _to_float32(key: str, value: Tensor, file_size: int, path: Path) -> Tensor:
    """Return a plain tensor, floating ones as float32; refuse what only looks like one."""
    if value.layout != torch.strided or value.is_nested or value.is_quantized or value.is_meta:
        raise WeightsError(f"{path}: {key!r} is a sparse, nested, quantised or empty (meta) tensor, not a plain one.")
    # A view can repeat one stored number without end.
    if value.numel() * value.element_size() > file_size:
        raise WeightsError(f"{path}: {key!r} has shape {tuple(value.shape)}, more than the file's {file_size} bytes.")
    try:
        return value.detach().float() if value.is_floating_point() else value.detach()
    except RuntimeError as error:
        raise WeightsError(f"{path}: {key!r} holds {value.dtype}, which cannot be read as float32.") from error


def _check_fits(module: nn.Module, state: Mapping[str, Tensor], source_name: str) -> None:
    """Compare names, shapes and kinds; the module may be on the meta device."""
    own = module.state_dict()
    problems = []
    for what, keys in (("missing", own.keys() - state.keys()), ("unexpected", state.keys() - own.keys())):
        if keys:
            problems.append(f"{len(keys)} {what} keys: {_brief(sorted(keys))}")
    shared = [(key, own[key], state[key]) for key in own if key in state]
    shapes = [f"{k} {tuple(b.shape)} instead of {tuple(a.shape)}" for k, a, b in shared if a.shape != b.shape]
    if shapes:
        problems.append(f"{len(shapes)} wrong shapes: {_brief(shapes)}")
    kinds = [f"{k} {_kind(b)} instead of {_kind(a)}" for k, a, b in shared if _kind(a) != _kind(b)]
    if kinds:
        problems.append(f"{len(kinds)} wrong types: {_brief(kinds)}")
    if problems:
        raise WeightsError(
            f"{source_name} does not fit {type(module).__name__} ({len(own)} tensors): {'; '.join(problems)}."
        )


def _kind(tensor: Tensor) -> str:
    if tensor.is_floating_point():
        return "floating-point"
    return "complex" if tensor.is_complex() else "boolean" if tensor.dtype == torch.bool else "integer"


def check_finite(state: Mapping[str, Tensor], source_name: str) -> None:
    """Refuse a state dict with NaN or infinite values.

    Args:
        state: Tensors by key.
        source_name: Where the state is from, for the error message.

    Raises:
        WeightsError: Naming the tensors that have such values.
    """
    bad = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise WeightsError(
            f"{source_name}: NaN or infinite values in {len(bad)} of {len(state)} tensors: {_brief(bad)}."
        )


def _brief(items: Sequence[str]) -> str:
    more = ", ..." if len(items) > _SHOWN_KEYS else ""
    return ", ".join(ascii(item)[1:-1] for item in items[:_SHOWN_KEYS]) + more
