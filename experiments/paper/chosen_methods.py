"""The options with which commands choose the methods that they compare."""

import argparse
from pathlib import Path

from experiments.command_line import Options
from experiments.paper.methods import Method, classical_methods, folder_method, student_method, teacher_method
from fusion_env.errors import ConfigError

__all__ = ["add_method_options", "chosen_methods"]


def add_method_options(options: Options) -> None:
    """Add ``--classical``, ``--teachers``, ``--students`` and ``--folders``."""
    names = [method.name for method in classical_methods()]
    text = f"fusion without a network (default: {' '.join(names)})"
    options.add_argument("--classical", nargs="*", default=names, choices=names, help=text)
    text = "teachers by name, with their weights where they lie elsewhere than $FUSION_ENV_WEIGHTS (default: embedded)"
    options.add_argument("--teachers", nargs="*", default=["embedded"], metavar="NAME[=WEIGHTS]", help=text)
    text = "students by name: file, folder or id on the hub (default: the embedded one)"
    options.add_argument("--students", nargs="*", default=["student"], metavar="NAME[=WEIGHTS]", help=text)
    text = "methods of which there are only images: a folder that holds one of fused images for each data set"
    options.add_argument("--folders", nargs="+", default=[], metavar="NAME=DIR", help=text)


def chosen_methods(args: argparse.Namespace) -> list[Method]:
    """Return the methods that were chosen by `add_method_options`; they run on ``args.device``.

    Raises:
        ConfigError: None is chosen, two share a name, or a folder has none.
        FusionEnvError: Weights are missing or cannot be used.
    """
    methods = [method for method in classical_methods() if method.name in args.classical]
    for text in args.teachers:
        name, _, weights = text.partition("=")
        methods.append(teacher_method(name, weights or None, args.device))
    for text in args.students:
        name, _, weights = text.partition("=")
        methods.append(student_method(weights or None, args.device, name))
    for text in args.folders:
        name, _, folder = text.partition("=")
        if not folder:
            raise ConfigError(f"--folders takes NAME=DIR. Got {text!r}")
        methods.append(folder_method(name, Path(folder)))
    names = [method.name for method in methods]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not names:
        raise ConfigError(f"the methods must be different ones, at least one. Got {', '.join(names) or 'none'}")
    return methods
