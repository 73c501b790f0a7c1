"""Draw a pair that is trained on and one that pays the reward, for each task.

python experiments/studies/task_pairs.py --out docs/guide/tasks.png
# Those that need something, too.
python experiments/studies/task_pairs.py --tasks roadscene --data-root DIR --out roadscene.png
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.output import save_figure
from fusion_env import tasks
from fusion_env.config import PRESETS
from fusion_env.data import ImagePair
from fusion_env.task import build_task

__all__ = ["main"]

_NO_DOWNLOAD = ("plenty", "few", "shift", "camera")
# What is not looked at is made as small as it can be.
_QUICK = {"bank_size": 1, "batch_size": 1, "stage0_rounds": 0, "score_limit": 1}


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", nargs="+", choices=tasks.names(), default=_NO_DOWNLOAD, help="one row for each")
    parser.add_argument("--preset", choices=PRESETS.names(), default="bench", help="size (default: bench)")
    parser.add_argument("--data-root", metavar="DIR", help="where a published data set lies")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="PNG file")
    args = parser.parse_args(arguments)
    changes = _QUICK | ({} if args.data_root is None else {"data_root": args.data_root})
    _draw({name: _pairs(name, args.preset, changes) for name in progress_bar(args.tasks, "tasks")}, args.out)
    print(f"Written to {args.out}")
    return 0


def _pairs(name: str, preset: str, changes: dict[str, object]) -> list[ImagePair]:
    """Return the first training pair, and the first reward pair as the student sees it."""
    task = build_task(tasks.config(name, preset, **changes), progress_bar)
    return [task.source.load(task.splits.train[0]), task.report.images.pairs(task.splits.reward[0])[0]]


def _draw(rows: dict[str, Sequence[ImagePair]], path: Path) -> None:
    figure = Figure(figsize=(8.4, 1.9 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 4, squeeze=False)
    for row, (name, pairs) in zip(axes, rows.items(), strict=True):
        pictures = [side.permute(1, 2, 0).numpy() for pair in pairs for side in (pair.ir, pair.vis)]
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(name)
    for axis, title in zip(axes[0], ("trained on", "", "pays the reward", ""), strict=True):
        axis.set_title(title, fontsize=9, loc="left")
    save_figure(figure, path, dpi=72)


if __name__ == "__main__":
    exit_on_error(main)
