"""``rounds.csv``: one row for every round."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion_env.action import ACTION_NAMES
from fusion_env.errors import ConfigError
from student.files import write_atomic

__all__ = ["RoundsFile", "read_rounds", "round_row"]

FILE = "rounds.csv"


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
    row |= info["degradation"]
    row |= {f"loss_{name}": value for name, value in info["losses"].items()}
    row |= {"guidance_share": info["guidance_share"], "fused_std": info["fused_std"]}
    row |= {f"student_{name}": value for name, value in info["student"].items()}
    row |= {f"teacher_{name}": value for name, value in info["teacher"].items()}
    row["diverged"] = info["diverged"]
    return row


class RoundsFile:
    """Appends rows, each on disk before the next round begins.

    Args:
        run_dir: Directory of the run.
        keep: Rows to keep of an earlier attempt; later ones are computed again.

    Raises:
        ConfigError: The earlier attempt left fewer whole rows.
    """

    def __init__(self, run_dir: Path, keep: int = 0) -> None:
        self.path = run_dir / FILE
        if keep:
            lines = self._lines()
            if len(lines) <= keep:
                raise ConfigError(
                    f"{self.path} holds {max(len(lines) - 1, 0)} of the {keep} rounds that were done: rows were lost "
                    f"or cut off. Put them back, or delete {run_dir} to start again"
                )
            write_atomic(self.path, "".join(lines[: keep + 1]).encode())
        else:
            self.path.unlink(missing_ok=True)

    def append(self, row: dict[str, Any]) -> None:
        """Write one row; the first one also writes the header."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), lineterminator="\n")
        if not self.path.exists():
            writer.writeheader()
        writer.writerow(row)
        with self.path.open("a") as file:
            file.write(text.getvalue())

    def sync(self) -> None:
        """Force the rows to disk, so that they are there after a crash of the machine, too."""
        with self.path.open("a") as file:
            os.fsync(file.fileno())

    def _lines(self) -> list[str]:
        """Return the whole lines of an earlier attempt, the header among them."""
        text = self.path.read_text(errors="replace") if self.path.exists() else ""
        return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def read_rounds(run_dir: Path) -> list[dict[str, str]]:
    """Read all rows."""
    with (run_dir / FILE).open() as file:
        return list(csv.DictReader(file))
