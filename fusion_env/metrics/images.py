"""The images of one computation, with the intermediate results that several metrics share."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from fusion_env.metrics.levels import to_levels

__all__ = ["Images"]

_T = TypeVar("_T")


class Images:
    """Fused images with their sources on whole levels, and a memory of what has been computed of them.

    A metric is a function of one such object. Whatever another metric may need too, it asks for with `once`; the first
    to ask pays. The object lives as long as one call of one metric, or of `compute` for several.

    Args:
        fused: Luma ``[B, 1, H, W]``, ``uint8`` or floats in 0..1.
        ir: Infrared images, same shape and dtype; None where no metric needs sources.
        vis: Luma of the visible images, likewise.
        wanted: Functions of all metrics that are being computed: two whose work is best done in one pass can tell
            whether both are. No value may depend on it.
    """

    def __init__(
        self,
        fused: Tensor,
        ir: Tensor | None = None,
        vis: Tensor | None = None,
        wanted: "frozenset[Callable[[Images], Tensor]]" = frozenset(),
    ) -> None:
        self.wanted = wanted
        self._given = {"fused": fused, "ir": ir, "vis": vis}
        self._levels: dict[str, Tensor] = {}
        self._results: dict[Callable[..., Any], Any] = {}

    @property
    def fused(self) -> Tensor:
        """Levels 0..255 of the fused images, ``[B, 1, H, W]`` as `to_levels` gives them; not to be changed in place."""
        return self._of("fused")

    @property
    def ir(self) -> Tensor:
        """Levels of the infrared images, likewise."""
        return self._of("ir")

    @property
    def vis(self) -> Tensor:
        """Levels of the visible images, likewise."""
        return self._of("vis")

    def once(self, function: "Callable[[Images], _T]") -> _T:
        """Return ``function(self)``, computed at the first call and kept; it must not be changed in place.

        Args:
            function: A module-level function: it is the key under which its result is found again.
        """
        if function not in self._results:
            self._results[function] = function(self)
        return self._results[function]

    def _of(self, name: str) -> Tensor:
        if name not in self._levels:
            given = self._given[name]
            if given is None:
                raise ValueError(f"a metric asked for the {name} images: declare it with needs_sources=True")
            self._levels[name] = to_levels(given)
        return self._levels[name]
