"""The figures: what they show, and what they ask for."""

import signal
from pathlib import Path

import pytest
import torch

from experiments.measurements import network_cost
from experiments.paper import figure3, figure5, table1, table3
from experiments.paper.ablation_variants import RUNS
from experiments.paper.methods import ordered_methods
from experiments.paper.order import Order
from experiments.paper.pair_sets import PairSet
from experiments.reproduce import main
from experiments.running.directory import RunDirectory
from fusion_env.action import STRENGTHS
from fusion_env.data import ProceduralScenes
from fusion_env.errors import MissingRequirementsError
from student.origin import open_student
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
            save_state(open_student(None)[0].state_dict(), run.student)
    found = figure5.variants(tmp_path / "table4")
    assert list(found) == ["without-gap", "full"]  # as in the table
    assert {name: run.path.name for name, run in found.items()} == {"without-gap": "seed0", "full": "seed1"}
    page = figure5.make(order)
    assert f"table4/{RUNS}/full/seed1" in page.read_text()
    assert "no finished run of them yet: without-self-learning, without-iqa" in page.read_text()
    assert page.with_suffix(".png").exists()


def test_table_3_goes_on_with_the_sizes_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    few = {name: network_cost.NETWORKS[name] for name in ("student", "ldfusion")}
    monkeypatch.setattr(network_cost, "NETWORKS", few)
    monkeypatch.setattr(table3, "_SIZES", {"demo": ("64x64", "96x64")})
    measured: list[str] = []
    measure = network_cost.measure

    def once(networks: dict, costs: dict, size: str, **settings: object) -> None:
        measured.append(size)
        if measured == ["64x64", "96x64"]:
            signal.raise_signal(signal.SIGINT)
        measure(networks, costs, size, **settings)

    monkeypatch.setattr(network_cost, "measure", once)
    command = ["--table", "3", "--threads", "1", "--out", str(tmp_path)]
    assert main(command) == 130
    assert "the same command goes on where it was" in capsys.readouterr().out
    assert main(command) == 0
    assert measured == ["64x64", "96x64", "96x64"]
    page = (tmp_path / "table3" / "efficiency.md").read_text()
    (student,) = (line.split(" | ") for line in page.splitlines() if line.startswith("| student "))
    header = next(line.split(" | ") for line in page.splitlines() if line.startswith("| network"))
    cells = dict(zip(header, student, strict=True))
    assert all(float(cells[f"{size} ms"]) > 0 and float(cells[f"{size} / ldfusion"]) > 0 for size in ("64x64", "96x64"))


def test_the_preset_paper_wants_its_teacher(tmp_path: Path) -> None:
    with pytest.raises(MissingRequirementsError, match="LDFusion|ldfusion"):
        ordered_methods(Order(tmp_path, preset="paper"))
