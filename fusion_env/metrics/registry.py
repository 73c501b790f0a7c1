"""The metrics by name."""

from collections.abc import Callable

from torch import Tensor

from fusion_env.metrics.base import Metric
from fusion_env.metrics.images import Images
from fusion_env.registry import Registry

__all__ = ["get", "metric", "names", "register"]

_METRICS: Registry[Metric] = Registry("metric")
_RESERVED = {"iqa": "the quality score that the setting iqa chooses", "mean": "what an ensemble does without a metric"}


def metric(
    *, needs_sources: bool, minimum_size: int, higher_is_better: bool = True, summary: str, range: str
) -> Callable[[Callable[[Images], Tensor]], Metric]:
    """Declare a metric: a decorator that makes a registered `Metric` of a module's function of `Images`.

    The function's name is the metric's, and its docstring the metric's manual. The arguments are fields of `Metric`.

    Raises:
        ValueError: If another metric has the name, or it is no name or one with a meaning of its own; see `register`.
    """

    def declare(function: Callable[[Images], Tensor]) -> Metric:
        name = function.__name__
        declared = Metric(name, function, needs_sources, minimum_size, higher_is_better, summary, range)
        object.__setattr__(declared, "__doc__", function.__doc__)
        function.__qualname__ = f"{name}.function"  # where pickle finds it: the bare name is the metric's
        return register(declared)

    return declare


def register(metric: Metric) -> Metric:
    """Make a metric known under its name.

    Raises:
        TypeError: If it is no `Metric`, or its name is no text.
        ValueError: If another metric has the name, or it is no name or one with a meaning of its own.
    """
    if not isinstance(metric, Metric):
        raise TypeError(
            f"metrics.register takes a Metric; @metric(...) makes one of a function. Got {type(metric).__name__}."
        )
    if metric.name in _RESERVED:
        meaning = _RESERVED[metric.name]
        raise ValueError(f"no metric can be called {metric.name!r}, which means {meaning}; choose another name.")
    return _METRICS.register(metric.name)(metric)


def get(name: str) -> Metric:
    """Return a metric by name.

    Raises:
        UnknownNameError: If there is no such metric; the message suggests the nearest name.
    """
    return _METRICS.get(name)


def names() -> tuple[str, ...]:
    """Return the names of all metrics, sorted."""
    return _METRICS.names()
