"""Commands let PyTorch ask for large pages; who has decided otherwise is left alone, and so is who only imports."""

import os
import subprocess
import sys

import pytest

from student.large_pages import VARIABLE

SEEN = f"import os, sys; print(os.environ.get({VARIABLE!r}), file=sys.stderr)"


def seen_after(code: str, **chosen: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE} | chosen
    script = f"import atexit, sys; atexit.register(lambda: exec({SEEN!r})); sys.argv = ['fusion-student', '-h']; {code}"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[-1]


COMMANDS = [
    "from student.command_line import command; command()",
    "import runpy; runpy.run_module('student.fuse', run_name='__main__')",
    "from experiments.command_line import exit_on_error; exit_on_error(lambda: 0)",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_ask_for_them(command: str) -> None:
    assert seen_after(command) == "1"


def test_what_is_set_stays() -> None:
    assert seen_after(COMMANDS[0], **{VARIABLE: "0"}) == "0"


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
