from math import log, sqrt

import numpy as np
import pytest
import torch

from fusion_env import metrics
from fusion_env.errors import UnknownNameError
from fusion_env.metrics import vifb

NAMES = ("ag", "ei", "sf", "sd", "en", "mi", "qabf", "ssim")


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_has_the_metrics_that_it_publishes():
    assert set(vifb.METRICS) == set(NAMES)


@pytest.mark.parametrize("name", ["ei", "sd", "en", "qabf", "ssim"])
def test_mean_of_the_planes(name):
    fused, vis, ir = noise(0, 2, 3, 20, 24), noise(1, 2, 3, 20, 24), noise(2, 2, 1, 20, 24)
    value = metrics.compute([name], fused, ir=ir, vis=vis, convention="vifb")[name]
    planes = [metrics.get(name)(fused[:, i : i + 1], ir=ir, vis=vis[:, i : i + 1]) for i in range(3)]
    torch.testing.assert_close(value, torch.stack(planes).mean(dim=0))


def test_mi_in_nats():
    fused, vis, ir = noise(0, 1, 1, 20, 24), noise(1, 1, 1, 20, 24), noise(2, 1, 1, 20, 24)
    value = metrics.compute(["mi"], fused, ir=ir, vis=vis, convention="vifb")["mi"]
    assert value.item() == pytest.approx(metrics.mi(fused, ir=ir, vis=vis).item() * log(2), rel=1e-6)


def test_ag_divides_by_fewer_pixels():
    fused = noise(3, 1, 1, 4, 5)
    value = metrics.compute(["ag"], fused, convention="vifb")["ag"]
    assert value.item() == pytest.approx(metrics.ag(fused).item() * 20 / 12, rel=1e-6)


def test_sf_lays_the_planes_side_by_side():
    fused = noise(4, 2, 3, 5, 6)
    value = metrics.compute(["sf"], fused, convention="vifb")["sf"]
    for image, own in zip(fused.double().numpy(), value.tolist(), strict=True):
        wide = np.hstack(list(image))
        total = (np.diff(wide, axis=0) ** 2).sum() + (np.diff(wide, axis=1) ** 2).sum()
        assert own == pytest.approx(sqrt(total / wide.size), rel=1e-6)


def test_keeps_names_and_order_and_dtype():
    fused = noise(5, 1, 3, 12, 12).double() / 255
    values = metrics.compute(["sf", "en", "ag"], fused, convention="vifb")
    assert list(values) == ["sf", "en", "ag"]
    assert all(value.dtype == torch.float64 for value in values.values())


def test_refuses_what_it_does_not_have():
    fused = noise(6, 1, 3, 50, 50)
    with pytest.raises(UnknownNameError, match="unknown metric of the VIFB convention 'viff'"):
        metrics.compute(["viff"], fused, convention="vifb")
    with pytest.raises(ValueError, match=r"vis must be \[B, 3, H, W\].*Got shape \[1, 2, 50, 50\]"):
        metrics.compute(["mi"], fused, ir=fused, vis=fused[:, :2], convention="vifb")
    with pytest.raises(ValueError, match="mi need the source images. Got no ir and vis"):
        metrics.compute(["mi"], fused, convention="vifb")
