r"""Make the leaderboard's tables from the raw rows of submissions.

# All in docs/results/leaderboard/, into docs/results/leaderboard.md.
python experiments/leaderboard.py --headroom few=runs/headroom-few/runs.csv
# A benchmark of your own, on the screen.
python experiments/leaderboard.py runs/mine

A submission is a folder with raw.csv and actions.csv as benchmark.py writes
them. A row that cannot be compared is refused, with file and line. Whether the
actions make the scores is checked by replay.py --check.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.benchmarking.leaderboard import leaderboard_tables, read_headroom
from experiments.benchmarking.submission import read_submission
from experiments.benchmarking.table import RAW_FILE
from experiments.command_line import as_started, exit_on_error, make_parser
from experiments.output import write_text
from fusion_env import tasks
from fusion_env.errors import ConfigError

__all__ = ["MARK", "PAGE", "command", "main"]

PAGE = Path("docs/results/leaderboard.md")
MARK = "<!-- experiments/leaderboard.py writes what follows -->\n"
"""Line of the page above which people write."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command line without the program's name; None takes the process's.

    Returns:
        Exit status.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    args = _parser().parse_args(arguments)
    folders = args.folders or sorted(path.parent for path in PAGE.with_suffix("").glob(f"*/{RAW_FILE}"))
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) != len(names):
        raise ConfigError(f"submissions must have folders of different names. Got {', '.join(sorted(names))}")
    headrooms = {task: read_headroom(path) for task, path in args.headroom}
    again = f"{as_started('python experiments/leaderboard.py')} {shlex.join(arguments)}".strip()
    tables = leaderboard_tables([read_submission(folder) for folder in folders], headrooms, again)
    if args.folders:
        print(tables)
        return 0
    page = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    if MARK not in page:
        raise ConfigError(f"{PAGE} is missing, or has no line {MARK.strip()}: run this in a checkout of fusion-env")
    write_text(PAGE, f"{page.partition(MARK)[0]}{MARK}\n{tables}")
    print(f"Written to {PAGE}: {len(folders)} submission(s)")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__)
    parser.add_argument("folders", type=Path, nargs="*", metavar="DIR", help="submissions to show on the screen")
    text = "runs.csv of studies/headroom.py for a task, which sets the score 1"
    parser.add_argument("--headroom", type=_headroom, nargs="+", default=[], metavar="TASK=FILE", help=text)
    return parser


def _headroom(text: str) -> tuple[str, Path]:
    task, _, path = text.partition("=")
    if task not in tasks.names() or not path:
        raise argparse.ArgumentTypeError(f"must be TASK=FILE, of {', '.join(tasks.names())}. Got {text!r}")
    return task, Path(path)


def command() -> None:
    """Run the command as a program."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
