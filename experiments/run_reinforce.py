"""Distil a fusion student under a REINFORCE agent (arXiv 2509.02424).

python experiments/run_reinforce.py                                # demo: no download, about a minute
python experiments/run_reinforce.py --data DIR --rounds 50         # your own pairs in DIR/ir and DIR/vi
python experiments/run_reinforce.py --resume runs/NAME             # go on after Ctrl-C
"""

import argparse
import sys
import time
from pathlib import Path

import agents
from experiments.command_line import add_settings, exit_on_error, given_settings, progress_bar
from experiments.run_config import RunConfig, read_config
from experiments.runner import run, summary_table
from experiments.training import Interrupted
from fusion_env.config import PRESETS, preset
from fusion_env.errors import ConfigError
from fusion_env.task import build_task

__all__ = ["main"]

_INITIAL_MEAN = [0.0, 0.0, -0.5, -0.5, -0.5, -0.5, -0.5]


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command line without the program's name; None takes the process's.

    Returns:
        Exit status: 0 finished, 130 interrupted and resumable.
    """
    args = _parser().parse_args(arguments)
    config, run_dir = _resumed(args) if args.resume else _new(args)
    task = build_task(config.env, progress_bar)
    _print_start(config, task.describe(), run_dir)
    try:
        summary = run(config, run_dir, show=True, progress=progress_bar)
    except Interrupted as stop:
        print(f"{stop}; continue with: python experiments/run_reinforce.py --resume {run_dir}")
        return 130
    print(f"\n{summary_table(summary)}\n\nWritten to {run_dir}: {_listing(run_dir)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="demo", help="starting point of all settings")
    parser.add_argument(
        "--agent",
        choices=agents.names(),
        help="default: reinforce-paper with --preset paper, else reinforce",
    )
    parser.add_argument("--runs", type=int, default=1, help="distillation runs in a row; the agent goes on learning")
    parser.add_argument("--seed", type=int, default=0, help="seed of agent and environment")
    parser.add_argument("--out", type=Path, help="directory for the results (default: runs/NAME of preset and time)")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="continue the run in DIR; takes no other option")
    add_settings(parser)
    return parser


def _new(args: argparse.Namespace) -> tuple[RunConfig, Path]:
    agent = args.agent or ("reinforce-paper" if args.preset == "paper" else "reinforce")
    config = RunConfig(
        env=preset(args.preset, **given_settings(args)),
        preset=args.preset,
        agent=agent,
        agent_settings={"initial_mean": _INITIAL_MEAN},
        runs=args.runs,
        seed=args.seed,
    )
    name = f"{agent}-{args.preset}-seed{args.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    return config, args.out or Path("runs") / name


def _resumed(args: argparse.Namespace) -> tuple[RunConfig, Path]:
    extra = given_settings(args)
    if extra or args.out:
        raise ConfigError(
            f"--resume takes its settings from {args.resume / 'config.json'}: leave out the other options"
        )
    return read_config(args.resume), args.resume


def _print_start(config: RunConfig, used: dict[str, str], run_dir: Path) -> None:
    print(f"preset {config.preset}, agent {config.agent}, protocol online, seed {config.seed}")
    for name, value in used.items():
        print(f"  {name:<11}{value}")
    print(f"  {'rounds':<11}{config.runs} run(s) of {config.env.rounds}")
    print(f"  {'out':<11}{run_dir}", flush=True)


def _listing(run_dir: Path) -> str:
    return ", ".join(sorted(path.name for path in run_dir.iterdir() if not path.name.startswith(".")))


if __name__ == "__main__":
    exit_on_error(lambda: main(sys.argv[1:]))
