"""What all commands share: options made from the fields of a configuration, progress, errors, moved scripts."""

import argparse
import dataclasses
import runpy
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any

from tqdm import tqdm

from fusion_env.config import DistillConfig, type_name
from fusion_env.data.pairs import printable
from fusion_env.errors import FusionEnvError
from student.checkpoint import WeightsError

__all__ = ["add_settings", "exit_on_error", "given_settings", "make_parser", "progress_bar", "run_moved"]


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser without options whose help shows a module's docstring line by line."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_settings(parser: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
    """Add one option for every field of `DistillConfig`; those not given are absent from the result.

    Args:
        parser: Gets the options.
        without: Fields to leave out, because the command has options of its own for them.
    """
    group = parser.add_argument_group("settings of the environment (defaults: those of the preset)")
    for item in dataclasses.fields(DistillConfig):
        if item.name in without:
            continue
        option = f"--{item.name.replace('_', '-')}"
        common: dict[str, Any] = {"default": argparse.SUPPRESS, "help": item.metadata["help"]}
        kind = type_name(item)
        if kind == "bool":
            group.add_argument(option, action=argparse.BooleanOptionalAction, **common)
        elif kind.startswith("tuple"):
            group.add_argument(option, nargs="+", type=float if "float" in kind else str, **common)
        else:
            group.add_argument(option, type=_reader(kind), choices=item.metadata["choices"], **common)


def _reader(kind: str) -> Callable[[str], Any]:
    base = int if kind.startswith("int") else float if kind.startswith("float") else str

    def read(text: str) -> Any:
        return None if "None" in kind and text.lower() == "none" else base(text)

    read.__name__ = base.__name__  # argparse names the type in its messages
    return read


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given, by field."""
    names = [item.name for item in dataclasses.fields(DistillConfig)]
    return {name: getattr(args, name) for name in names if hasattr(args, name)}


def progress_bar(items: Iterable, title: str) -> Iterable:
    """Show a progress bar over `items`."""
    return tqdm(items, desc=title, leave=False)


def exit_on_error(main: Callable[[], int]) -> None:
    """Run a command; an error that the user can mend becomes one line on stderr and exit status 2."""
    try:
        status = main()
    except (FusionEnvError, WeightsError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        status = 2
    sys.exit(status)


def run_moved(name: str, module: str) -> None:
    """Say where a script is now and run it there: the whole of what stays at its old place for one version.

    Args:
        name: ``__name__`` at the old place; nothing happens where that is imported.
        module: Full name of the module that the script is now.
    """
    if name == "__main__":
        print(f"{sys.argv[0]} is now {module.replace('.', '/')}.py: use that, the old path will go", file=sys.stderr)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
