"""How a recorded run ended."""

from typing import Any

import pytest

from experiments.running.episodes import _end
from fusion_env.config import preset

GOOD, BAD = ("0.1", "False"), ("-0.1", "False")


def rows(*ends: tuple[str, str]) -> list[dict[str, str]]:
    return [{"gap": gap, "diverged": diverged} for gap, diverged in ends]


@pytest.mark.parametrize(
    ("ends", "settings", "followed", "expected"),
    [
        ([BAD] * 4, {}, False, (False, True)),
        ([BAD] * 4, {"observation": "rich"}, True, (True, False)),
        ([BAD, ("nan", "True")], {}, True, (True, False)),
        ([BAD] * 2, {}, False, (False, True)),
        ([GOOD] * 3, {}, False, (False, True)),
        ([GOOD] * 3, {"stop_at_parity": True}, False, (True, False)),
        ([BAD, *[GOOD] * 3], {"stop_at_parity": True}, False, (True, False)),
        ([GOOD] * 2, {"stop_at_parity": True}, False, (False, True)),
        ([BAD] * 3, {"stop_at_parity": True, "score_images": 1}, True, (True, False)),
        ([GOOD] * 3, {"stop_at_parity": True, "score_images": 1}, False, (False, True)),
        ([GOOD] * 4, {"stop_at_parity": True, "score_images": 1}, True, (False, True)),
    ],
)
def test_ends(ends: list, settings: dict[str, Any], followed: bool, expected: tuple[bool, bool]) -> None:
    assert _end(rows(*ends), preset("tiny", rounds=4, **settings), followed) == expected
