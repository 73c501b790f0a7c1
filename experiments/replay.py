"""Replay a run: its actions on a fresh environment must give its rounds.csv.

python experiments/replay.py runs/NAME
# A run of another machine.
python experiments/replay.py runs/NAME --tolerance 1e-3

Neither the agent nor its random streams are used: a finished run, an unfinished
one, or one that diverged is rebuilt from config.json and the actions alone. The
exit status is 1 at the first round that differs.
"""

from pathlib import Path

from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.running.replay import replay

__all__ = ["command", "main", "replay"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command line without the program's name; None takes the process's.

    Returns:
        Exit status: 0 where everything is as recorded, 1 where something differs.
    """
    parser = make_parser(__doc__)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="directory of a run")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        help="largest difference that counts as none, absolute or relative, for runs of other machines (default: 0)",
    )
    args = parser.parse_args(arguments)
    found = replay(args.run_dir, tolerance=args.tolerance, progress=progress_bar)
    print(found)
    return 0 if found.equal else 1


def command() -> None:
    """Run the command as a program."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
