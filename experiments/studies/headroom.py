"""Measure what a curriculum can be worth on a task: the best that is found against guidance only.

python experiments/studies/headroom.py --task camera --preset small --threads 1 --workers 2

Four kinds of curriculum: guidance only (no self-learning loss at all); the best of many constant actions; the best
open-loop schedule, a straight line from one action to another, found by CMA-ES; and the planner, which tries its
actions on copies of the student first.

Everything is chosen by the score on the reward split in runs that are used for nothing else ("choice"). What was chosen
runs again with other seeds, other stage-0 students and other draws of the data ("judged"), where the report split
counts. All constants run once, the best few with every choice seed, likewise the schedules: the best of many single
runs is partly luck, and flatters.

The same command goes on where it was stopped: the rows of runs.csv are read, those of other settings refused.
"""

import argparse
import functools
import itertools
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.command_line import (
    add_preset,
    add_settings,
    exit_on_error,
    given_settings,
    make_parser,
    named_values,
    progress_bar,
    start_label,
)
from experiments.output import write_text
from experiments.studies.headroom_page import draw, page
from experiments.studies.reward_validity import actions
from experiments.studies.schedule_search import SEARCHES, check_search, search
from experiments.studies.trials import (
    CHOSEN_BY,
    CONSTANT,
    GUIDANCE_ONLY,
    MOST_GUIDANCE,
    PLANNER,
    SCHEDULE,
    Row,
    Stratum,
    Trial,
    Trials,
    check_planner,
    row_stratum,
)
from fusion_env import tasks
from fusion_env.action import STRENGTHS, encode_action, even_action
from fusion_env.errors import ConfigError

__all__ = ["FIRST_CHOICE_SEED", "Budget", "headroom", "main", "named_constants"]

_PLANS = 5
_WEIGHTS = (0.9, 0.7, 0.5, 0.3)  # guidance weights of the named constants
FIRST_CHOICE_SEED = 1000
"""As for tuning in benchmarks: the seeds below are for reporting."""


@dataclass(frozen=True)
class Budget:
    """How much is tried.

    Attributes:
        constants: Constant actions that cover the box evenly, beside those with names.
        keep: Constants, and schedules, that run with every choice seed.
        choice: Seeds for choosing.
        strata: Seeds for judging.
        search: One of `SEARCHES`.
        schedules: Schedules that it tries.
        population: Schedules that it tries at a time.
        planner: Settings of the planner. Unless they say otherwise it looks for the best gap in the rest of the run,
            `_PLANS` times in a run, and its copies draw other random numbers than the run will: what it finds can be
            attained without knowing the future.

    Raises:
        ConfigError: A number is out of range, or the planner refuses its settings.
    """

    constants: int = 16
    keep: int = 4
    choice: int = 3
    strata: int = 5
    search: str = "cma"
    schedules: int = 96
    population: int = 12
    planner: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lowest = {"constants": 0, "keep": 1, "choice": 1, "strata": 2, "schedules": 1, "population": 2}
        for name, low in lowest.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} must be at least {low}. Got {getattr(self, name)}")
        if self.strata > FIRST_CHOICE_SEED:
            raise ConfigError(f"seeds from {FIRST_CHOICE_SEED} on are for choosing. Got {self.strata} strata")
        check_planner({"lookahead": None, "execute": 1, **self.planner})

    @property
    def choice_strata(self) -> list[Stratum]:
        """Seeds of the runs that things are chosen by."""
        return [Stratum(seed, seed, seed) for seed in range(FIRST_CHOICE_SEED, FIRST_CHOICE_SEED + self.choice)]

    @property
    def judged_strata(self) -> list[Stratum]:
        """Seeds of the runs that count."""
        return [Stratum(seed, seed, seed) for seed in range(self.strata)]


def named_constants(logit_scale: float) -> dict[str, tuple[float, ...]]:
    """Return constant actions by name: corners, even mixtures, and each degradation alone, light and strong.

    Raises:
        ConfigError: They have guidance weights that do not exist at this scale.
    """
    try:
        return _named_constants(logit_scale)
    except ValueError as error:
        raise ConfigError(f"the constants with names: {error}") from error


def _named_constants(logit_scale: float) -> dict[str, tuple[float, ...]]:
    found = {"most guidance": np.array(MOST_GUIDANCE)}
    for weight, share in itertools.product(_WEIGHTS, (0.25, 0.5)):
        found[f"all {share:g}, {weight:g}"] = even_action(share, guidance=weight, logit_scale=logit_scale)
    encode = functools.partial(encode_action, logit_scale=logit_scale)
    for one, (word, share), weight in itertools.product(STRENGTHS, (("light", 0.25), ("strong", 1.0)), _WEIGHTS):
        found[f"{one.name} {word}, {weight:g}"] = encode(guidance=weight, **{one.setting: one.to_strength(share)})
    return {name: _numbers(action) for name, action in found.items()}


def _numbers(action: NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(action.astype(np.float32).tolist())


def headroom(trials: Trials, budget: Budget) -> dict[str, list[Row]]:
    """Choose the best constant and the best schedule, and judge them beside guidance only and the planner.

    Args:
        trials: The trials of the task.
        budget: How much is tried.

    Returns:
        The rows that count, by kind: one for each of `Budget.judged_strata`, in this order.

    Raises:
        ConfigError: The directory of the trials holds others of the same names, the task pays something else, or the
            planner refuses its settings.
        MissingRequirementsError: The search needs a package that is not there.
    """
    first, config = budget.choice_strata[0], trials.config
    if config.reward != "gap":
        raise ConfigError(
            f"the planner is to look for the best gap, which it is paid: set reward=gap. Got {config.reward}"
        )
    execute = math.ceil(config.rounds / _PLANS)
    planner = {"lookahead": None, "objective": "best", "execute": execute, "foresight": False, **budget.planner}
    check_planner(planner)  # now, not when all has been chosen
    check_search(budget.search)
    constants = named_constants(config.logit_scale)
    if budget.constants:
        constants |= {f"even {number}": _numbers(action) for number, action in enumerate(actions(budget.constants, 0))}
    screened = [Trial(CONSTANT, name, action, action, first) for name, action in constants.items()]
    constant = _best_of(trials, screened, budget, "constants")
    schedule = _best_of(trials, _searched(trials, constant, budget), budget, "schedules")
    named = ", ".join(f"{name}={value}" for name, value in planner.items())
    begin = constant.start
    judged = [
        Trial(GUIDANCE_ONLY, GUIDANCE_ONLY, MOST_GUIDANCE, MOST_GUIDANCE, first),
        constant,
        schedule,
        Trial(PLANNER, f"{named}, from {constant.name}", begin, begin, first, planner),
    ]
    rows = trials.run([one.at(stratum) for stratum in budget.judged_strata for one in judged], "judged")
    return {one.kind: [row for row in rows if row["kind"] == one.kind] for one in judged}


def _best_of(trials: Trials, tried: Sequence[Trial], budget: Budget, title: str) -> Trial:
    """Return the best of some trials; those that do best with the first choice seed run with all of them."""
    once = [row[CHOSEN_BY] for row in trials.run(tried, f"{title}, one seed")]
    kept = [tried[index] for index in np.argsort(-np.array(once), kind="stable")[: budget.keep]]
    repeated = [one.at(stratum) for stratum in budget.choice_strata for one in kept]
    rows = trials.run(repeated, f"the best {title}, all choice seeds")
    means = np.reshape([row[CHOSEN_BY] for row in rows], (budget.choice, len(kept))).mean(0)
    return kept[int(np.argmax(means))]


def _searched(trials: Trials, constant: Trial, budget: Budget) -> list[Trial]:
    """Return the schedules that the search tried, which began at the best constant."""
    tried: list[Trial] = []

    def evaluate(points: Sequence[NDArray[np.float64]]) -> list[float]:
        begun = len(tried)
        for number, point in enumerate(points, begun):
            start, end = map(_numbers, np.split(np.asarray(point), 2))
            name = f"{budget.search} {number} from {constant.name}"
            tried.append(Trial(SCHEDULE, name, start, end, constant.stratum))
        return [row[CHOSEN_BY] for row in trials.run(tried[begun:], f"schedules, {len(tried)} of {budget.schedules}")]

    begin = (*constant.start, *constant.end)
    search(budget.search, begin, evaluate, budget=budget.schedules, population=budget.population)
    return tried


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    args = _parser().parse_args(arguments)
    config = tasks.config(args.task, args.preset, **given_settings(args))
    names = ("constants", "keep", "choice", "strata", "search", "schedules", "population")
    budget = Budget(**{name: getattr(args, name) for name in names}, planner=named_values(args.planner))
    out = args.out or Path("runs") / f"headroom-{start_label(args.preset, args.task)}"
    with Trials(config, out, args.workers, progress_bar) as trials:
        judged = headroom(trials, budget)
    chosen = [row for row in trials.rows if row_stratum(row) in budget.choice_strata]
    hours = sum(row["cpu_seconds"] for row in trials.rows) / 3600
    title = (
        f"Settings of {tasks.described(config, args.task, args.preset)}; runs of {config.rounds} rounds; "
        f"{len(trials.rows)} runs, {hours:.1f} hours of CPU time without building and scoring.\n\n"
        f"    python experiments/studies/headroom.py {shlex.join(sys.argv[1:] if arguments is None else arguments)}"
    )
    text = page(title, judged, chosen, budget.keep)
    write_text(out / "headroom.md", text)
    draw(judged, chosen, trials, config, out / "headroom.png")
    print(f"{text}\nWritten to {out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser, usual = make_parser(__doc__), Budget()
    add_preset(parser, "bench")
    numbers = {
        "constants": "constant actions that cover the box evenly, beside the 49 with names",
        "keep": "constants, and schedules, that run with every choice seed",
        "choice": "seeds for choosing",
        "strata": "seeds for judging",
        "schedules": "schedules that the search tries",
        "population": "schedules that it tries at a time",
    }
    for name, text in numbers.items():
        default = getattr(usual, name)
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default: {default})")
    text = f"how schedules are searched for (default: {usual.search})"
    parser.add_argument("--search", choices=SEARCHES, default=usual.search, help=text)
    usually = "lookahead=null objective=best foresight=false"
    text = f"settings of the planner (default: {usually}, and {_PLANS} plans in a run)"
    parser.add_argument("--planner", nargs="+", default=[], metavar="NAME=VALUE", help=text)
    parser.add_argument("--workers", type=int, default=1, help="runs at a time; with more than one give --threads 1")
    parser.add_argument("--out", type=Path, help="directory for the results (default: runs/headroom-PRESET-TASK)")
    add_settings(parser, "bench", without=("stage0_seed", "data_seed", "self_learning", "guidance"))
    return parser


if __name__ == "__main__":
    exit_on_error(main)
