"""The one hash by which cached results, networks and files are told apart."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["fingerprint", "sha256_of"]

_BLOCK = 1 << 20
# Time stamps are coarse: a file that was written just now may be written again without another stamp.
_SETTLED_NS = 2_000_000_000

_known: dict[tuple[object, ...], str] = {}


def fingerprint(text: str, tensors: Mapping[str, Tensor] | None = None) -> str:
    """Hash a text and tensors.

    Args:
        text: What beside the tensors counts: a name, settings.
        tensors: By name; their order does not matter, nor does the device.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted((tensors or {}).items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, 64 hexadecimal digits.

    A process reads a file once, and again only when its place, size or time stamps are others.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read.
    """
    state = path.stat()
    changed = max(state.st_mtime_ns, state.st_ctime_ns)  # the latter cannot be set back
    key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    if key not in _known or time.time_ns() < changed + _SETTLED_NS:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        _known[key] = digest.hexdigest()
    return _known[key]
