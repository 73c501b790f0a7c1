"""``rounds.csv``: one row for every round."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from fusion_env.action import ACTION_NAMES
from fusion_env.degradation import Degradation
from fusion_env.errors import ConfigError
from student.files import write_atomic

__all__ = ["RoundsFile", "Row", "round_row", "row_action", "row_info"]

Row = dict[str, str]
"""A row as it is read back."""


def round_row(phase: str, run: int, action: Sequence[float], reward: float, info: dict[str, Any]) -> dict[str, Any]:
    """Flatten one step into a row.

    Args:
        phase: ``"learn"``, or ``"evaluate"`` for a frozen agent.
        run: Number of the run, from 0; evaluation goes on counting.
        action: The numbers that the environment got.
        reward: The step's reward.
        info: The step's info.
    """
    row: dict[str, Any] = {"phase": phase, "run": run, "round": info["round"], "reward": reward, "gap": info["gap"]}
    row |= {f"action_{name}": float(value) for name, value in zip(ACTION_NAMES, action, strict=True)}
    row |= {f"weight_{name}": value for name, value in info["loss_weights"].items()}
    # Kernel size and quality are whole numbers, and written as such.
    row |= {name: type(getattr(Degradation, name))(value) for name, value in info["degradation"].items()}
    row |= {f"loss_{name}": value for name, value in info["losses"].items()}
    row |= {"guidance_share": info["guidance_share"], "update_norm": info["update_norm"]}
    row |= {"fused_std": info["fused_std"]}
    row |= {f"student_{name}": value for name, value in info["student"].items()}
    row |= {f"teacher_{name}": value for name, value in info["teacher"].items()}
    row["diverged"] = info["diverged"]
    return row


def row_action(row: Row) -> list[float]:
    """Return the action of a row.

    Raises:
        KeyError: A number is missing.
        ValueError: It is none.
    """
    return [float(row[f"action_{name}"]) for name in ACTION_NAMES]


def row_info(row: Row) -> dict[str, Any]:
    """Return the info that `round_row` made a row of, without ``report``: numbers, and mappings to numbers.

    Raises:
        KeyError: A column is missing.
        ValueError: A value is no number.
    """
    groups = {"losses": "loss", "loss_weights": "weight", "student": "student", "teacher": "teacher"}
    info: dict[str, Any] = {"round": int(row["round"]), "diverged": row["diverged"] == "True"}
    info |= {name: float(row[name]) for name in ("gap", "guidance_share", "update_norm", "fused_std")}
    info["degradation"] = {item.name: float(row[item.name]) for item in fields(Degradation)}
    for group, prefix in groups.items():
        info[group] = {
            name.removeprefix(f"{prefix}_"): float(value)
            for name, value in row.items()
            if name.startswith(f"{prefix}_")
        }
    return info


class RoundsFile:
    """The rows of a run, each on disk before the next round begins.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def keep(self, count: int) -> None:
        """Keep so many rows of an earlier attempt; later ones are computed again.

        Raises:
            ConfigError: The earlier attempt left fewer whole rows.
        """
        if not count:
            self.path.unlink(missing_ok=True)
            return
        lines = self._lines() if self.path.exists() else []
        if len(lines) <= count:
            raise ConfigError(
                f"{self.path} holds {max(len(lines) - 1, 0)} of the {count} rounds that were done: rows were lost "
                f"or cut off. Put them back, or delete {self.path.parent} to start again"
            )
        write_atomic(self.path, "".join(lines[: count + 1]).encode())

    def append(self, row: dict[str, Any]) -> None:
        """Write one row; the first one also writes the header."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), lineterminator="\n")
        if not self.path.exists():
            writer.writeheader()
        writer.writerow(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text.getvalue())

    def sync(self) -> None:
        """Force the rows to disk, so that they are there after a crash of the machine, too."""
        with self.path.open("a", encoding="utf-8") as file:
            os.fsync(file.fileno())

    def read(self) -> list[Row]:
        """Read all whole rows: a crash of the machine can leave a part of the last one."""
        return list(csv.DictReader(self._lines()))

    def _lines(self) -> list[str]:
        """Return the whole lines, the header among them."""
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        return [line for line in lines if line.endswith("\n")]
