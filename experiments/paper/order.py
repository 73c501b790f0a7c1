"""What a user orders: a table or figure of the paper, on which data, into which folder."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["PRESETS", "Order"]

PRESETS = ("demo", "paper")
"""``demo`` makes do with what is at hand; ``paper`` asks for the paper's data and weights."""


@dataclass(frozen=True)
class Order:
    """One table or figure, as `experiments.reproduce` hands it over.

    Every module of a table or figure has the function ``make(order: Order) -> Path``. It checks the data, works in
    pieces that `experiments.paper.ledger` remembers, and returns the Markdown page that it wrote into `folder`.

    Attributes:
        out: Folder of all tables and figures of one reproduction, so that one finds what another made.
        preset: One of `PRESETS`.
        data_root: Holds one folder for each published data set, called by its name (``m3fd``, ``msrs``, ``tno``,
            ``roadscene``, ...); None: procedural scenes only.
        most: At most so many real pairs of each set, evenly spaced; None: ten in the demo, else all.
        student: Weights of the student: file, folder or id on the hub; None: the embedded one.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"auto"``.
        threads: CPU threads; None: PyTorch's.
        seeds: Seeds of what is trained; None: the preset's.
        command: How it was called, for the page.
    """

    out: Path
    preset: str = "demo"
    data_root: Path | None = None
    most: int | None = None
    student: str | None = None
    device: str = "auto"
    threads: int | None = None
    seeds: tuple[int, ...] | None = None
    command: str = ""

    def folder(self, name: str) -> Path:
        """Return the folder of one table or figure, such as ``"table1"``."""
        return self.out / name
