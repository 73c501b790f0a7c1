"""What a result was made with, told by content and not by name: another file at the same place is another thing."""

import os
from collections.abc import Collection
from pathlib import Path

from fusion_env.config import DistillConfig
from fusion_env.data import absolute_data

__all__ = ["CONTENT", "Fingerprints", "absolute_paths", "differences", "file_stamps"]

Fingerprints = dict[str, str]
"""Hashes of content, by the keys of `CONTENT`."""

CONTENT = {
    "data": "data",
    "teacher": "teacher_weights",
    "perception": "perception_weights",
    "iqa": "iqa_weights",
    "student_init": "student_init",
}
"""What has a fingerprint, and the setting that names its file or folder."""

_OWN = ("embedded", "prune", "random")


def absolute_paths(config: DistillConfig) -> DistillConfig:
    """Return a configuration that means the same files in every working directory."""
    changes: dict[str, str | None] = {name: str(path.absolute()) for name, path in _files(config)}
    changes["data"], changes["data_root"] = absolute_data(config.data, config.data_root)
    if config.cache_dir is not None:
        changes["cache_dir"] = str(Path(config.cache_dir).expanduser().absolute())
    return config.replace(**changes)


def file_stamps(config: DistillConfig) -> tuple[object, ...]:
    """Return what changes when somebody writes the files of networks anew, without reading them."""
    stamps: list[object] = []
    for name, path in _files(config):
        # Beside a network there may be files with its weights, such as net.onnx.data.
        files = path.iterdir() if path.is_dir() else (f for f in path.parent.iterdir() if f.name.startswith(path.name))
        for file in sorted(files):
            state = file.stat()
            # Who restores a file's time of change cannot restore the time of that.
            stamps.append(
                (name, str(file), state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
            )
    return tuple(stamps)


def _files(config: DistillConfig) -> list[tuple[str, Path]]:
    """List the settings that name a file or folder of a network; others name what its makers publish."""
    values = [(name, getattr(config, name)) for name in CONTENT.values() if name != "data"]
    return [(name, Path(value)) for name, value in values if value not in (None, *_OWN) and os.path.exists(value)]


def differences(
    theirs: tuple[DistillConfig, Fingerprints], ours: tuple[DistillConfig, Fingerprints], ignored: Collection[str] = ()
) -> str:
    """Name what differs between two tasks: settings, and the content of files.

    Content with equal fingerprints may lie anywhere; where a fingerprint is unknown, the absolute path counts.

    Args:
        theirs: Configuration and fingerprints that were recorded.
        ours: Those of here.
        ignored: Settings that may differ.

    Returns:
        Such as ``"rounds (25, here 30), content of data (3f2a..., here 77b0...)"``; empty where nothing differs.
    """
    old, new = (absolute_paths(config).to_dict() for config, _ in (theirs, ours))
    known = {name: (theirs[1][name], ours[1][name]) for name in CONTENT if name in theirs[1] and name in ours[1]}
    free = {CONTENT[name] for name, (then, now) in known.items() if then == now}
    free |= {"data_root"} if "data" in free else set()
    changed = [(name, old[name], new[name]) for name in new if old[name] != new[name] and name not in {*free, *ignored}]
    changed += [(f"content of {name}", then, now) for name, (then, now) in known.items() if then != now]
    return ", ".join(f"{name} ({then!r}, here {now!r})" for name, then, now in changed)
