"""The example of the guide runs."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "fuse-images.md"


def test_example(capsys: pytest.CaptureFixture) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in example.splitlines() if line]) <= 10
    exec(example, {})
    shape, _, difference = capsys.readouterr().out.rpartition(" uint8 ")
    assert shape == "(96, 128, 3)"
    assert int(difference) <= 1
