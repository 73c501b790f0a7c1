"""Compare starts of stage 0: the loss curves of a pruned and of a random student.

Usage: ``python experiments/studies/stage0_curves.py --out docs/results``
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.output import markdown_table, save_figure, write_text
from fusion_env.config import preset
from fusion_env.stage0 import Stage0Settings, initial_student, train_stage0
from fusion_env.task import build_task

__all__ = ["main"]

STARTS = ("prune", "random")
SHOWN = (1, 5, 10, 25, 50)


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder for stage0-curves.png and .md")
    parser.add_argument("--rounds", type=int, default=60, help="rounds of stage 0, of four iterations each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args(arguments)
    config = preset("demo", scenes=120, bank_size=480, threads=1)
    task = build_task(config, progress_bar)
    curves = {}
    for start in STARTS:
        runs = []
        for seed in args.seeds:
            seeded = config.replace(stage0_rounds=args.rounds, stage0_seed=seed).group(Stage0Settings)
            state = initial_student(start, task.teacher, seed)
            runs.append(train_stage0(seeded, task.bank, task.features, state, task.iterations, progress_bar)[1])
        curves[start] = np.array(runs)
    _write(curves, args.out, args.seeds)
    return 0


def _write(curves: dict[str, np.ndarray], out: Path, seeds: list[int]) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for start, runs in curves.items():
        rounds = np.arange(1, runs.shape[1] + 1)
        axis.plot(rounds, runs.mean(0), label=start)
        axis.fill_between(rounds, runs.min(0), runs.max(0), alpha=0.2)
    axis.set(xlabel="round of stage 0 (4 iterations)", ylabel="guidance loss (Eq. 1)", yscale="log")
    axis.legend()
    axis.grid(alpha=0.3)
    save_figure(figure, out / "stage0-curves.png")
    shown = [r for r in SHOWN if r <= next(iter(curves.values())).shape[1]]
    rows = []
    for start, runs in curves.items():
        losses = [runs[:, r - 1] for r in shown]
        rows.append([start, *(f"{loss.mean():.4f} ({loss.min():.4f}-{loss.max():.4f})" for loss in losses)])
    text = (
        "# Stage 0: pruned against random start\n\n"
        "Guidance loss (Eq. 1, embedded feature network, embedded teacher) in a round of four mini-batches, mean and "
        f"range over {len(seeds)} seeds.\n`python experiments/studies/stage0_curves.py --out docs/results`\n\n"
        + markdown_table(["start", *(f"round {r}" for r in shown)], rows)
        + "\n\n![loss curves](stage0-curves.png)\n"
    )
    write_text(out / "stage0-curves.md", text)
    print(text)


if __name__ == "__main__":
    exit_on_error(main)
