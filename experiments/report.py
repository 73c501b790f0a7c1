"""Show runs to people: one HTML page that works offline.

python experiments/report.py runs/NAME
# Several side by side.
python experiments/report.py runs/ONE runs/OTHER --out both.html

The page holds curves, the agent's schedules as colours, report images with a
slider between before and after, tables, configuration and versions. It is one
file that needs nothing else: send it to anybody. Unfinished runs are shown as
far as they are.
"""

from pathlib import Path

from experiments.command_line import exit_on_error, make_parser
from experiments.output import write_text
from experiments.reporting.page import report_page
from experiments.reporting.recorded import read_runs
from student.console import printable

__all__ = ["command", "main"]

_PAGE = "report.html"


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command line without the program's name; None takes the process's.

    Returns:
        Exit status 0.
    """
    parser = make_parser(__doc__)
    parser.add_argument("run_dirs", type=Path, nargs="+", metavar="RUN_DIR", help="directory of a run")
    where = f"default: {_PAGE} in the directory of the one run, or in the working directory for several"
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"the page ({where})")
    args = parser.parse_args(arguments)
    runs = read_runs(args.run_dirs)
    out = args.out or (args.run_dirs[0] / _PAGE if len(runs) == 1 else Path(_PAGE))
    write_text(out, report_page(runs))
    for run in runs:
        if run.summary is None:
            print(f"{printable(run.name)} is unfinished: {len(run.rows)} of {run.config.total_rounds} rounds are shown")
    print(f"Written to {printable(str(out))} ({out.stat().st_size / 1e6:.1f} MB)")
    return 0


def command() -> None:
    """Run the command as a program."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
