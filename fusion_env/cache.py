"""Results on disk that are computed once: teacher outputs, stage-0 students, checks of data sets.

A file's name is a hash of everything its content depends on, down to the last digit (`arithmetic`), so that a stale
file is never read and it does not matter who wrote one; inside it stand that name and a checksum of the content, so
that a damaged or renamed one is computed again.

Processes and threads that need one file at the same time compute it once: they wait at a lock of the operating system
on an empty file beside it (``.NAME.lock``), which is free again when its holder ends in whatever way. The file itself
appears complete or not at all. The cache is a convenience: where it cannot be locked or written (read-only folder,
full disk), results are computed all the same, and a warning says so.
"""

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import filelock
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fusion_env.errors import CacheError
from fusion_env.fingerprint import fingerprint
from student.files import parts_of, write_atomic
from student.numerics import own_numerics

__all__ = ["arithmetic", "cache_folder", "content_key", "load_or_compute"]

_logger = logging.getLogger(__name__)


def cache_folder(setting: str | None) -> Path:
    """Return the cache folder: the setting, else ``$FUSION_ENV_CACHE``, else ``~/.cache/fusion_env``."""
    if setting is None:
        setting = os.environ.get("FUSION_ENV_CACHE") or os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "fusion_env"
        )
    return Path(os.path.expanduser(setting))


def arithmetic(device: str | torch.device) -> dict[str, object]:
    """Say what the last digits of a result depend on beside its inputs; a part of every key of something computed."""
    kind = torch.device(device).type
    return {
        "torch": torch.__version__,
        "device": kind,
        "threads": torch.get_num_threads() if kind == "cpu" else None,
        "instructions": torch.backends.cpu.get_cpu_capability() if kind == "cpu" else None,
    }


def content_key(parts: Mapping[str, object]) -> str:
    """Hash JSON-ready values; the order of the keys does not matter."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return fingerprint(text)


@own_numerics()
def load_or_compute(path: Path, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Read tensors from a cache file, or compute them and write it.

    Args:
        path: The file. A missing, damaged or renamed one is written anew, atomically; of several processes or threads
            that find it missing one computes and the others wait and read.
        compute: Makes the tensors; must not ask for the same file.

    Returns:
        The tensors, on the CPU, independent of the file.

    Raises:
        CacheError: The file's folder cannot exist, because a part of its path is a file.
    """
    stored = _read(path)
    if stored is not None:
        return stored
    _make_folder(path.parent)
    with _locked(path):
        stored = _read(path)  # by now another process may have written it
        if stored is not None:
            return stored
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in compute().items()}
        _write(path, tensors)
    return tensors


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        # Also raised where the folder was deleted just now. Otherwise writing fails for the same reason, and says so.
        file = next((part for part in (folder, *folder.parents) if os.path.isfile(part)), None)
        if file is not None:
            raise CacheError(
                f"cache folder {folder} cannot be made, because {file} is a file: set cache_dir or FUSION_ENV_CACHE to "
                "another folder"
            ) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a cache file; without one where the file system offers none."""
    lock_file = path.with_name(f".{path.name}.lock")
    lock = filelock.FileLock(lock_file)
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            _logger.info("waiting for another process that computes %s", path)
            lock.acquire()
        _remove_parts(path)
    except (OSError, NotImplementedError) as error:
        _logger.info("cache file %s cannot be locked (%s): other processes may compute it as well", path, error)
    try:
        yield
    finally:
        if lock.is_locked:
            # Who waits at the removed file is let in beside whoever makes a new one: both look for the result first.
            with contextlib.suppress(OSError):
                lock_file.unlink()
        lock.release()


def _remove_parts(path: Path) -> None:
    """Remove what a process that was killed while it wrote left behind; only the lock's holder writes."""
    for part in parts_of(path):
        part.unlink(missing_ok=True)


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    data = safetensors.torch.save(tensors, {"name": path.stem, "fingerprint": fingerprint("", tensors)})
    try:
        write_atomic(path, data)
    except OSError as error:
        _logger.warning(
            "cache file %s cannot be written (%s); the result is used and will be computed again next time: set "
            "cache_dir or FUSION_ENV_CACHE to a writable folder with space",
            path,
            error.strerror,
        )


def _read(path: Path) -> dict[str, Tensor] | None:
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copied before they are checked: the tensors of safe_open are views of the file, which may change.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        return None  # deleted just now
    except Exception as error:  # a damaged file must not stop anybody, whatever it makes the reader raise
        _logger.warning("cache file %s is damaged (%s); computing it again", path, error)
        return None
    if metadata.get("fingerprint") != fingerprint("", tensors):
        _logger.warning("cache file %s fails its checksum; computing it again", path)
        return None
    if metadata.get("name") != path.stem:
        _logger.warning("cache file %s was written as %r; computing it again", path, metadata.get("name"))
        return None
    return tensors
