"""The info of a step: numbers and arrays under the same keys at `reset` and at every step."""

import math
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any

import numpy as np

from fusion_env.action import LossWeights
from fusion_env.distillation import RoundResult
from fusion_env.run import LastRun, Run

__all__ = ["NamedValues", "run_info"]

_UNTRAINED = RoundResult(math.nan, math.nan, math.nan, math.nan, math.nan, diverged=False)
_NO_WEIGHTS = LossWeights(math.nan, math.nan)


class NamedValues(np.ndarray):
    """A float64 array whose rows have names: ``values["vif"]``, ``dict(values)``.

    Clients that store or batch infos ask for arrays, people for names. Iteration is over the names, as in a mapping,
    and a comparison with one or with a mapping compares names and values. NumPy's `allclose` takes NaN, which stands
    for what is not known yet, as equal to NaN: gymnasium's checker compares the infos of equal runs with it.

    >>> values = NamedValues({"student": {"vif": 0.5, "iqa": 0.75}, "teacher": {"vif": 1.0, "iqa": 1.0}})
    >>> values.shape, values["student"]["iqa"]
    ((2, 2), 0.75)
    """

    names: tuple[tuple[str, ...], ...]

    def __new__(cls, values: Mapping[str, Any]) -> "NamedValues":
        """Make an array of numbers, or of mappings of equal keys, by name."""
        rows = [NamedValues(value) if isinstance(value, Mapping) else value for value in values.values()]
        array = np.array([np.asarray(row) for row in rows], dtype=np.float64).view(cls)
        array.names = (tuple(values), *(rows[0].names if isinstance(rows[0], NamedValues) else ()))
        return array

    def __array_finalize__(self, source: object) -> None:
        self.names = ()

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function is np.allclose:
            kwargs = {"equal_nan": True, **kwargs}
        return super().__array_function__(function, types, args, kwargs)

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return np.asarray(self)[key]
        if not self.names or key not in self.names[0]:
            raise KeyError(key)
        row = np.asarray(self)[self.names[0].index(key)]
        return NamedValues(dict(zip(self.names[1], row, strict=True))) if len(self.names) > 1 else float(row)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.names[0] if self.names else np.asarray(self))

    def __contains__(self, key: object) -> bool:
        return key in self.names[0] if isinstance(key, str) and self.names else bool((np.asarray(self) == key).any())

    def __eq__(self, other: object) -> Any:
        if isinstance(other, NamedValues):
            return self.names == other.names and np.array_equal(np.asarray(self), np.asarray(other), equal_nan=True)
        return dict(self) == dict(other) if isinstance(other, Mapping) else np.asarray(self) == other

    def __ne__(self, other: object) -> Any:
        return not self == other if isinstance(other, NamedValues | Mapping) else np.asarray(self) != other

    def keys(self) -> KeysView[str]:
        """Return the names."""
        return dict.fromkeys(self.names[0]).keys()

    def values(self) -> ValuesView[Any]:
        """Return the values without their names."""
        return dict(self.items()).values()

    def items(self) -> ItemsView[str, Any]:
        """Return names with their values."""
        return {name: self[name] for name in self.names[0]}.items()

    def __reduce__(self) -> tuple[Any, ...]:
        return NamedValues, ({name: dict(v) if isinstance(v, NamedValues) else v for name, v in self.items()},)

    def __copy__(self) -> "NamedValues":
        return NamedValues(dict(self.items()))

    def __deepcopy__(self, memo: object) -> "NamedValues":
        return NamedValues(dict(self.items()))


def run_info(run: Run, weights: LossWeights | None = None, ended: LastRun | None = None) -> dict[str, Any]:
    """Describe where a run stands.

    Args:
        run: The run.
        weights: The loss weights of its last round; None before the first.
        ended: What it left behind; None before its end.

    Returns:
        See "Info" of `fusion_env.env.FusionDistillEnv`.
    """
    trained = run.trained or _UNTRAINED
    unknown = dict.fromkeys(run.task.report.names, math.nan)
    return {
        "round": np.int64(run.rounds),
        "losses": NamedValues(trained.losses),
        "loss_weights": NamedValues(vars(weights or _NO_WEIGHTS)),
        "guidance_share": np.float64(trained.guidance_share),
        "update_norm": np.float64(trained.update_norm),
        "degradation": NamedValues(vars(run.degradation)),
        "fused_std": np.float64(run.fused_std),
        "student": NamedValues(run.student),
        "teacher": NamedValues(run.teacher),
        "gap": np.float64(run.gap),
        # An array, because vector environments make an array of objects of NumPy's bool.
        "diverged": np.array(run.diverged),
        "report": NamedValues(
            {"student": ended.report, "teacher": ended.teacher_report}
            if ended
            else {"student": unknown, "teacher": unknown}
        ),
    }
