"""Look at stage 0: a pruned start against a random one, and whether it is long enough.

Usage: ``python experiments/studies/stage0_curves.py --out docs/results``
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.output import markdown_table, save_figure, write_text
from fusion_env.config import PRESETS, preset
from fusion_env.stage0 import Stage0Settings, initial_student, train_stage0
from fusion_env.task import build_task

__all__ = ["main"]

STARTS = ("prune", "random")
SHOWN = (1, 5, 10, 25, 50)
LENGTHS = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Of stage 0, as multiples of the preset's; each is annealed to its end."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder for stage0-curves.png and .md")
    parser.add_argument("--rounds", type=int, default=60, help="rounds of the curves, of four iterations each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    text = "preset whose stage 0 is shortened and prolonged (default: bench)"
    parser.add_argument("--preset", choices=PRESETS.names(), default="bench", help=text)
    args = parser.parse_args(arguments)
    parts = [_curves(args.rounds, args.seeds, args.out), _lengths(args.preset, args.seeds)]
    page = "\n\n".join(["# Stage 0: which start, and how long", _command(args), *parts]) + "\n"
    write_text(args.out / "stage0-curves.md", page)
    print(page)
    return 0


def _command(args: Namespace) -> str:
    given = f" --rounds {args.rounds} --seeds {' '.join(map(str, args.seeds))} --preset {args.preset}"
    return f"`python experiments/studies/stage0_curves.py --out docs/results{given}`, embedded teacher and features."


def _curves(rounds: int, seeds: Sequence[int], out: Path) -> str:
    """Train both starts, draw their losses, and return the section about them."""
    config = preset("demo", scenes=120, bank_size=480, threads=1)
    task = build_task(config, progress_bar)
    curves = {}
    for start in STARTS:
        runs = []
        for seed in seeds:
            seeded = config.replace(stage0_rounds=rounds, stage0_seed=seed).group(Stage0Settings)
            state = initial_student(start, task.teacher, seed)
            runs.append(train_stage0(seeded, task.bank, task.features, state, task.iterations, progress_bar)[1])
        curves[start] = np.array(runs)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for start, values in curves.items():
        axis.plot(np.arange(1, rounds + 1), values.mean(0), label=start)
        axis.fill_between(np.arange(1, rounds + 1), values.min(0), values.max(0), alpha=0.2)
    axis.set(xlabel="round of stage 0 (4 iterations)", ylabel="guidance loss (Eq. 1)", yscale="log")
    axis.legend()
    axis.grid(alpha=0.3)
    save_figure(figure, out / "stage0-curves.png")
    shown = [number for number in SHOWN if number <= rounds]
    rows = [[start, *(_range(values[:, number - 1]) for number in shown)] for start, values in curves.items()]
    return "\n\n".join(
        [
            "## Pruned against random",
            f"Guidance loss (Eq. 1) in a round of four mini-batches, mean and range over {len(seeds)} seeds.",
            markdown_table(["start", *(f"round {number}" for number in shown)], rows),
            "![loss curves](stage0-curves.png)",
        ]
    )


def _lengths(preset_name: str, seeds: Sequence[int]) -> str:
    """Build a preset's task with a stage 0 of several lengths, and return the section about it."""
    usual = preset(preset_name, threads=1)
    rows = []
    for rounds in dict.fromkeys(round(share * usual.stage0_rounds) for share in LENGTHS):
        runs = []
        for seed in seeds if rounds else seeds[:1]:
            task = build_task(usual.replace(stage0_rounds=rounds, stage0_seed=seed), progress_bar)
            runs.append(task.report.score(task.new_engine(seed, seed).student))
        columns = ([run[name] for run in runs] for name in ("e", "vif", "mae"))
        marked = f"{rounds} (the preset's)" if rounds == usual.stage0_rounds else f"{rounds}"
        rows.append([marked, *(_range(np.array(values)) for values in columns)])
    iterations = task.iterations
    return "\n\n".join(
        [
            f"## How long, in the preset `{preset_name}`",
            f"From {usual.student_init!r}, rounds of {iterations} mini-batches of {usual.batch_size} crops of "
            f"{usual.crop_size} pixels; each stage 0 is annealed to its own end. Report split, mean and range over "
            f"{len(seeds)} seeds (0 rounds: seed {seeds[0]}); the teacher's E is {task.report.teacher()['e']:.4f}.",
            markdown_table(["rounds", "E", "VIF", "MAE to the teacher"], rows),
        ]
    )


def _range(values: NDArray[np.float64]) -> str:
    spread = f" ({values.min():.4f}-{values.max():.4f})" if len(values) > 1 else ""
    return f"{values.mean():.4f}{spread}"


if __name__ == "__main__":
    exit_on_error(main)
