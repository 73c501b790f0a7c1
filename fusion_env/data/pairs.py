"""The one shape in which image pairs enter the package, whatever they come from."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fusion_env.errors import DataError
from student.console import printable

__all__ = ["ImagePair", "PairSource", "Progress", "check_source", "joint_error", "load_pair", "no_progress"]

Progress = Callable[[Iterable[Any], str], Iterable[Any]]
"""Wraps an iterable, given a title, in a progress display."""

_LISTED_PROBLEMS = 20


def no_progress(items: Iterable[Any], title: str) -> Iterable[Any]:
    """Return `items` unchanged: the progress display of library code."""
    return items


@dataclass(frozen=True, eq=False)
class ImagePair:
    """Hold one registered infrared-visible pair at 8 bits.

    Attributes:
        name: Name of the pair, unique within its source.
        ir: Infrared levels, uint8 ``[1, H, W]``.
        vis: Visible RGB levels, uint8 ``[3, H, W]``.

    Raises:
        DataError: If a tensor has another shape or type, or the two differ in size.
    """

    name: str
    ir: Tensor
    vis: Tensor

    def __post_init__(self) -> None:
        for field, image, channels in (("ir", self.ir, 1), ("vis", self.vis, 3)):
            if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != channels or image.numel() == 0:
                raise DataError(
                    f"pair {self.name!r}: {field} must be a uint8 tensor [{channels}, H, W]. "
                    f"Got {image.dtype} {list(image.shape)}"
                )
        if self.ir.shape[1:] != self.vis.shape[1:]:
            raise DataError(
                f"pair {self.name!r}: infrared is {list(self.ir.shape[1:])} and visible {list(self.vis.shape[1:])} "
                "(height, width); registered images have one size"
            )


class PairSource(ABC):
    """What the package asks of a collection of image pairs; subclasses set the attributes, `load` and `fingerprint`.

    Everything except `load` and `verify` must be cheap: names and sizes are read to plan a run before any picture is
    decoded.

    Attributes:
        name: Name of the source, for results and messages.
        names: Names of the pairs, unique, in the order of their indices.
        sizes: Height and width in pixels of every pair, as `load` returns it.
        split_names: Names of the pairs for ``"train"`` and ``"val"``, optionally ``"reward"``, where the source
            prescribes them; `make_splits` then honours them.
    """

    name: str
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    split_names: Mapping[str, tuple[str, ...]] | None = None

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.names)

    @abstractmethod
    def load(self, index: int) -> ImagePair:
        """Return pair ``index`` (0 to ``len - 1``); the same index always gives the same pixels."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash that changes whenever the pictures do; caches are keyed by it."""

    def verify(self, progress: Progress = no_progress) -> None:  # noqa: B027 (most sources have nothing to look for)
        """Look for damage that would only show when a pair is loaded.

        Args:
            progress: Progress display over the pairs.

        Raises:
            DataError: If there is any.
        """


def check_source(source: PairSource) -> None:
    """Check, before any work, what a source says about its pairs.

    Raises:
        DataError: It has no name, names that are not unique texts, or not a height and width for each of them.
    """
    kind = type(source).__name__
    missing = [name for name in ("name", "names", "sizes") if not hasattr(source, name)]
    if missing:
        raise DataError(f"{kind} lacks {', '.join(missing)}: a PairSource has name, names and sizes")
    if not (isinstance(source.name, str) and source.name):
        raise DataError(f"the name of a {kind} must be a text. Got {source.name!r}")
    names, sizes = list(source.names), list(source.sizes)
    problems = [f"pair {name!r} must be a text" for name in names if not isinstance(name, str)]
    problems += [f"{count} pairs are called {name!r}" for name, count in Counter(names).items() if count > 1]
    problems += [
        f"pair {name!r} has the size {size!r} in place of (height, width)"
        for name, size in zip(names, sizes, strict=False)
        if not (isinstance(size, Sequence) and len(size) == 2 and min(size) > 0)
    ]
    if len(names) != len(sizes):
        problems.append(f"{len(names)} names and {len(sizes)} sizes")
    if problems:
        raise joint_error(f"{kind} {source.name!r}", problems)


def load_pair(source: PairSource, index: int) -> ImagePair:
    """Load a pair of a source and check that it is what the source announced.

    Raises:
        DataError: It is none, or has another name or size; names the pair.
    """
    pair, name, size = source.load(index), source.names[index], tuple(source.sizes[index])
    told = f"pair {name!r} of {source.name!r}"
    if not isinstance(pair, ImagePair):
        raise DataError(f"{told}: load must return a fusion_env.data.ImagePair. Got {type(pair).__name__}")
    if pair.name != name:
        raise DataError(f"{told}: load({index}) returns a pair called {pair.name!r}")
    if tuple(pair.ir.shape[1:]) != size:
        raise DataError(f"{told}: sizes says {list(size)} (height, width), load returns {list(pair.ir.shape[1:])}")
    return pair


def joint_error(title: str, problems: Sequence[str]) -> DataError:
    """Build one error for many problems, so that a data set is repaired in one go.

    Args:
        title: What cannot be done.
        problems: One line each.

    Returns:
        An error to raise; its message is one line that names the first 20 problems and counts the rest.
    """
    listed = list(problems[:_LISTED_PROBLEMS])
    if len(problems) > _LISTED_PROBLEMS:
        listed.append(f"and {len(problems) - _LISTED_PROBLEMS} more")
    count = f" ({len(problems)} problems)" if len(problems) > 1 else ""
    return DataError(printable(f"{title}{count}: {'; '.join(listed)}"))
