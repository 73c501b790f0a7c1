"""The command for the paper's tables and figures: each has a module, and takes the options that concern it."""

import os
import signal
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

from experiments.paper.order import Order
from experiments.reproduce import MODULES, main
from fusion_env.errors import ConfigError


@pytest.mark.parametrize("name", MODULES.values())
def test_every_table_and_figure_has_a_module_that_makes_it(name: str) -> None:
    make = import_module(f"experiments.paper.{name}").make
    assert [parameter.annotation for parameter in signature(make).parameters.values()] == [Order]
    assert signature(make).return_annotation is Path


def test_an_option_that_does_not_concern_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--seeds does not concern figure 4"):
        main(["--figure", "4", "--seeds", "1", "--out", str(tmp_path)])
    with pytest.raises(ConfigError, match="--data-root does not concern table 3"):
        main(["--table", "3", "--data-root", "DATA", "--out", str(tmp_path)])


def test_who_stops_it_is_told_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def make(order: Order) -> Path:
        os.kill(os.getpid(), signal.SIGINT)
        return order.out

    monkeypatch.setattr("experiments.paper.figure3.make", make)
    assert main(["--figure", "3", "--out", str(tmp_path)]) == 130
    assert "stopped; the same command goes on where it was: " in capsys.readouterr().out
