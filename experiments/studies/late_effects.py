"""Measure how soon an action shows what it will be worth.

Constant actions are each held for a whole run, on several draws: seeds of the run, of its start and of the data. The
score on the reward split, which an agent is paid, is recorded after every round. The rank correlation of what is paid
early with what is left at the end says what an agent can know of an action before the run is over.

python experiments/studies/late_effects.py --task camera --preset small --threads 1 --workers 2

The draws have seeds for choosing, so that only the reward split counts. The same command goes on where it was stopped:
the rows of runs.csv are read, those of other settings refused.
"""

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np

from experiments.command_line import (
    add_preset,
    add_settings,
    exit_on_error,
    given_settings,
    make_parser,
    progress_bar,
    start_label,
)
from experiments.output import write_csv, write_text
from experiments.processes import Workers
from experiments.studies.headroom import FIRST_CHOICE_SEED, named_constants
from experiments.studies.late_effects_page import Held, draw, page
from experiments.studies.trials import (
    Row,
    Stratum,
    Vector,
    make_folder,
    read_own_rows,
    row_stratum,
    task_at,
    task_key,
)
from fusion_env import tasks
from fusion_env.action import ACTION_NAMES, decode_action
from fusion_env.config import DistillConfig
from fusion_env.data import Progress, no_progress
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError

__all__ = ["held_constants", "late_effects", "main"]

# No divisor of the number of constants: the first few already differ in weight, degradation and strength.
_STRIDE = 11

_COLUMNS = (
    *("task", "name", "seed", "stage0_seed", "data_seed", "round", "reward_gap", *ACTION_NAMES),
    *("guidance_weight", "diverged", "best_report_gap", "last_report_gap"),
)

Job = tuple[DistillConfig, str, Vector, Stratum]


def held_constants(count: int, logit_scale: float) -> dict[str, Vector]:
    """Return some of the named constants: most guidance, and every eleventh of the others, round and round.

    Raises:
        ConfigError: There are not so many, or they are too few for a correlation.
    """
    named = named_constants(logit_scale)
    if not 4 <= count <= len(named):
        raise ConfigError(f"actions must be in 4..{len(named)}. Got {count}")
    first, *others = named
    names = [first, *(others[_STRIDE * place % len(others)] for place in range(count - 1))]
    return {name: named[name] for name in names}


def late_effects(
    config: DistillConfig,
    out: Path,
    *,
    actions: int = 24,
    draws: int = 3,
    workers: int = 1,
    progress: Progress = no_progress,
) -> list[Row]:
    """Hold constant actions for whole runs.

    Args:
        config: The task, of which `stage0_seed` and `data_seed` are replaced; the reward is ``"gap"``, and no run ends
            at parity.
        out: Directory with ``runs.csv``; runs that it has are not repeated.
        actions: How many.
        draws: On how many draws each, at least 2.
        workers: Runs at a time, each in a process of its own.
        progress: Progress display over the runs.

    Returns:
        For each draw, action and round a row: its numbers, the guidance weight that they mean, what was paid as
        `reward_gap`, and of the whole run the gaps on the report split and whether it diverged.

    Raises:
        ConfigError: A number is out of range; or the directory has damaged rows, or those of other settings, data or
            networks, or cannot be made or written to.
    """
    if draws < 2:
        raise ConfigError(f"draws must be at least 2. Got {draws}")
    config, path = config.replace(reward="gap", stop_at_parity=False), out / "runs.csv"
    strata = [Stratum(seed, seed, seed) for seed in range(FIRST_CHOICE_SEED, FIRST_CHOICE_SEED + draws)]
    held = held_constants(actions, config.logit_scale)
    jobs = [(config, name, action, stratum) for stratum in strata for name, action in held.items()]
    runs: dict[tuple[str, Stratum], list[Row]] = {}
    make_folder(out)
    for row in read_own_rows(path, config, _COLUMNS):
        runs.setdefault((row["name"], row_stratum(row)), []).append(row)
        action = held.get(row["name"], ())
        if action and not np.allclose([row[name] for name in ACTION_NAMES], action, atol=1e-6):
            raise ConfigError(f"{path} holds {row['name']!r} with other actions: choose another --out")
    numbers = list(range(1, config.rounds + 1))
    missing = [job for job in jobs if [row["round"] for row in runs.get(job[1:4:2], [])] != numbers]
    with Workers(workers) as pool:
        for _, rows in zip(progress(missing, "runs"), pool.results(_run, missing), strict=True):
            runs[rows[0]["name"], row_stratum(rows[0])] = rows
            write_csv(path, [row for run in runs.values() for row in run])
    return [row for _, name, _, stratum in jobs for row in runs[name, stratum]]


def _run(job: Job) -> list[Row]:
    config, name, action, stratum = job
    env = FusionDistillEnv.from_task(task_at(config, stratum))
    env.reset(seed=stratum.seed)
    rewards: list[float] = []
    terminated = truncated = False
    while not (terminated or truncated):
        _, reward, terminated, truncated, _ = env.step(action)
        rewards.append(reward)
    result = env.last_run
    assert result is not None
    if result.diverged:  # the last reward is that of all rounds which were lost
        rewards[-1:] = [config.divergence_reward] * (config.rounds - len(rewards) + 1)
    teacher = result.teacher_report["e"]
    whole = {
        "guidance_weight": decode_action(action, logit_scale=config.logit_scale)[0].guidance,
        "diverged": result.diverged,
        "best_report_gap": result.report["e"] - teacher,
        "last_report_gap": result.last_report["e"] - teacher,
    }
    named = {"task": task_key(config, stratum), "name": name, **vars(stratum)}
    numbers = dict(zip(ACTION_NAMES, action, strict=True))
    return [
        {**named, "round": number, "reward_gap": paid, **numbers, **whole} for number, paid in enumerate(rewards, 1)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    args = _parser().parse_args(arguments)
    config = tasks.config(args.task, args.preset, **given_settings(args))
    out = args.out or Path("runs") / f"late-effects-{start_label(args.preset, args.task)}"
    rows = late_effects(
        config, out, actions=args.actions, draws=args.draws, workers=args.workers, progress=progress_bar
    )
    held = Held.of(rows)
    title = (
        f"Settings of {tasks.described(config, args.task, args.preset)}; {args.actions} constant actions x "
        f"{args.draws} draws, runs of {config.rounds} rounds.\n\n"
        f"    python experiments/studies/late_effects.py {shlex.join(sys.argv[1:] if arguments is None else arguments)}"
    )
    text = page(title, held)
    write_text(out / "late_effects.md", text)
    draw(held, out / "late_effects.png")
    print(f"{text}\nWritten to {out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__)
    add_preset(parser, "bench")
    parser.add_argument("--actions", type=int, default=24, help="constant actions, of 49 with names (default: 24)")
    parser.add_argument("--draws", type=int, default=3, help="draws that each is held on (default: 3)")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time; with more than one give --threads 1")
    parser.add_argument("--out", type=Path, help="directory for the results (default: runs/late-effects-PRESET-TASK)")
    own = ("stage0_seed", "data_seed", "self_learning", "guidance", "reward", "stop_at_parity")
    add_settings(parser, "bench", without=own)
    return parser


if __name__ == "__main__":
    exit_on_error(main)
