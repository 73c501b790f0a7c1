"""The plain pipeline does what the package does, counts are those of known layers, and the tables have their rows."""

import math
import os
import re
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from experiments.measurements import growth, inference_speed, performance, rounds
from experiments.measurements.kernels import kernel_table, kernels
from experiments.measurements.plain_pipeline import PlainPipeline, degrade_by_opencv
from experiments.measurements.targets import TARGETS, targets_table
from fusion_env.action import decode_action
from fusion_env.config import preset
from fusion_env.data import make_splits
from fusion_env.degradation import Degradation, degrade, draw_noise
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import FusionEnvError
from fusion_env.task import open_pairs


@pytest.mark.parametrize(
    "degradation",
    [Degradation(), Degradation(7), Degradation(brightness=0.4, contrast=0.3, noise_std=0.05), Degradation(5, 40, 0.2)],
)
def test_opencv_degrades_alike(degradation: Degradation) -> None:
    draws = torch.Generator().manual_seed(1)
    images = torch.rand(2, 1, 32, 40, generator=draws)
    noise = draw_noise(images.shape, draws)
    expected = degrade(images, degradation, noise)
    for number in range(2):
        got = degrade_by_opencv(
            images[number, 0].numpy(),
            degradation,
            brightness=float(noise.brightness[number]),
            contrast=float(noise.contrast[number]),
            noise=noise.noise[number, 0].numpy(),
        )
        assert got.dtype == np.float32
        difference = np.abs(got - expected[number, 0].numpy())
        assert (difference > 2e-6).mean() < 0.01  # a level may be rounded the other way


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> FusionDistillEnv:
    folder = str(tmp_path_factory.mktemp("cache"))
    env = FusionDistillEnv(config=preset("tiny", stage0_rounds=0, score_crops=2, cache_dir=folder, threads=1))
    env.reset(seed=0)
    return env


def test_the_plain_pipeline_has_the_same_loss_and_scores(env: FusionDistillEnv) -> None:
    plain = PlainPipeline(env, *decode_action(rounds.ACTION))
    rounds.check_same(env, plain)
    plain.round()
    assert set(plain.timings) == {"data", "teacher", "student", "perception", "backward", "update", "scoring"}


@pytest.mark.parametrize("fault", ["loss", "score"])
def test_another_result_is_refused(fault: str, env: FusionDistillEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = PlainPipeline(env, *decode_action(rounds.ACTION))
    original: Callable[..., object] = getattr(plain, fault)

    def wrong(*args: object, **images: object) -> object:
        result = original(*args, **images)
        return {name: 1.1 * value for name, value in result.items()} if isinstance(result, dict) else 1.1 * result

    monkeypatch.setattr(plain, fault, wrong)
    with pytest.raises(FusionEnvError, match=r"is .*, in the plain pipeline .*: they do not do the same"):
        rounds.check_same(env, plain)


def test_operands_are_counted_once() -> None:
    images, weight = torch.ones(2, 3, 8, 8), torch.ones(5, 3, 3, 3, requires_grad=True)
    with rounds._Operands() as count:
        result = F.conv2d(images, weight, padding=1).relu()
    forward = images.nbytes + weight.nbytes + result.nbytes
    assert count.bytes == forward
    with rounds._Operands() as count:
        torch.ones(4, 6) @ torch.ones(6, 2)
    assert count.bytes == 4 * (24 + 12 + 8)


def test_the_order_of_growth_is_told() -> None:
    values = (2, 4, 8)
    costs = [growth.Cost(value, value**1.5, 7.0) for value in values]
    for on_cuda, order in ((False, "1.50"), (True, "1.00")):
        lines = growth.table("mini-batch", values, costs, on_cuda=on_cuda).splitlines()
        assert [line.split(" | ")[3] for line in lines[4:]] == ["", order, order]


@pytest.mark.parametrize("row", rounds.ROWS.values(), ids=rounds.ROWS)
def test_every_row_has_as_many_images_as_it_scores(row: rounds.Row) -> None:
    config = row.config(device="cpu")
    assert len(make_splits(open_pairs(config), config.data_seed).reward) >= (config.score_images or 1)


def test_targets_are_told_beside_what_was_measured() -> None:
    lines = targets_table({"student: ms": 2.5, "demo: plain / ours": 9.0}).splitlines()
    assert "| student: ms | at most 3 | 2.5 | yes |" in lines
    assert "| demo: plain / ours | at least 10 | 9 | no |" in lines
    assert sum("not measured" in line for line in lines) == len(TARGETS) - 2


def test_the_most_expensive_kernel_comes_first() -> None:
    images, weight = torch.rand(1, 8, 64, 64), torch.rand(8, 8, 7, 7)
    found = kernels(lambda: F.conv2d(images, weight).relu(), torch.device("cpu"))
    assert "conv" in found[0].name
    assert sum(kernel.share for kernel in found) == pytest.approx(1)
    assert kernel_table(found).splitlines()[2].startswith(f"| {found[0].name} | {found[0].calls} |")


def test_a_part_that_fails_is_told_and_the_others_go_on(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = rounds.Measured([["demo", "ours", *rounds.COLUMNS]], {"demo: round, ms": 3.0})

    def measure(name: str, *args: object, **kwargs: object) -> rounds.Measured:
        if name == "tiny":
            raise RuntimeError("no such luck")
        return done

    monkeypatch.setattr(rounds, "measure", measure)
    monkeypatch.setattr(performance, "_print_machine", lambda *args: None)
    assert performance.main(["--rows", "tiny", "demo", "--sections", "rounds", "--targets", "--threads", "1"]) == 1
    told = capsys.readouterr().out
    assert "RuntimeError: no such luck" in told
    assert "Failed, see above: tiny." in told
    assert "| demo: round, ms | at most 10 | 3 | yes |" in told
    assert performance.main(["--rows", "demo", "--sections", "rounds", "--minutes", "-1", "--threads", "1"]) == 0
    assert "Not begun within -1 minutes, so not measured: demo." in capsys.readouterr().out


def die(axis: str, device: str, value: int) -> growth.Cost:
    """Stand for a row for which there is not enough memory."""
    os._exit(1)


@pytest.mark.slow
def test_a_row_whose_process_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "_measure", die)
    with pytest.raises(BrokenProcessPool):
        growth.measure("mini-batch", "cpu", [2])


@pytest.mark.slow
def test_all_that_a_gpu_is_measured_for(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole run on a CPU, at sizes that take no time; the numbers mean nothing."""
    monkeypatch.setattr(rounds, "ROWS", {"tiny": rounds.Row("tiny", {"capture": "on"})})
    monkeypatch.setattr(inference_speed.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(growth.AXES, "mini-batch", growth.AXES["mini-batch"]._replace(quick=(2, 4)))
    command = "--quick --rows tiny --rounds 1 --threads 1 --size 64x64 --students 2 --students-row tiny --targets"
    command += " --axes mini-batch --sections rounds images students growth"
    assert performance.main(command.split()) == 0
    told = capsys.readouterr().out
    for heading in ("tiny: kernels of a round", "64x64", "the student's kernels", "2 students", "Growth: mini-batch"):
        assert heading in told
    assert "an iteration of 2 students" in told
    targets = dict(re.findall(r"^\| ([^|]*) \| at \w+ \S+ \| (\S+) ", told, re.M))
    assert float(targets["students: rounds/s : SubprocVecEnv"]) > 0
    assert 0 < float(targets["student: longest kernel, share"]) < 1
    assert float(targets["growth with crops: order"]) < 2


@pytest.mark.slow
def test_tables(capsys: pytest.CaptureFixture) -> None:
    assert performance.main(["--rows", "tiny", "--rounds", "1", "--threads", "1", "--sections", "rounds"]) == 0
    assert growth.main(["--quick", "--axes", "mini-batch"]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    ways = ["ours", "plain", "floor: multiplications", "floor: bytes"]
    assert [row[1] for row in rows if row[0] == "| tiny"] == 2 * ways
    assert all(float(row[2]) > 0 and math.isfinite(float(row[2])) for row in rows if row[0] == "| tiny")
    assert len(rows) == 2 * (1 + 4) + 1 + 3  # each row at once, and all of them at the end
