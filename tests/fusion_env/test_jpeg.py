"""JPEG on the device against the real codec."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_env.data import ProceduralScenes, luma_levels
from fusion_env.jpeg import jpeg_by_codec, jpeg_on_device, quantisation_table


@pytest.mark.parametrize("quality", [1, 20, 75, 99])
def test_the_codec_is_opencvs(quality: int) -> None:
    images = torch.rand(2, 1, 41, 30, generator=torch.Generator().manual_seed(0))
    for got, image in zip(jpeg_by_codec(images, quality)[:, 0], images[:, 0], strict=True):
        levels = np.floor(image.numpy() * 255 + 0.5).astype(np.uint8)
        _, code = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        np.testing.assert_array_equal(np.rint(got.numpy() * 255), cv2.imdecode(code, cv2.IMREAD_GRAYSCALE))


@settings(deadline=None, max_examples=40)
@given(quality=st.integers(1, 100), height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99))
def test_any_image_at_any_quality_gives_the_codecs_levels(quality: int, height: int, width: int, seed: int) -> None:
    images = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(jpeg_on_device(images, quality), jpeg_by_codec(images, quality))


@pytest.mark.parametrize("quality", [20, 50, 95])
def test_scenes_give_the_codecs_levels_on_every_device(device: str, quality: int) -> None:
    scene = ProceduralScenes(1, 96, 121, seed=5).load(0)
    images = torch.stack([scene.ir, luma_levels(scene.vis)]).float() / 255
    decoded = jpeg_on_device(images.to(device), quality)
    assert decoded.device.type == device
    assert torch.equal(decoded.cpu(), jpeg_by_codec(images, quality))


def test_extreme_and_flat_images() -> None:
    checkerboard = (torch.arange(24).view(-1, 1) + torch.arange(24)) % 2
    images = torch.stack([checkerboard, 1 - checkerboard, torch.zeros(24, 24), torch.ones(24, 24)]).unsqueeze(1).float()
    for quality in (1, 30, 80, 100):
        assert torch.equal(jpeg_on_device(images, quality), jpeg_by_codec(images, quality))


def test_tables_by_quality() -> None:
    assert quantisation_table(50)[0].tolist() == [16, 11, 10, 16, 24, 40, 51, 61]
    assert quantisation_table(1).unique().tolist() == [255]
    assert quantisation_table(100).unique().tolist() == [1]


def test_other_dtypes_keep_theirs() -> None:
    images = torch.rand(1, 1, 16, 16, dtype=torch.float64)
    assert jpeg_on_device(images, 60).dtype == jpeg_by_codec(images, 60).dtype == torch.float64
