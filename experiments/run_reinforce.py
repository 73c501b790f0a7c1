"""Distil a fusion student under a REINFORCE agent (arXiv 2509.02424).

# The demo: no download, about a minute.
python experiments/run_reinforce.py
# Your own pairs in DIR/ir and DIR/vi.
python experiments/run_reinforce.py --data DIR --rounds 50
# Go on after Ctrl-C.
python experiments/run_reinforce.py --resume runs/NAME
"""

from experiments.command_line import exit_on_error
from experiments.run_agent import run_command

__all__ = ["command", "main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command line without the program's name; None takes the process's.

    Returns:
        Exit status: 0 finished, 130 interrupted and resumable.
    """
    known = ("reinforce", "reinforce-paper")
    return run_command(
        arguments, __doc__, choices=known, help="default: reinforce-paper with --preset paper, else reinforce"
    )


def command() -> None:
    """Run the command as a program."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
