"""Commands let PyTorch ask for large pages; who has decided otherwise is left alone, and so is who only imports."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import student
from student.large_pages import VARIABLE

SEEN = f"import os, sys; print(os.environ.get({VARIABLE!r}), file=sys.stderr)"
EXPERIMENT = "from experiments.command_line import exit_on_error; exit_on_error(lambda: 0)"
FUSE = "import sys; from student.command_line import command; sys.argv = ['fusion-student', *{arguments}]; command()"
OLD_DOOR = "import runpy, sys; sys.argv = ['', *{arguments}]; runpy.run_module('student.fuse', run_name='__main__')"


def seen_after(code: str, **chosen: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE} | chosen
    script = f"import atexit; atexit.register(lambda: exec({SEEN!r})); {code}"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[-1]


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    """Two folders with an image each."""
    for name in ("ir", "vis"):
        (tmp_path / name).mkdir()
        assert cv2.imwrite(str(tmp_path / name / "a.png"), np.full((16, 16), 100, np.uint8))
    return [str(tmp_path / "ir"), str(tmp_path / "vis")]


@pytest.mark.parametrize(("more", "expected"), [([], "1"), (["--tile", "512"], "None")])
def test_images_are_fused_in_them_but_for_tiles(
    pair: list[str], tmp_path: Path, more: list[str], expected: str
) -> None:
    arguments = [*pair, "-o", str(tmp_path / "fused"), *more]
    assert seen_after(FUSE.format(arguments=["fuse", *arguments])) == expected


def test_the_old_door_asks_for_them(pair: list[str], tmp_path: Path) -> None:
    weights = str(Path(student.__file__).with_name("assets") / "student.safetensors")
    arguments = ["--weights", weights, "--ir", pair[0], "--vi", pair[1], "--out", str(tmp_path / "fused")]
    assert seen_after(OLD_DOOR.format(arguments=arguments)) == "1"


def test_experiments_ask_for_them() -> None:
    assert seen_after(EXPERIMENT) == "1"


def test_what_is_set_stays() -> None:
    assert seen_after(EXPERIMENT, **{VARIABLE: "0"}) == "0"


def test_an_import_sets_nothing() -> None:
    assert seen_after("import student.command_line, fusion_env") == "None"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PyTorch asks for large pages on Linux only")
@pytest.mark.parametrize("imported", ["student.command_line", "experiments.measurements.performance"])
def test_large_tensors_lie_in_them(imported: str) -> None:
    """Nothing that a command imports may make a tensor: at the first one, PyTorch reads the variable."""
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
            offered = "[never]" not in file.read()
    except OSError:
        offered = False
    if not offered:
        pytest.skip("the system offers no large pages")
    code = f"import {imported}, torch; import student.large_pages as pages; pages.ask_for_large_pages(); "
    code += "kept = torch.ones(2**24); "
    code += "print([line for line in open('/proc/self/smaps_rollup') if 'AnonHuge' in line][0])"
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[1]) > 0  # kB; how many there are depends on what else has them
