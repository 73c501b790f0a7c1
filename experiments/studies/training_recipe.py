"""Compare each choice of the training recipe with its alternatives, one at a time.

python experiments/studies/training_recipe.py --out runs/training-recipe

Every recipe trains under the same curricula, which are guidance weights over the rounds at half of every degradation's
strength; a recipe that changes stage 0 has a stage 0 of its own. A seed is that of the order of the crops and of the
degradations. Scored are the last students on the report split. Finished runs stay in the raw table, so that a study
that was cut off goes on where it was.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.benchmarking.uncertainty import Estimate, interval
from experiments.command_line import add_settings, exit_on_error, given_settings, make_parser, progress_bar
from experiments.output import markdown_table, write_csv, write_text
from fusion_env.action import LossWeights, even_degradation
from fusion_env.config import DistillConfig, preset
from fusion_env.errors import ConfigError
from fusion_env.task import DistillationTask, build_task

__all__ = ["CURRICULA", "RECIPES", "main", "train_under"]

DEFAULT = "as shipped"
RECIPES: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "update=sum": {"update": "sum"},
    "detach_original=False": {"detach_original": False},
    "moments=fresh": {"moments": "fresh"},
    "schedule=linear": {"schedule": "linear"},
    "schedule=constant": {"schedule": "constant"},
    "loss_scale=stage0": {"loss_scale": "stage0"},
    "loss_scale=none": {"loss_scale": "none"},
}
"""The choices that ship, and what is changed of them."""

CURRICULA: dict[str, tuple[float, float]] = {
    "guidance only": (1.0, 1.0),
    "0.5": (0.5, 0.5),
    "falling": (0.95, 0.05),
    "rising": (0.05, 0.95),
}
"""Guidance weight in the first and the last round; in between it changes evenly."""

SETTINGS: dict[str, Any] = {
    "student_init": "prune",
    "stage0_rounds": 250,
    "batch_size": 4,
    "crop_size": 48,
    "learning_rate": 0.0005,
    "rounds": 15,
    "threads": 1,
}
"""What differs from the preset demo: a start that is trained here, and mini-batches for one core."""

OUTCOMES = {"e": 3, "vif": 3, "mae": 4}
"""What is compared, of the report split, and its decimals."""

MEANINGS = {
    "e": "E of the report split",
    "vif": "VIF of the report split",
    "mae": "mean absolute difference to the teacher's images",
    "share": "guidance loss's share of the two gradient norms, mean over the rounds",
    "update_norm": "norm of the change of all weights in a round, mean over the last five",
}
STRENGTH = 0.5
LAST_ROUNDS = 5
Row = dict[str, Any]


def train_under(task: DistillationTask, weights: NDArray[np.float64], seed: int) -> Row:
    """Train for one run with these guidance weights, one for each round, and score the last student.

    Returns:
        The columns of `MEANINGS`; `start_e`, the stage-0 student's E; whether training `diverged`.
    """
    engine = task.new_engine(seed, seed)
    start_e = task.report.score(engine.student)["e"]
    results = []
    for weight in weights.tolist():
        results.append(engine.run_round(LossWeights(weight, 1 - weight), even_degradation(STRENGTH)))
        if results[-1].diverged:
            break
    report = task.report.score(engine.student)
    return {
        **{name: report[name] for name in OUTCOMES},
        "share": float(np.mean([result.guidance_share for result in results])),
        "update_norm": float(np.mean([result.update_norm for result in results[-LAST_ROUNDS:]])),
        "start_e": start_e,
        "diverged": results[-1].diverged,
    }


def _train(config: DistillConfig, recipe: str, curriculum: str, seed: int) -> Row:
    task = build_task(config.replace(**RECIPES[recipe]), progress_bar)
    weights = np.linspace(*CURRICULA[curriculum], config.rounds)
    return {"recipe": recipe, "curriculum": curriculum, "seed": seed, **train_under(task, weights, seed)}


def _read(path: Path, config: DistillConfig) -> list[Row]:
    """Read the runs that are done.

    Raises:
        ConfigError: They were made with other settings.
    """
    settings = path.with_name("config.json")
    if not path.exists():
        write_text(settings, json.dumps(config.to_dict(), indent=2) + "\n")
        return []
    if DistillConfig.from_dict(json.loads(settings.read_text(encoding="utf-8"))) != config:
        raise ConfigError(f"{path} was made with other settings, see {settings}: use another --out")
    return pd.read_csv(path, dtype={"curriculum": str}).to_dict("records")  # one of them looks like a number


def _difference(rows: pd.DataFrame, recipe: str, curricula: Sequence[str], outcome: str) -> Estimate:
    """Estimate how much higher an outcome is than with the recipe that ships, paired by seed."""
    table = rows.pivot_table(index=["curriculum", "seed"], columns="recipe", values=outcome)
    changes = table[recipe] - table[DEFAULT]
    strata = [changes.loc[curriculum].to_numpy() for curriculum in curricula]
    return interval(lambda drawn: float(np.mean([stratum.mean() for stratum in drawn])), strata)


def _page(rows: pd.DataFrame, recipes: Sequence[str], curricula: Sequence[str]) -> str:
    ours = rows[rows["recipe"] == DEFAULT].groupby("curriculum")
    decimals = OUTCOMES | {"share": 2, "update_norm": 3}
    lines = [
        [name, *(f"{ours.get_group(name)[column].mean():.{digits}f}" for column, digits in decimals.items())]
        for name in curricula
    ]
    start = rows[rows["recipe"] == DEFAULT]["start_e"].mean()
    parts = [
        f"The recipe that ships, mean over {rows['seed'].nunique()} seeds; its stage 0 has E {start:.3f}.",
        markdown_table(["guidance weight", *decimals], lines, right_from=1),
    ]
    columns: Mapping[str, Sequence[str]] = {name: [name] for name in curricula} | {"all": curricula}
    for outcome, digits in OUTCOMES.items():
        cells = [
            [recipe, *(f"{_difference(rows, recipe, names, outcome):+.{digits}f}" for names in columns.values())]
            for recipe in recipes
            if recipe != DEFAULT
        ]
        parts += [f"Change of {MEANINGS[outcome]}.", markdown_table(["instead", *columns], cells, right_from=1)]
    for column in ("update_norm", "share"):
        table = rows.pivot_table(index="recipe", columns="curriculum", values=column)
        table = table.loc[list(recipes), list(curricula)]
        cells = [[recipe, *values] for recipe, *values in table.itertuples()]
        text = markdown_table(["recipe", *curricula], cells, decimals=decimals[column], right_from=1)
        parts += [f"{MEANINGS[column].capitalize()}.", text]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the runs")
    parser.add_argument("--out", type=Path, default=Path("runs/training-recipe"), help="directory for the results")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES, help="default: all")
    parser.add_argument("--curricula", nargs="+", default=list(CURRICULA), choices=CURRICULA, help="default: all")
    add_settings(parser, "demo", without={name for changes in RECIPES.values() for name in changes})
    args = parser.parse_args(arguments)
    config = preset("demo", **SETTINGS | given_settings(args))
    raw = args.out / "training_recipe.csv"
    recipes = list(dict.fromkeys([DEFAULT, *args.recipes]))
    wanted = list(itertools.product(args.seeds, recipes, args.curricula))
    known = {(row["seed"], row["recipe"], row["curriculum"]): row for row in _read(raw, config)}
    for seed, recipe, curriculum in progress_bar([run for run in wanted if run not in known], "runs"):
        known[seed, recipe, curriculum] = _train(config, recipe, curriculum, seed)
        write_csv(raw, list(known.values()))
    page = _page(pd.DataFrame([known[run] for run in wanted]), recipes, args.curricula)
    write_text(args.out / "training_recipe.md", page)
    print(f"{page}\nWritten to {args.out}")
    return 0


if __name__ == "__main__":
    exit_on_error(main)
