"""Judge policies that were learnt on one task on another task, as they are.

python experiments/transfer.py runs/NAME --preset small --task shift

The first argument is the folder of a benchmark under the protocol
across, its runs included. Every policy that learnt there acts, frozen,
in new runs of the other task, with the seed and the draw of the data
that it learnt with, beside guidance only. The same command goes on
where it was stopped.
"""

import csv
import math
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.benchmarking.executors import Job, Resources, map_runs
from experiments.benchmarking.grid import CONTROL, parse_seeds
from experiments.benchmarking.table import RAW_FILE, judged_report, shown_probability
from experiments.benchmarking.uncertainty import FEWEST_UNITS, holm, make_strata, paired_difference
from experiments.command_line import (
    add_preset,
    add_settings,
    as_started,
    exit_on_error,
    given_settings,
    make_parser,
    results_folder,
    start_label,
)
from experiments.output import markdown_table, write_csv, write_text
from experiments.running.directory import RunDirectory
from experiments.running.interruption import Interrupted, interrupt_at_once
from experiments.running.policies import run_config
from fusion_env import tasks
from fusion_env.errors import ConfigError
from student.console import printable

__all__ = ["Learnt", "command", "learnt_policies", "main", "transfer"]

Row = dict[str, Any]
_Key = tuple[str, int, int]
"""Policy, seed and draw of the data."""


@dataclass(frozen=True)
class Learnt:
    """A policy that was learnt in a run of a benchmark.

    Attributes:
        policy: Its name.
        seed: Of the run.
        data_seed: Draw of the data.
        file: The saved agent.
        gain: E of the students that it trained there less those of guidance only, on that task's report split.
    """

    policy: str
    seed: int
    data_seed: int
    file: Path
    gain: float


def learnt_policies(benchmark: Path, policies: Collection[str] = (), seeds: Collection[int] = ()) -> list[Learnt]:
    """Find what was learnt in a benchmark.

    Args:
        benchmark: Its folder, with ``raw.csv`` and the runs.
        policies: Only these; none for all.
        seeds: Only these; none for all.

    Raises:
        ConfigError: It is not there or damaged, has another protocol than ``"across"`` or several teachers or data
            sets; a policy or a seed that is asked for did not learn in it; an agent or the row of a run is missing.
    """
    raw = benchmark / RAW_FILE
    gaps, learnt = _read_gaps(raw)
    for title, asked, there in (
        ("policy", policies, sorted({key[0] for key in learnt})),
        ("seed", seeds, sorted({key[1] for key in learnt})),
    ):
        unknown = [str(one) for one in asked if one not in there]
        if unknown or not there:
            raise ConfigError(
                f"{raw} has no {title} {', '.join(unknown) or 'at all'} that learnt; it has "
                f"{', '.join(map(str, there)) or 'none'}"
            )
    wanted = [key for key in learnt if (not policies or key[0] in policies) and (not seeds or key[1] in seeds)]
    agents: dict[_Key, Path] = {}
    for path in sorted(benchmark.glob("runs/*/*/agent.zip")):
        config = RunDirectory(path.parent).read_config()
        key = config.agent, config.seed, config.env.data_seed
        if not config.runs:
            continue
        if key not in gaps:
            raise ConfigError(f"{raw} has no row of {path}")
        other = agents.setdefault(key, path)
        if other != path:
            raise ConfigError(f"{path} and {other} are of the same policy and seeds: delete the run that is not meant")
    missing = [f"{policy} with seed {seed}" for policy, seed, draw in wanted if (policy, seed, draw) not in agents]
    if missing:
        raise ConfigError(
            f"{benchmark / 'runs'} has no agent.zip of {', '.join(missing)}, which {raw} says learnt: copy all "
            "runs, or choose those that are there with --policies and --seeds"
        )
    controls = {key: (CONTROL, *key[1:]) for key in wanted}
    for control in controls.values():
        if control not in gaps:
            raise ConfigError(f"{raw} has no row of {CONTROL} with seed {control[1]} and data seed {control[2]}")
    return [Learnt(*key, agents[key], gaps[key] - gaps[control]) for key, control in controls.items()]


def _read_gaps(raw: Path) -> tuple[dict[_Key, float], list[_Key]]:
    """Read E of the students less the teacher's from the rows of a benchmark, and which of the policies learnt."""
    try:
        with raw.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        protocols = {row["protocol"] for row in rows}
        tasks_of_rows = {(row["teacher"], row["data"]) for row in rows}
        keys = [(row["policy"], int(row["seed"]), int(row["data_seed"])) for row in rows]
        gaps = dict(zip(keys, (float(row["report_gap"]) for row in rows), strict=True))
        learnt = [key for key, row in zip(keys, rows, strict=True) if int(row["learning_rounds"])]
        for key, gap in gaps.items():
            if not math.isfinite(gap):
                raise ValueError(f"report_gap {gap} of {key[0]} with seed {key[1]}")
    except (OSError, LookupError, TypeError, ValueError, csv.Error) as error:
        reason = getattr(error, "reason", None) or f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"{raw} cannot be read ({reason}): name the folder of a benchmark on reporting seeds"
        ) from error
    if not rows:
        raise ConfigError(f"{raw} has no rows: name the folder of a benchmark that has ended")
    if protocols != {"across"}:
        raise ConfigError(f"{raw} is not of the protocol across ({', '.join(sorted(protocols))}): only there is learnt")
    if len(tasks_of_rows) > 1:
        raise ConfigError(f"{raw} has runs of several teachers or data sets: name a benchmark of one of each")
    if len(gaps) < len(rows):
        raise ConfigError(f"{raw} has two rows of the same policy and seeds: take one out")
    return gaps, learnt


def transfer(
    learnt: Sequence[Learnt],
    task: str | None,
    preset: str,
    settings: Mapping[str, Any],
    out: Path,
    *,
    eval_runs: int = 2,
    workers: int = 1,
    show: bool = False,
) -> list[Row]:
    """Let policies act on another task.

    Args:
        learnt: The policies.
        task: Name of the task; None for the preset as it is.
        preset: Its size.
        settings: Fields of `DistillConfig` that differ from both.
        out: Directory with the runs, and ``transfer.csv``; runs in it that are finished are not repeated.
        eval_runs: Runs of each policy.
        workers: Runs at a time, each in a process of its own.
        show: Show a progress bar over the runs.

    Returns:
        A row for each policy and seed: `report_gap` and `control_gap`, E(student) - E(teacher) of its students and of
        those of guidance only; their difference `gain`; `gain_where_learnt`.

    Raises:
        FusionEnvError: A setting is out of range, or an agent does not fit the task.
    """

    def job(policy: str, one: Learnt) -> Job:
        own = {**settings, "data_seed": one.data_seed}
        frozen: dict[str, Any] = {} if policy == CONTROL else {"policy": str(one.file.resolve()), "runs": 0}
        config = run_config(
            policy,
            preset,
            own,
            task=task,
            protocol="across",
            seed=one.seed,
            eval_runs=eval_runs,
            details=False,
            **frozen,
        )
        # As in the benchmark, whose folders differ where policies do; a policy's own name may be a path.
        folder = CONTROL if policy == CONTROL else one.file.parent.parent.name
        return Job(config, out / "runs" / folder / f"{one.seed}-{one.data_seed}")

    pairs = [(job(one.policy, one), job(CONTROL, one)) for one in learnt]
    jobs = {each.run_dir: each for pair in pairs for each in pair}
    gaps = {}
    executor = "pool" if workers > 1 else "inline"
    with tqdm(total=len(jobs), desc="runs", disable=not show) as bar:
        for done, summary in map_runs(list(jobs.values()), executor, Resources(workers)):
            report = judged_report(summary)  # a run that failed counts as such, as where they learnt
            gaps[done.run_dir] = report["final"]["e"] - report["teacher"]["e"]
            bar.update()
    rows = [
        {
            "policy": one.policy,
            "seed": one.seed,
            "data_seed": one.data_seed,
            "report_gap": gaps[own.run_dir],
            "control_gap": gaps[control.run_dir],
            "gain": gaps[own.run_dir] - gaps[control.run_dir],
            "gain_where_learnt": one.gain,
        }
        for one, (own, control) in zip(learnt, pairs, strict=True)
    ]
    write_csv(out / "transfer.csv", rows)
    return rows


def _page(rows: Sequence[Row], title: str, command: str) -> str:
    lines, chances = [], []
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    for policy in policies:
        own = [row for row in rows if row["policy"] == policy]
        # What a policy does on one draw of the data is one unit, however many runs there are.
        here, there = (
            paired_difference(means, [0.0] * len(means))
            for means in (
                [float(of_draw.mean()) for of_draw in make_strata(own, name, ("data_seed",))]
                for name in ("gain", "gain_where_learnt")
            )
        )
        chances.append(here.p)
        draws = len({row["data_seed"] for row in own})
        lines.append([policy, len(own), draws, f"{there:+.4f}", f"{here:+.4f}"])
    for line, chance in zip(lines, holm(chances), strict=True):
        line.append(shown_probability(chance))
    fewest = min(int(line[2]) for line in lines)
    parts = [
        f"# Learnt elsewhere, judged on {title}",
        f"    {command}",
        "E of the students of frozen policies less those of guidance only, report split, same seeds and draws of the "
        "data: the mean over draws with Student's 95 % interval, where they learnt and here. Its probability here is "
        "corrected for the number of policies.",
        markdown_table(["policy", "runs", "draws", "gain where learnt", "gain here", "p (Holm)"], lines),
    ]
    if fewest < FEWEST_UNITS:
        parts.append(f"**Intervals are too narrow or missing: there are only {fewest} draw(s) of the data.**")
    return "\n\n".join([*parts, "Rows: [transfer.csv](transfer.csv).", ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        Exit status: 0 finished, 130 interrupted; the same command goes on.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = make_parser(__doc__)
    parser.add_argument("benchmark", type=Path, help="folder of a benchmark, its runs included")
    add_preset(parser, "small")
    parser.add_argument("--policies", nargs="+", default=[], help="which of them (default: all that learnt)")
    parser.add_argument("--seeds", nargs="+", default=[], help="of which seeds, such as 0-4 (default: all)")
    parser.add_argument("--eval-runs", type=int, default=2, help="runs of each policy (default: 2)")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time; with more than one give --threads 1")
    text = "directory for the results (default: runs/transfer-PRESET-TASK)"
    parser.add_argument("--out", type=results_folder, help=text)
    add_settings(parser, "small", without={"data_seed"})
    args = parser.parse_args(arguments)
    label = start_label(args.preset, args.task)
    out = args.out or Path("runs") / f"transfer-{label}"
    chosen = learnt_policies(args.benchmark, args.policies, parse_seeds(args.seeds))
    settings = given_settings(args)
    more = {"eval_runs": args.eval_runs, "workers": args.workers, "show": True}
    given = f"{as_started('python experiments/transfer.py')} {shlex.join(arguments)}"
    try:
        with interrupt_at_once():
            rows = transfer(chosen, args.task, args.preset, settings, out, **more)
    except Interrupted:
        print(f"stopped; the same command goes on where it was: {printable(given)}")
        return 130
    title = tasks.described(tasks.config(args.task, args.preset, **settings), args.task, args.preset)
    page = _page(rows, title, given)
    write_text(out / "transfer.md", page)
    print(f"{page}\nWritten to {out}")
    return 0


def command() -> None:
    """Run the command as a program."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
