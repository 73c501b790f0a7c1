"""Table 4: which runs there are, and the arithmetic of their numbers."""

import csv
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from experiments.ablation import main
from experiments.benchmarking.grid import Grid
from experiments.benchmarking.uncertainty import interval
from experiments.paper import ablation as tables
from experiments.paper import ablation_page as pages
from experiments.paper import figure5
from experiments.paper.ablation import make
from experiments.paper.ablation_page import COLUMNS, ablation_page, averaged, differences, sign_flip_probability
from experiments.paper.ablation_variants import EQUATION_6, FULL, TEACHER, VARIANTS, check_grid, variant_cells
from experiments.paper.ledger import Ledger, Piece
from experiments.paper.order import Order
from experiments.paper.table1 import METRICS
from fusion_env.errors import ConfigError, MissingRequirementsError

ACTION = [0.0, 0.0, -1.0, -1.0, -1.0, -1.0, 1.0]


def grid(**changes: object) -> Grid:
    return Grid(
        **{
            "protocol": "online",
            "policies": ("reinforce",),
            "seeds": (0, 1, 2),
            "stage0_seeds": (0, 1, 2),
            "preset": "tiny",
            "settings": EQUATION_6 | {"threads": 1},
        }
        | changes
    )


def row(variant: str, seed: int, of: str, value: float) -> dict:
    labels = {"variant": variant} if variant == TEACHER else {"variant": variant, "seed": seed, "stage0_seed": seed}
    return {**labels, "set": of, **dict.fromkeys(COLUMNS, value)}


def test_each_row_differs_in_what_it_leaves_out_and_in_nothing_else(tmp_path: Path) -> None:
    cells = variant_cells(grid(), ACTION, tmp_path)
    assert len(cells) == len(VARIANTS) * 3
    full = {cell.seed: cell.job.config for name, cell in cells if name == FULL}
    for name, cell in cells:
        config, whole = cell.job.config, full[cell.seed]
        changed = {key: value for key, value in vars(config.env).items() if getattr(whole.env, key) != value}
        assert changed == dict(VARIANTS[name].settings)
        assert (config.total_rounds, config.seed) == (whole.total_rounds, whole.seed)
        assert config.env.stage0_seed == cell.seed
        assert (config.agent == "constant") == VARIANTS[name].fixed
    assert len({cell.job.run_dir for _, cell in cells}) == len(cells)


def test_the_fixed_row_plays_the_action_that_was_found(tmp_path: Path) -> None:
    fixed = [cell.job.config for name, cell in variant_cells(grid(), ACTION, tmp_path) if VARIANTS[name].fixed]
    assert [config.agent_settings["action"] for config in fixed] == [ACTION] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policies": ("ppo", "constant")}, "one agent"),
        ({"data": ("a", "b")}, "one data set"),
        ({"settings": EQUATION_6 | {"observation": "rich"}}, "observation must be 'vector'"),
        ({"settings": {"score_metrics": ["vif"]}}, "score_metrics must be"),
        ({"settings": EQUATION_6 | {"guidance": False}}, "guidance must be True"),
    ],
)
def test_what_a_row_is_to_be_without_must_be_there(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_grid(grid(**changes))


def test_sets_are_averaged_before_seeds_are_compared() -> None:
    rows = [row(FULL, 0, "a", 1.0), row(FULL, 0, "b", 3.0), row(FULL, 1, "a", 5.0), row(FULL, 1, "b", 5.0)]
    rows += [row("without-gap", 1, "a", 6.0), row("without-gap", 1, "b", 8.0), row("without-gap", 7, "a", 9.0)]
    assert averaged(rows, FULL, "ei") == {(0, 0): 2.0, (1, 1): 5.0}
    np.testing.assert_array_equal(differences(rows, "without-gap", "ei"), [2.0])  # the full method has no seed 7


def test_a_sign_counts_for_what_chance_makes_of_it() -> None:
    assert sign_flip_probability(np.array([0.1] * 5)) == 2 / 2**5
    assert sign_flip_probability(np.array([0.1] * 6)) == 2 / 2**6
    assert sign_flip_probability(np.array([1.0, -1.0])) == 1.0
    assert sign_flip_probability(np.array([1.0, -2.0, 4.0])) == 6 / 8  # sums of 7, 5, 3 and 1
    assert sign_flip_probability(np.linspace(0.5, 1, 20)) < 0.01


def test_every_metric_stands_under_its_own_title() -> None:
    assert {*METRICS} == {*COLUMNS} - {"e", "last_e"}
    assert [name.partition("_")[0].upper() for name in METRICS] == [COLUMNS[name] for name in METRICS]


def test_the_page_shows_every_row_and_the_papers_number_beside_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(name, seed, "a", seed + (name == "without-iqa")) for name in VARIANTS for seed in range(6)]
    rows.append({name: value for name, value in row(TEACHER, 0, "a", 0.5).items() if name not in ("e", "last_e")})
    monkeypatch.setattr(pages, "interval", partial(interval, resamples=20))
    monkeypatch.setattr(pages, "published", lambda table: {("average", FULL, "ei"): 44.25})
    page = ablation_page(rows, {"Task": "of a test"}, "command", 1.0)
    lines = page.splitlines()
    for variant in VARIANTS.values():
        assert sum(line.startswith(f"| {variant.title} |") for line in lines) == 2 - (variant is VARIANTS[FULL])
    full = next(line for line in lines if line.startswith("| full method"))
    assert re.search(r"\| 2\.500 \[[\d.]+, [\d.]+\] \(44\.250\) \|", full)
    assert "| **1.000 [1.000, 1.000]** |" in page  # without IQA*, with one sign in six seeds
    assert "not at hand" not in page


def test_the_papers_ablation_says_all_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUSION_ENV_WEIGHTS", raising=False)
    with pytest.raises(MissingRequirementsError, match=r"ldfusion.*M3FD.*--data-root"):
        make(Order(tmp_path, preset="paper", data_root=tmp_path))


def test_the_demo_is_a_grid_that_can_tell_from_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grids: list[Grid] = []
    monkeypatch.setattr(tables, "ablation", lambda grid, sets, out, **_: grids.append(grid) or out)
    assert make(Order(tmp_path)) == tmp_path / "table4"
    make(Order(tmp_path, seeds=(4, 5)))
    for grid in grids:
        check_grid(grid)
    assert len(grids[0].seeds) >= 6
    assert grids[1].seeds == grids[1].stage0_seeds == (4, 5)


def test_the_search_is_part_of_the_work_whose_time_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Exception):
        pass

    pieces: list[Piece] = []

    def stop(given: list[Piece], ledger: Ledger) -> None:
        pieces.extend(given)
        raise Stopped

    monkeypatch.setattr(tables, "work_through", stop)
    with pytest.raises(Stopped):
        tables.ablation(grid(), [], tmp_path, tried=4)
    assert not (tmp_path / "search").exists()
    expected = {f"{name}, seed {seed}, start {seed}": 1 for seed in range(3) for name in VARIANTS} | {TEACHER: 0.1}
    assert {piece.name: piece.size for piece in pieces} == expected | {"fixed-action, seed 0, start 0": 5}


@pytest.mark.slow
def test_the_command_runs_every_row_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (
        "--preset tiny --rounds 1 --seeds 0 --tried 1 --most 1 --test procedural procedural-fog --device cpu --out"
    )
    command = [*options.split(), str(tmp_path)]
    assert main(command) == 0
    page = (tmp_path / "table4.md").read_text()
    with (tmp_path / "raw.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == [name for name in VARIANTS for _ in range(2)]
    for name, variant in VARIANTS.items():
        shown = next(line for line in page.splitlines() if line.startswith(f"| {variant.title} |")).split(" | ")[1:]
        for text, metric in zip(shown, [name for name in COLUMNS if name in METRICS], strict=False):
            assert float(text) == pytest.approx(
                np.mean([float(row[metric]) for row in rows if row["variant"] == name]), abs=6e-4
            )
    capsys.readouterr()
    assert main(command) == 0
    assert f"{len(VARIANTS) + 1} of {len(VARIANTS) + 1} pieces of work are done" in capsys.readouterr().out
    assert (tmp_path / "table4.md").read_text() == page
    assert set(figure5.variants(tmp_path)) == set(VARIANTS)
