"""Results on disk that are computed once: teacher outputs and stage-0 students.

A file's name is a hash of everything its content depends on, so that a stale file is never read; the content carries
its own checksum, so that a damaged one is recomputed.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from fusion_env.errors import CacheError
from student.checkpoint import write_atomic

__all__ = ["cache_folder", "content_key", "load_or_compute"]

_logger = logging.getLogger(__name__)


def cache_folder(setting: str | None) -> Path:
    """Return the cache folder: the setting, else ``$FUSION_ENV_CACHE``, else ``~/.cache/fusion_env``."""
    if setting is None:
        setting = os.environ.get("FUSION_ENV_CACHE") or str(
            Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fusion_env"
        )
    return Path(setting).expanduser()


def content_key(parts: Mapping[str, object]) -> str:
    """Hash JSON-ready values to 20 hexadecimal digits; the order of the keys does not matter."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def load_or_compute(path: Path, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Read tensors from a cache file, or compute them and write it.

    Args:
        path: The file; a missing or damaged one is written anew, atomically.
        compute: Makes the tensors.

    Returns:
        The tensors, on the CPU.

    Raises:
        CacheError: The file cannot be written.
    """
    stored = _read(path)
    if stored is not None:
        return stored
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in compute().items()}
    try:
        write_atomic(path, safetensors.torch.save(tensors, {"sha256": _checksum(tensors)}))
    except OSError as error:
        raise CacheError(
            f"cache file {path} cannot be written ({error.strerror}): "
            "set cache_dir or FUSION_ENV_CACHE to a writable folder"
        ) from error
    return tensors


def _read(path: Path) -> dict[str, Tensor] | None:
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            expected = (file.metadata() or {}).get("sha256")
    except (safetensors.SafetensorError, OSError) as error:
        _logger.warning("cache file %s is damaged (%s); computing it again", path, error)
        return None
    if _checksum(tensors) != expected:
        _logger.warning("cache file %s fails its checksum; computing it again", path)
        return None
    return tensors


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
