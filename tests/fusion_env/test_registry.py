"""One table of names: what may be registered, and what is said about the rest."""

import pytest

from fusion_env.config import PRESETS, DistillConfig, preset
from fusion_env.data import sources
from fusion_env.errors import UnknownNameError
from fusion_env.registry import Registry


def shape() -> None:
    """Stand for anything that is registered."""


def test_names_are_sorted_and_what_is_registered_is_returned() -> None:
    shapes: Registry = Registry("shape")
    for name in ("disc", "a ring", "box_2.0"):
        assert shapes.register(name)(shape) is shape
    assert shapes.names() == ("a ring", "box_2.0", "disc")
    assert "disc" in shapes
    assert [] not in shapes


@pytest.mark.parametrize("name", ["", "<lambda>", "a,b", " a", "a\n", "a  b", "a/b"])
def test_bad_names(name: str) -> None:
    with pytest.raises(ValueError, match="the name of a shape must be of letters, digits"):
        Registry("shape").register(name)


@pytest.mark.parametrize("name", [5, None, shape, Registry])
def test_forgotten_parentheses(name: object) -> None:
    with pytest.raises(TypeError, match=r'a shape is registered under a name: @register\("name"\)'):
        Registry("shape").register(name)  # type: ignore[arg-type]


def test_taken_names_are_told_in_short() -> None:
    with pytest.raises(ValueError, match="^preset 'tiny' is already registered, as a DistillConfig; choose another"):
        PRESETS.register("tiny")(DistillConfig())


def test_wrong_kinds() -> None:
    with pytest.raises(TypeError, match="preset 'mine' must be a DistillConfig. Got a dict"):
        PRESETS.register("mine")({"rounds": 3})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="data source 'mine' must be a function or class. Got a str"):
        sources.register("mine")("folder")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="mine"):
        preset("mine")
