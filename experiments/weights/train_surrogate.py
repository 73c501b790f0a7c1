"""Fit the model of the surrogate environment to recorded runs, and judge how it ranks policies that it has not seen.

python experiments/weights/train_surrogate.py --runs runs/surrogate --out fusion_env/assets

What is missing in the folder of runs is run first, in the real environment on one
thread; the same command goes on where it was stopped. The fit itself takes seconds.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.output import write_text
from experiments.weights.surrogate_card import card
from experiments.weights.surrogate_fit import fit, recordings_of
from experiments.weights.surrogate_ranking import rank
from experiments.weights.surrogate_runs import collect, fit_runs, held_out_runs
from fusion_env.surrogate.model import Surrogate, load_surrogate
from student.weights import save_state

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit status 0."""
    parser = make_parser(__doc__)
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="folder of the runs, made or completed")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the model and its card")
    parser.add_argument("--seed", type=int, default=0, help="seed of the fit and of the surrogate's runs")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recordings = recordings_of(collect(fit_runs(), args.runs, progress_bar))
    held_out = collect(held_out_runs(), args.runs, progress_bar)
    start = time.process_time()
    path = args.out / "surrogate.safetensors"
    model, explained = fit(recordings, args.seed)
    _save(model, path)
    ranked = rank(load_surrogate(path), held_out, args.seed)
    seconds = time.process_time() - start
    write_text(args.out / "surrogate.md", card(recordings, path, explained, ranked, seed=args.seed, seconds=seconds))
    return 0


def _save(model: Surrogate, path: Path) -> None:
    tensors = {"stage0": model.stage0, "teacher": model.teacher, **model.tensors}
    # One entry: safetensors writes several in an order of its own, each time another.
    task = {"config": model.config.to_dict(), "fingerprints": dict(model.fingerprints)}
    metadata = {"task": json.dumps(task)}
    save_state({name: torch.from_numpy(array).float() for name, array in tensors.items()}, path, metadata=metadata)


if __name__ == "__main__":
    exit_on_error(main)
