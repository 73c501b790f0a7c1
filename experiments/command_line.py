"""What all commands share: options made from the fields of a configuration, progress, errors, moved scripts."""

import argparse
import dataclasses
import re
import runpy
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from experiments.processes import keep_progress_bars_apart
from fusion_env import tasks
from fusion_env.config import (
    PRESETS,
    DataSettings,
    DistillConfig,
    MachineSettings,
    ScoringSettings,
    TeacherSettings,
    TrainingSettings,
)
from fusion_env.errors import ConfigError, FusionEnvError
from fusion_env.settings import range_of, type_name
from student.console import accept_any_console, printable
from student.large_pages import ask_for_large_pages
from student.weights import WeightsError

__all__ = [
    "Options",
    "add_device",
    "add_fields",
    "add_preset",
    "add_settings",
    "as_started",
    "exit_on_error",
    "given_settings",
    "make_parser",
    "named_values",
    "progress_bar",
    "results_folder",
    "run_moved",
    "start_label",
]

Options = argparse.ArgumentParser | argparse._ArgumentGroup
"""What options are added to: a parser, or a group of its help."""

_EXPONENTIAL = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_SCRIPT = re.compile(r"python experiments/[\w/]+\.py")
_GROUPS = {
    "data": DataSettings,
    "teacher": TeacherSettings,
    "training": TrainingSettings,
    "scoring": ScoringSettings,
    "machine": MachineSettings,
}


def make_parser(description: str, **options: Any) -> argparse.ArgumentParser:
    """Return a parser without options whose help shows a module's docstring line by line.

    Args:
        description: The docstring.
        **options: Other arguments of the parser.
    """
    return argparse.ArgumentParser(
        description=as_started(description), formatter_class=argparse.RawDescriptionHelpFormatter, **options
    )


def as_started(text: str) -> str:
    """Replace the path of a script by the console script or module that this process was started as, if it was.

    >>> as_started("continue with: python experiments/run_agent.py --resume runs/NAME")
    'continue with: python experiments/run_agent.py --resume runs/NAME'
    """
    started, module = Path(sys.argv[0]).name, sys.modules["__main__"].__spec__
    if started.startswith(("fusion-env-", "fusion-student ")):
        return _SCRIPT.sub(started, text)
    if module is not None and module.name.startswith("experiments."):
        return _SCRIPT.sub(f"python -m {module.name}", text)
    return text


def add_preset(options: Options, default: str) -> None:
    """Add ``--preset`` and ``--task``, from which all settings start, and ``--list-tasks``.

    They are absent from the result like all options if the parser leaves out what is not given.
    """
    absent = options.argument_default is argparse.SUPPRESS
    text = f"starting point of all settings, a size (default: {default})"
    options.add_argument(
        "--preset", choices=PRESETS.names(), default=argparse.SUPPRESS if absent else default, help=text
    )
    text = "situation, whose settings go over the preset's (default: the preset as it is)"
    options.add_argument("--task", choices=tasks.names(), default=argparse.SUPPRESS if absent else None, help=text)
    text = "show what each task is and why, then exit"
    options.add_argument("--list-tasks", action=_ListTasks, nargs=0, default=argparse.SUPPRESS, help=text)


def start_label(preset: str, task: str | None) -> str:
    """Return what settings start from, for the name of a directory.

    >>> start_label("bench", None), start_label("bench", "few")
    ('bench', 'bench-few')
    """
    return preset if task is None else f"{preset}-{task}"


class _ListTasks(argparse.Action):
    """Show the tasks with their settings and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        for task in map(tasks.get, tasks.names()):
            own = ", ".join(f"{name}={value!r}" for name, value in task.settings.items())
            print(f"{task.name}\n  {task.summary}\n  {task.why}\n  {own}")
        parser.exit()


def add_settings(
    parser: argparse.ArgumentParser,
    default_preset: str,
    *,
    without: Collection[str] = (),
    added: Collection[str] = (),
) -> None:
    """Add one option for every field of `DistillConfig`; those not given are absent from the result.

    They are too many for ``--help``: ``--help-settings`` shows them.

    Args:
        parser: Gets the options.
        default_preset: Preset whose values are shown if no other is given.
        without: Fields to leave out, because the command has options of its own for them.
        added: Fields that have their option already, by `add_fields` in a group that ``--help`` shows.
    """
    names = [item.name for item in dataclasses.fields(DistillConfig) if item.name not in without]
    group = parser.add_argument_group("all settings of the environment")
    add_fields(group, DistillConfig, [name for name in names if name not in added], hidden=True)
    group.add_argument(
        "--help-settings",
        action=_HelpSettings,
        nargs=argparse.REMAINDER,  # what follows is its value, so that a preset named there is found
        const=(default_preset, names),
        default=argparse.SUPPRESS,
        help="show them with their ranges and their values in the preset of --preset, then exit",
    )


class _HelpSettings(argparse.Action):
    """Show the settings of the environment and exit; of what follows, only ``--preset`` and ``--task`` are read."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        default_preset, names = self.const
        following = argparse.ArgumentParser(prog=parser.prog, add_help=False)
        add_preset(following, getattr(namespace, "preset", default_preset))
        following.set_defaults(task=getattr(namespace, "task", None))
        chosen = following.parse_known_args(values)[0]
        what = f"{chosen.preset}, task {chosen.task}" if chosen.task else chosen.preset
        title = f"All settings of the environment, with their values in the preset {what} and their ranges."
        shown = what, tasks.config(chosen.task, chosen.preset)
        page = argparse.ArgumentParser(usage=argparse.SUPPRESS, add_help=False, description=title)
        for title, group in _GROUPS.items():
            members = [item.name for item in dataclasses.fields(group) if item.name in names]
            add_fields(page.add_argument_group(title, group.__doc__), DistillConfig, members, shown=shown)
        page.print_help()
        parser.exit()


def add_device(options: Options) -> None:
    """Add ``--device``, by default ``"auto"``, and ``--threads``, by default None, for commands without a config."""
    options.add_argument("--device", default="auto", help="'cpu', 'cuda', 'cuda:N' or 'auto' (default: auto)")
    options.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's)")


def add_fields(
    options: Options,
    config: type,
    names: Collection[str],
    *,
    hidden: bool = False,
    shown: tuple[str, DistillConfig] | None = None,
) -> None:
    """Add one option for each of some fields of a configuration; those not given are absent from the result.

    Args:
        options: What gets them.
        config: Dataclass whose fields have `help` and `choices` in their metadata.
        names: The fields.
        hidden: Leave them out of the help.
        shown: Name of a configuration whose values the help shows, with the ranges, and itself.
    """
    for item in dataclasses.fields(config):
        if item.name not in names:
            continue
        option = f"--{item.name.replace('_', '-')}"
        text = item.metadata["help"] + (f" ({shown[0]}: {_value_and_range(item, shown[1])})" if shown else "")
        common: dict[str, Any] = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS if hidden else text}
        kind = type_name(item)
        if kind == "bool":
            options.add_argument(option, action=argparse.BooleanOptionalAction, **common)
        elif kind.startswith("tuple"):
            options.add_argument(option, nargs="+", type=float if "float" in kind else str, **common)
        else:
            options.add_argument(option, type=_reader(kind), choices=item.metadata["choices"], **common)


def _value_and_range(item: dataclasses.Field, config: DistillConfig) -> str:
    value = getattr(config, item.name)
    if isinstance(value, bool):
        shown = "on" if value else "off"
    elif isinstance(value, tuple):
        shown = " ".join(map(str, value)) or "empty"
    else:
        shown = "none" if value is None else str(value)
    bounds = range_of(item)
    return f"{shown}; {bounds}" if bounds else shown


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


def results_folder(text: str) -> Path:
    """Read the name of a folder that is there or can be made: the type of an option.

    Raises:
        argparse.ArgumentTypeError: A file is in its place.
    """
    folder = Path(text)
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise argparse.ArgumentTypeError(f"{nearest} is a file, not a folder")
    return folder


def progress_bar(items: Iterable, title: str) -> Iterable:
    """Show a progress bar over `items`."""
    return tqdm(items, desc=title, leave=False)


def exit_on_error(main: Callable[[], int]) -> None:
    """Run a command; an error that the user can mend becomes text on stderr, line by line, and exit status 2."""
    accept_any_console()
    ask_for_large_pages()
    keep_progress_bars_apart()
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
