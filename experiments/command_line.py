"""What all commands share: options made from the fields of a configuration, progress, errors, moved scripts."""

import argparse
import dataclasses
import re
import runpy
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import yaml
from tqdm import tqdm

from fusion_env.config import DistillConfig
from fusion_env.errors import ConfigError, FusionEnvError
from fusion_env.settings import type_name
from student.console import accept_any_console, printable
from student.weights import WeightsError

__all__ = [
    "add_fields",
    "add_settings",
    "exit_on_error",
    "given_settings",
    "make_parser",
    "named_values",
    "progress_bar",
    "run_moved",
]

_EXPONENTIAL = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser without options whose help shows a module's docstring line by line."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_settings(parser: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
    """Add one option for every field of `DistillConfig`; those not given are absent from the result.

    Args:
        parser: Gets the options.
        without: Fields to leave out, because the command has options of its own for them.
    """
    names = [item.name for item in dataclasses.fields(DistillConfig) if item.name not in without]
    add_fields(parser, "settings of the environment (defaults: those of the preset)", DistillConfig, names)


def add_fields(parser: argparse.ArgumentParser, title: str, config: type, names: Collection[str]) -> None:
    """Add one option for each of some fields of a configuration; those not given are absent from the result.

    Args:
        parser: Gets the options.
        title: Their heading.
        config: Dataclass whose fields have `help` and `choices` in their metadata.
        names: The fields.
    """
    group = parser.add_argument_group(title)
    for item in dataclasses.fields(config):
        if item.name not in names:
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


def given_settings(args: argparse.Namespace, config: type = DistillConfig) -> dict[str, Any]:
    """Return the fields of a configuration that were given."""
    names = [item.name for item in dataclasses.fields(config)]
    return {name: getattr(args, name) for name in names if hasattr(args, name)}


def named_values(pairs: Sequence[str]) -> dict[str, Any]:
    """Read settings such as ``horizon=3``, whose values are YAML.

    Raises:
        ConfigError: One of them is something else.
    """
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"settings are given as NAME=VALUE. Got {pair!r}")
        try:
            # YAML takes 1e6 for a text, because it has no point.
            values[name] = float(value) if _EXPONENTIAL.fullmatch(value) else yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{pair!r} has a value that is not YAML") from error
    return values


def progress_bar(items: Iterable, title: str) -> Iterable:
    """Show a progress bar over `items`."""
    return tqdm(items, desc=title, leave=False)


def exit_on_error(main: Callable[[], int]) -> None:
    """Run a command; an error that the user can mend becomes text on stderr, line by line, and exit status 2."""
    accept_any_console()
    try:
        status = main()
    except (FusionEnvError, WeightsError) as error:
        print("error:", "\n".join(printable(line) for line in str(error).split("\n")), file=sys.stderr)
        status = 2
    sys.exit(status)


def run_moved(name: str, module: str) -> None:
    """Say where a script is now and run it there: the whole of what stays at its old place for one version.

    Args:
        name: ``__name__`` at the old place; nothing happens where that is imported.
        module: Full name of the module that the script is now.
    """
    if name == "__main__":
        accept_any_console()
        print(f"{sys.argv[0]} is now {module.replace('.', '/')}.py: use that, the old path will go", file=sys.stderr)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
