"""The figures: what they show, and what they ask for."""

from pathlib import Path

import pytest
import torch

from experiments.measurements import network_cost
from experiments.output import write_text
from experiments.paper import figure3, figure5, table1
from experiments.paper.ablation_variants import RUNS
from experiments.paper.methods import ordered_methods
from experiments.paper.order import Order
from experiments.paper.pair_sets import PairSet
from experiments.reproduce import main
from experiments.running.directory import RunDirectory
from fusion_env.action import STRENGTHS
from fusion_env.data import ProceduralScenes
from fusion_env.errors import MissingRequirementsError
from student.embedded import load_embedded
from student.weights import save_state


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> PairSet:
    """One small scene is all there is."""
    monkeypatch.delenv("FUSION_ENV_WEIGHTS", raising=False)
    one = PairSet("scene", ProceduralScenes(1, 64, 80), (0,))
    for module in (table1, figure3, figure5):
        monkeypatch.setattr(module, "ordered_sets", lambda order: [one])
    return one


def test_the_figures_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for number in (1, 3, 4):
        assert main(["--figure", str(number), "--threads", "1", "--device", "cpu", "--out", str(tmp_path)]) == 0
        page = tmp_path / f"figure{number}" / f"figure{number}.md"
        assert page.with_suffix(".png").stat().st_size > 10_000
        assert f"python experiments/reproduce.py --figure {number}" in page.read_text()
        told = capsys.readouterr().out
        assert str(page) in told
        assert ("1 of 1 pieces of work are done already" in told) == (number == 4)  # by figure 1


def test_degradations_at_both_ends_of_their_range(few: PairSet) -> None:
    pair = few.pair(0)
    brightness = next(strength for strength in STRENGTHS if strength.name == "brightness")
    untouched, same = figure3.degraded(pair, brightness, 0.0)
    assert torch.equal(untouched, pair.ir[None].float() / 255)
    darker, brighter = figure3.degraded(pair, brightness, 1.0)
    torch.testing.assert_close(darker, untouched * (1 - brightness.most))
    torch.testing.assert_close(brighter, (same * (1 + brightness.most)).clamp(0, 1))


def test_figure_5_shows_the_first_finished_run_of_each_variant(tmp_path: Path) -> None:
    order = Order(tmp_path, device="cpu")
    with pytest.raises(MissingRequirementsError, match=r"reproduce\.py --table 4"):
        figure5.make(order)
    for name in ("full/seed0", "full/seed1", "full/seed2", "without-gap/seed0"):
        run = RunDirectory(tmp_path / "table4" / RUNS / name)
        run.path.mkdir(parents=True)
        run.config_file.write_text("{}")
        if name != "full/seed0":
            run.summary.write({})
            save_state(load_embedded(), run.student)
    found = figure5.variants(tmp_path / "table4")
    assert list(found) == ["without-gap", "full"]  # as in the table
    assert {name: run.path.name for name, run in found.items()} == {"without-gap": "seed0", "full": "seed1"}
    page = figure5.make(order)
    assert f"table4/{RUNS}/full/seed1" in page.read_text()
    assert "no finished run of them yet: without-self-learning, without-iqa" in page.read_text()
    assert page.with_suffix(".png").exists()


def test_table_3_is_the_cost_of_the_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def write(arguments: list[str]) -> None:
        asked.append(arguments)
        write_text(Path(arguments[-1]) / "efficiency.md", "a page")

    monkeypatch.setattr(network_cost, "main", write)
    assert main(["--table", "3", "--preset", "paper", "--threads", "1", "--out", str(tmp_path)]) == 0
    assert asked[0][1:4] == ["1024x768", "640x480", "620x448"]


def test_the_preset_paper_wants_its_teacher(tmp_path: Path) -> None:
    with pytest.raises(MissingRequirementsError, match="LDFusion|ldfusion"):
        ordered_methods(Order(tmp_path, preset="paper"))
