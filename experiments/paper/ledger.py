"""Work in pieces: what is done is remembered, and the first piece says how long the rest takes."""

import json
import resource
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from experiments.command_line import progress_bar
from fusion_env.errors import ConfigError
from student.console import printable

__all__ = ["MEMORY", "Ledger", "Piece", "Row", "logged", "peak_gib", "work_through"]

Row = dict[str, Any]
"""A row of raw results: numbers and texts by column."""

MEMORY = "memory_gib"
"""Column for what a process of its own needed beside this one."""

_MINUTE = 60.0


@dataclass(frozen=True)
class Piece:
    """A piece of work.

    Attributes:
        name: Unique among those of its ledger.
        work: Does it and returns its rows.
        size: How much work it is, in any unit: the time of the rest is estimated by it.
        kind: What it is one of, in the plural: sizes of two kinds do not compare.
        share: Tells how much of it is done while it is being done, 0 to 1, for pieces that may take hours.
    """

    name: str
    work: Callable[[], list[Row]]
    size: float = 1.0
    kind: str = "pieces"
    share: Callable[[], float] | None = None


class Ledger:
    """A file with a line for every piece of work that is done.

    Args:
        path: The file; it is made with the first entry.
        settings: What decides the rows; work that other settings did is not taken over.

    Raises:
        ConfigError: The file is of other settings, or damaged.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path = path
        self._settings = json.loads(json.dumps(settings, default=str))
        self._rows: dict[str, list[Row]] = {}
        self._seconds: dict[str, float] = {}
        if path.exists():
            self._read()

    def __contains__(self, name: str) -> bool:
        """Tell whether a piece is done."""
        return name in self._rows

    def __getitem__(self, name: str) -> list[Row]:
        """Return the rows of a piece that is done."""
        return self._rows[name]

    @property
    def seconds(self) -> float:
        """How long all pieces that are done have taken."""
        return sum(self._seconds.values())

    def add(self, name: str, rows: list[Row], seconds: float) -> None:
        """Enter a piece that is done, and how long it took."""
        lines: list[dict[str, Any]] = [] if self._path.exists() else [{"settings": self._settings}]
        lines.append({"piece": name, "seconds": seconds, "rows": rows})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(line)}\n" for line in lines)
        self._rows[name], self._seconds[name] = rows, seconds

    def _read(self) -> None:
        text = self._path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]  # a process that was killed may leave a part of a line
        try:
            head, *entries = map(json.loads, whole.splitlines())
            earlier = head["settings"]
            self._rows = {entry["piece"]: entry["rows"] for entry in entries}
            self._seconds = {entry["piece"]: entry["seconds"] for entry in entries}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self._path} is damaged ({error}): delete it, and its work is done anew") from error
        if earlier != self._settings:
            names = [name for name in {**earlier, **self._settings} if earlier.get(name) != self._settings.get(name)]
            told = "; ".join(f"{name} was {earlier.get(name)!r}, is {self._settings.get(name)!r}" for name in names)
            raise ConfigError(printable(f"{self._path} is of other settings: {told}. Take another --out, or delete it"))
        if whole != text:
            self._path.write_text(whole, encoding="utf-8")


def work_through(pieces: Sequence[Piece], ledger: Ledger, say: Callable[[str], None] = tqdm.write) -> list[Row]:
    """Do what is not done yet.

    Once the first piece of a kind is done it is said how long the rest takes and how much memory, and again after a
    minute. If it takes longer than that minute, it is said by the share that is done.

    Args:
        pieces: All of the work, in order.
        ledger: Knows what is done, and remembers what is added.
        say: Takes the sentences.

    Returns:
        The rows of all pieces, in their order.
    """
    left = [piece for piece in pieces if piece.name not in ledger]
    if len(left) < len(pieces):
        say(f"{len(pieces) - len(left)} of {len(pieces)} pieces of work are done already")
    taken, done = defaultdict[str, float](float), defaultdict[str, float](float)
    beside, is_refined = 0.0, False
    for place, piece in enumerate(progress_bar(left, "pieces"), start=1):
        start, is_first = time.perf_counter(), piece.kind not in done
        with (
            _told_early(piece.share, left[place - 1 :], taken, done, say) if is_first and piece.share else nullcontext()
        ):
            rows = piece.work()
        seconds = time.perf_counter() - start
        ledger.add(piece.name, rows, seconds)
        taken[piece.kind] += seconds
        done[piece.kind] += piece.size
        beside = max([beside, *(row.get(MEMORY, 0.0) for row in rows)])
        spent = sum(taken.values())
        if place < len(left) and (is_first or (spent >= _MINUTE and not is_refined)):
            is_refined = spent >= _MINUTE
            say(
                f"{_span(spent)} for {place} of {len(left)} pieces: {_rest(left[place:], taken, done)}, "
                f"{peak_gib() + beside:.1f} GiB of memory"
            )
    return [row for piece in pieces for row in ledger[piece.name]]


@contextmanager
def _told_early(
    share: Callable[[], float],
    left: Sequence[Piece],
    taken: Mapping[str, float],
    done: Mapping[str, float],
    say: Callable[[str], None],
) -> Iterator[None]:
    """Say how long everything takes while the first piece is being done, once a minute has shown it."""
    kind, size = left[0].kind, left[0].size
    ended, start = threading.Event(), time.perf_counter()

    def watch() -> None:
        while not ended.wait(_MINUTE):
            part, spent = share(), time.perf_counter() - start
            if part > 0:
                rest = _rest(left, {**taken, kind: spent / part}, {**done, kind: size}, spent)
                say(f"{part:.0%} of the first of {len(left)} pieces: about {rest}, {peak_gib():.1f} GiB or more")
                return

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


def _rest(left: Sequence[Piece], taken: Mapping[str, float], done: Mapping[str, float], spent: float = 0.0) -> str:
    """Say how long the rest takes, each kind by what its own pieces have taken, less what was spent on it."""
    seconds = -spent + sum(taken[piece.kind] / done[piece.kind] * piece.size for piece in left if piece.kind in done)
    unknown = Counter(piece.kind for piece in left if piece.kind not in done)
    later = "".join(f", without {count} {kind}, whose time is told after the first" for kind, count in unknown.items())
    return f"{_span(seconds)} to go{later}"


def logged(path: Path, steps: int) -> float:
    """Return which share of its steps is done of work that writes a table with a row for each, once there is one."""
    try:
        return max(0, len(path.read_bytes().splitlines()) - 1) / steps
    except FileNotFoundError:
        return 0.0


def peak_gib() -> float:
    """Return the most memory that this process has used so far, on the GPU what PyTorch has reserved, in GiB."""
    unit = 1 if sys.platform == "darwin" else 2**10
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    device = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0
    return (host + device) / 2**30


def _span(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / _MINUTE)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
