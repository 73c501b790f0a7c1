import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from experiments.measurements.network_cost import NETWORKS, Cost, LiveTensors, count_cost, main, measure, rows


class Pair(nn.Module):
    """A convolution and a transposed one of known cost."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(4, 8, 4, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1)

    def forward(self, ir: torch.Tensor, vis: torch.Tensor) -> torch.Tensor:
        return self.up(self.down(torch.cat([ir, vis], dim=1)))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_counts_by_hand(device: str) -> None:
    cost = count_cost(Pair().to(device))
    assert cost.params == cost.thop_params == 4 * 8 * 16 + 8 + 8 * 16 + 1
    down, up = 112 * 112 * 8 * 4 * 16, 112 * 112 * 8 * 16
    assert cost.multiply_adds == down + up
    assert cost.thop == down + 4 * up  # the known excess for transposed convolutions of stride 2


@pytest.mark.parametrize(
    ("name", "params_m", "giga"),
    [("student", 0.652385, 2.7064), ("ldfusion", 5.776977, 13.0881), ("text_if", 63.839230, 247.7696)],
)
def test_published_figures(name: str, params_m: float, giga: float) -> None:
    cost = count_cost(NETWORKS[name].build().to("meta"))
    assert cost.params / 1e6 == pytest.approx(params_m, abs=1e-6)
    assert cost.thop / 1e9 == pytest.approx(giga, abs=5e-5)


def test_live_tensors_by_hand() -> None:
    given = torch.zeros(1000)
    with LiveTensors() as live:
        first = given + 1
        view = first.view(10, 100)
        second = view * 2
        del first, view
        second += 1
        third = second.flatten() + given
        given += third
    assert live.peak == 2 * 4000
    del second, third
    assert live.current == 0


def test_out_of_memory_is_said_and_the_others_go_on() -> None:
    class Hungry(nn.Module):
        def forward(self, ir: torch.Tensor, vis: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("tried to allocate 1 TB")

    networks = {"student": Hungry(), "ldfusion": Pair()}
    costs = {name: Cost(1, 1, 1, 1) for name in networks}
    measure(networks, costs, "64x64", repeats=1, device=torch.device("cpu"), progress=lambda names: names)
    table = rows(costs, ["64x64"])
    assert table[0]["64x64 ms"] == "out of memory"
    assert table[0]["64x64 / ldfusion"] == ""
    assert float(table[1]["64x64 ms"]) > 0
    assert table[1]["64x64 / ldfusion"] == "1.000"


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    main(["--networks", "sage", "student", "ldfusion", "--sizes", "96x64", "--repeats", "1", "--out", str(tmp_path)])
    with (tmp_path / "efficiency.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["network"] for row in table] == ["sage", "student", "ldfusion"]
    assert table[2]["96x64 / ldfusion"] == "1.000"
    assert all(float(row["96x64 ms"]) > 0 and int(row["96x64 MiB"]) > 0 for row in table)
    assert (tmp_path / "efficiency.png").stat().st_size > 1000
    shown = capsys.readouterr().out
    assert (tmp_path / "efficiency.md").read_text().split("\n\n")[1].strip() in shown


@pytest.mark.parametrize(
    "arguments", [["--sizes", "60x80"], ["--sizes", "640"], ["--repeats", "0"], ["--networks", "x"]]
)
def test_misuse(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
