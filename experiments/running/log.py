"""The TensorBoard log of a run, which goes on after an interruption as if there had been none."""

import json
import os
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.logger import Image, KVWriter, Logger, TensorBoardOutputFormat
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.tensorflow_stub.io.gfile import LocalFileSystem, register_filesystem

__all__ = ["log_picture", "open_log", "pending_values"]

_BY_BYTES = "folder-by-bytes"


def open_log(run_dir: Path, rounds: int, pending: str, writers: Sequence[KVWriter] = ()) -> Logger:
    """Open the log of a run.

    Args:
        run_dir: Gets another file of events.
        rounds: Rounds to keep of an earlier attempt; TensorBoard forgets the entries of later ones.
        pending: What `pending_values` returned when the earlier attempt had done these rounds.
        writers: Get everything, too.
    """
    output = TensorBoardOutputFormat(_tensorboard_name(run_dir))
    start = SessionLog(status=SessionLog.START)
    writer: Any = output.writer
    writer.file_writer.add_event(Event(step=rounds + 1, session_log=start))
    logger = Logger(str(run_dir), [output, *writers])
    for name, (value, count, excluded) in json.loads(pending).items():
        logger.name_to_value[name], logger.name_to_count[name] = value, count
        logger.name_to_excluded[name] = tuple(excluded)
    return logger


def log_picture(logger: Logger, picture: NDArray[np.uint8], step: int) -> None:
    """Log the picture of a round at once: what waits for the next entry could be lost by an interruption.

    Args:
        logger: Of the run.
        picture: uint8 [H, W, 3].
        step: The round.
    """
    for output in logger.output_formats:
        output.write({"env/picture": Image(picture, "HWC")}, {"env/picture": ()}, step)


def pending_values(logger: Logger) -> str:
    """Return the numbers that were recorded and wait for the next entry of the log, as JSON.

    The algorithms of Stable-Baselines3 write what an update came to only after the next rollout.
    """
    waiting = {
        name: (float(value), logger.name_to_count.get(name, 0), logger.name_to_excluded[name])
        for name, value in logger.name_to_value.items()
        if isinstance(value, Real)
    }
    return json.dumps(waiting)


class _FoldersByBytes(LocalFileSystem):
    """Local files in a folder that is named by the hexadecimal digits of its bytes."""

    def makedirs(self, path: str) -> None:
        os.makedirs(_real_name(os.fsencode(path)), exist_ok=True)

    def write(self, filename: bytes, file_content: bytes, binary_mode: bool = False) -> None:
        super().write(_real_name(filename), file_content, binary_mode)

    def append(self, filename: bytes, file_content: bytes, binary_mode: bool = False) -> None:
        super().append(_real_name(filename), file_content, binary_mode)


register_filesystem(_BY_BYTES, _FoldersByBytes())


def _tensorboard_name(folder: Path) -> str:
    """Return what to call a folder: TensorBoard takes names for UTF-8, also in a locale where they are not."""
    name = os.fsencode(folder)
    return str(folder) if name == str(folder).encode(errors="replace") else f"{_BY_BYTES}://{name.hex()}"


def _real_name(name: bytes) -> bytes:
    folder, *file = name.removeprefix(f"{_BY_BYTES}://".encode()).split(b"/")
    return os.path.join(bytes.fromhex(folder.decode()), *file)
