"""The plain pipeline does what the package does, counts are those of known layers, and the tables have their rows."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from experiments.measurements import growth, performance
from experiments.measurements.plain_pipeline import PlainPipeline, degrade_by_opencv
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
    plain = PlainPipeline(env, *decode_action(performance.ACTION))
    performance.check_same(env, plain)
    plain.round()
    assert set(plain.timings) == {"data", "teacher", "student", "perception", "backward", "update", "scoring"}


@pytest.mark.parametrize("fault", ["loss", "score"])
def test_another_result_is_refused(fault: str, env: FusionDistillEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = PlainPipeline(env, *decode_action(performance.ACTION))
    original: Callable[..., object] = getattr(plain, fault)

    def wrong(*args: object) -> object:
        result = original(*args)
        return {name: 1.1 * value for name, value in result.items()} if isinstance(result, dict) else 1.1 * result

    monkeypatch.setattr(plain, fault, wrong)
    with pytest.raises(FusionEnvError, match=r"is .*, in the plain pipeline .*: they do not do the same"):
        performance.check_same(env, plain)


def test_operands_are_counted_once() -> None:
    images, weight = torch.ones(2, 3, 8, 8), torch.ones(5, 3, 3, 3, requires_grad=True)
    with performance._Operands() as count:
        result = F.conv2d(images, weight, padding=1).relu()
    forward = images.nbytes + weight.nbytes + result.nbytes
    assert count.bytes == forward
    with performance._Operands() as count:
        torch.ones(4, 6) @ torch.ones(6, 2)
    assert count.bytes == 4 * (24 + 12 + 8)


def test_the_order_of_growth_is_told() -> None:
    values = (2, 4, 8)
    costs = [growth.Cost(value, value**1.5, 7.0) for value in values]
    for on_cuda, order in ((False, "1.50"), (True, "1.00")):
        lines = growth.table("mini-batch", values, costs, on_cuda=on_cuda).splitlines()
        assert [line.split(" | ")[3] for line in lines[4:]] == ["", order, order]


@pytest.mark.parametrize("row", performance.ROWS.values(), ids=performance.ROWS)
def test_every_row_has_as_many_images_as_it_scores(row: performance.Row) -> None:
    config = row.config(device="cpu")
    assert len(make_splits(open_pairs(config), config.data_seed).reward) >= (config.score_images or 1)


@pytest.mark.slow
def test_tables(capsys: pytest.CaptureFixture) -> None:
    assert performance.main(["--rows", "tiny", "--rounds", "1", "--threads", "1", "--only-rounds"]) == 0
    assert growth.main(["--quick", "--axes", "mini-batch"]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row[1] for row in rows if row[0] == "| tiny"] == ["ours", "plain", "floor: multiplications", "floor: bytes"]
    assert all(float(row[2]) > 0 and math.isfinite(float(row[2])) for row in rows if row[0] == "| tiny")
    assert len(rows) == 1 + 4 + 1 + 3
