"""Degradations against OpenCV, hand-computed values, and the promise that strength 0 is the identity."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_env.degradation import (
    DEGRADATIONS,
    Degradation,
    DegradationNoise,
    DegradationTensors,
    degrade,
    degrade_by_tensors,
    draw_noise,
)
from fusion_env.jpeg import jpeg_by_codec

ALL_ON = Degradation(blur_kernel=5, jpeg_quality=60, brightness=0.3, contrast=0.4, noise_std=0.05)


def generator(seed: int = 0, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def smooth_images(batch: int, height: int, width: int) -> torch.Tensor:
    """Build band-limited images in 0..1: what a codec is made for."""
    coarse = torch.rand(batch, 1, height // 6, width // 6, generator=generator(7))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


def fixed_noise(images: torch.Tensor, brightness: float = 0.0, contrast: float = 0.0) -> DegradationNoise:
    batch = images.shape[0]
    factors = {"brightness": torch.full((batch,), brightness), "contrast": torch.full((batch,), contrast)}
    return dataclasses.replace(draw_noise(images.shape, generator()), **factors)


@pytest.mark.parametrize("kernel", [3, 5, 7, 9, 11, 13, 31])
def test_blur_equals_opencv(kernel: int) -> None:
    images = torch.rand(2, 1, 37, 52, generator=generator())
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    blurred = degrade(images, Degradation(blur_kernel=kernel), fixed_noise(images))
    for got, image in zip(blurred[:, 0], images[:, 0], strict=True):
        expected = cv2.GaussianBlur(image.numpy(), (kernel, kernel), sigma, borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)


def test_blur_keeps_a_flat_image_on_every_device(device: str) -> None:
    images = torch.full((1, 1, 20, 24), 0.625, device=device)
    noise = draw_noise(images.shape, generator(), device)
    torch.testing.assert_close(degrade(images, Degradation(blur_kernel=13), noise), images, atol=1e-6, rtol=0)


def test_blur_is_not_rounded_by_autocast(device: str) -> None:
    images = smooth_images(1, 24, 24).to(device)
    noise = draw_noise(images.shape, generator(), device)
    plain = degrade(images, Degradation(blur_kernel=5), noise)
    with torch.autocast(device, dtype=torch.bfloat16):
        assert torch.equal(degrade(images, Degradation(blur_kernel=5), noise), plain)


def test_brightness_multiplies_and_clamps() -> None:
    images = torch.tensor([0.2, 0.4, 0.8, 1.0]).view(1, 1, 2, 2)
    brighter = degrade(images, Degradation(brightness=0.5), fixed_noise(images, brightness=0.5))
    torch.testing.assert_close(brighter.flatten(), torch.tensor([0.25, 0.5, 1.0, 1.0]))


def test_contrast_stretches_about_the_mean_of_each_sample() -> None:
    images = torch.tensor([[0.2, 0.4], [0.5, 0.9]]).view(2, 1, 1, 2)
    result = degrade(images, Degradation(contrast=1.0), fixed_noise(images, contrast=-0.5))
    torch.testing.assert_close(result.view(2, 2), torch.tensor([[0.25, 0.35], [0.6, 0.8]]))


def test_noise_has_the_announced_deviation() -> None:
    images = torch.full((1, 1, 128, 128), 0.5)
    noise = draw_noise(images.shape, generator())
    residual = degrade(images, Degradation(noise_std=0.05), noise) - images
    torch.testing.assert_close(residual, 0.05 * noise.noise, atol=1e-6, rtol=0)
    assert residual.std().item() == pytest.approx(0.05, rel=0.03)


def test_jpeg_is_the_codec_on_every_device(device: str) -> None:
    images = smooth_images(2, 41, 30)
    noise = fixed_noise(images)
    result = degrade(images.to(device), Degradation(jpeg_quality=40), noise)
    assert torch.equal(result.cpu(), jpeg_by_codec(images, 40))


def test_identity_is_exact(device: str) -> None:
    images = torch.rand(3, 1, 9, 11, generator=generator()).to(device)
    noise = draw_noise(images.shape, generator(), device)
    assert Degradation().is_identity
    assert torch.equal(degrade(images, Degradation(), noise), images)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Degradation)])
def test_every_strength_changes_the_batch_and_switches_off_alone(field: str) -> None:
    images = smooth_images(2, 32, 32)
    noise = draw_noise(images.shape, generator())
    assert not ALL_ON.is_identity
    alone = dataclasses.replace(Degradation(), **{field: getattr(ALL_ON, field)})
    assert not torch.equal(degrade(images, alone, noise), images)
    without = dataclasses.replace(ALL_ON, **{field: getattr(Degradation(), field)})
    assert not torch.equal(degrade(images, without, noise), degrade(images, ALL_ON, noise))


def test_the_real_codec_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(2, 1, 24, 40, generator=torch.Generator().manual_seed(0))
    degradation, noise = Degradation(jpeg_quality=40, noise_std=0.1), draw_noise(images.shape, torch.Generator())
    expected = degrade(images, degradation, noise)
    operation = dataclasses.replace(DEGRADATIONS["jpeg_quality"], apply=lambda *_: pytest.fail("not the codec"))
    monkeypatch.setitem(DEGRADATIONS, "jpeg_quality", operation)
    assert torch.equal(degrade(images, degradation, noise, by_codec=True), expected)


def test_order_is_blur_brightness_contrast_noise_jpeg() -> None:
    images = smooth_images(2, 32, 32)
    noise = draw_noise(images.shape, generator(3))
    one_by_one = images
    for field in ("blur_kernel", "brightness", "contrast", "noise_std", "jpeg_quality"):
        one_by_one = degrade(one_by_one, dataclasses.replace(Degradation(), **{field: getattr(ALL_ON, field)}), noise)
    assert torch.equal(degrade(images, ALL_ON, noise), one_by_one)


@settings(deadline=None, max_examples=25)
@given(
    kernel=st.integers(0, 6).map(lambda half: 2 * half + 1),
    quality=st.integers(20, 100),
    brightness=st.floats(0, 0.5),
    contrast=st.floats(0, 0.5),
    noise_std=st.floats(0, 0.1),
)
def test_result_keeps_shape_and_range(
    kernel: int, quality: int, brightness: float, contrast: float, noise_std: float
) -> None:
    images = torch.rand(2, 1, 17, 10, generator=generator(1))
    before = images.clone()
    result = degrade(
        images, Degradation(kernel, quality, brightness, contrast, noise_std), draw_noise(images.shape, generator(2))
    )
    assert result.shape == images.shape
    assert result.dtype == torch.float32
    assert result.min() >= 0
    assert result.max() <= 1
    assert torch.equal(images, before)


def test_draws_are_reproducible_and_leave_the_global_state_alone(device: str) -> None:
    state = torch.random.get_rng_state()
    first = draw_noise((3, 1, 8, 8), generator(5), device)
    second = draw_noise((3, 1, 8, 8), generator(5), device)
    assert torch.equal(torch.random.get_rng_state(), state)
    for field in ("brightness", "contrast", "noise"):
        assert torch.equal(getattr(first, field), getattr(second, field))
        assert getattr(first, field).device.type == device
    assert first.brightness.shape == first.contrast.shape == (3,)
    assert not torch.equal(first.brightness, first.contrast)


def test_uniform_draws_fill_the_interval() -> None:
    noise = draw_noise((4000, 1, 1, 1), generator())
    for draws in (noise.brightness, noise.contrast):
        assert draws.abs().max() <= 1
        assert draws.min() < -0.99
        assert draws.max() > 0.99
        assert abs(draws.mean()) < 0.03


def test_samples_do_not_influence_each_other() -> None:
    images = smooth_images(3, 24, 24)
    noise = draw_noise(images.shape, generator())
    single = DegradationNoise(**{name: draws[1:2] for name, draws in vars(noise).items()})
    together = degrade(images, dataclasses.replace(ALL_ON, jpeg_quality=100), noise)[1:2]
    torch.testing.assert_close(degrade(images[1:2], dataclasses.replace(ALL_ON, jpeg_quality=100), single), together)


def test_nothing_is_recorded_for_autograd() -> None:
    images = torch.rand(1, 1, 16, 16).requires_grad_()
    assert not degrade(images, ALL_ON, draw_noise(images.shape, generator())).requires_grad


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("blur_kernel", 4),
        ("blur_kernel", 0),
        ("blur_kernel", 33),
        ("blur_kernel", 3.5),
        ("jpeg_quality", 0),
        ("jpeg_quality", 101),
        ("jpeg_quality", 50.5),
        ("brightness", -0.1),
        ("brightness", 1.1),
        ("contrast", float("nan")),
        ("contrast", 2.0),
        ("noise_std", float("inf")),
        ("noise_std", -1.0),
    ],
)
def test_bad_strengths_are_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Degradation(**{field: value})


def test_images_smaller_than_the_border_are_refused() -> None:
    images = torch.rand(1, 1, 6, 40)
    with pytest.raises(ValueError, match=r"6 x 40 .* blur_kernel 13"):
        degrade(images, Degradation(blur_kernel=13), fixed_noise(images))
    images = torch.rand(1, 1, 7, 40)
    assert degrade(images, Degradation(blur_kernel=13), fixed_noise(images)).shape == images.shape


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (8, 8), (0, 1, 8, 8)])
def test_wrong_image_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="images must be float"):
        degrade(torch.zeros(shape), Degradation(), draw_noise((1, 1, 8, 8), generator()))


def test_noise_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="noise was drawn for"):
        degrade(torch.zeros(2, 1, 8, 8), Degradation(), draw_noise((1, 1, 8, 8), generator()))
    with pytest.raises(ValueError, match="images_shape"):
        draw_noise((8, 8), generator())


@settings(deadline=None, max_examples=25)
@given(
    strengths=st.lists(
        st.tuples(
            st.sampled_from([1, 3, 13]),
            st.sampled_from([100, 99, 50, 20]),
            st.sampled_from([0.0, 0.3]),
            st.sampled_from([0.0, 0.5]),
            st.sampled_from([0.0, 0.05]),
        ),
        min_size=2,
        max_size=3,
    ),
    height=st.integers(16, 24),
)
def test_tensors_give_what_numbers_give_bit_for_bit(
    strengths: list[tuple[int, int, float, float, float]], height: int
) -> None:
    images = torch.rand(2, 1, height, 20, generator=generator(1))
    tensors = DegradationTensors(images)
    places = [value.data_ptr() for value in (*tensors.strengths.values(), *tensors.on.values())]
    for number, values in enumerate(strengths):  # one after the other in the same tensors
        noise = draw_noise(images.shape, generator(number))
        tensors.set(Degradation(*values))
        assert torch.equal(degrade_by_tensors(images, tensors, noise), degrade(images, Degradation(*values), noise))
    assert places == [value.data_ptr() for value in (*tensors.strengths.values(), *tensors.on.values())]


def test_tensors_of_nothing_are_the_identity(device: str) -> None:
    images = torch.rand(2, 1, 20, 20, generator=generator(1)).to(device)
    tensors = DegradationTensors(images)
    noise = draw_noise(images.shape, generator(), device)
    assert torch.equal(degrade_by_tensors(images, tensors, noise), images)
    tensors.set(ALL_ON)
    assert not torch.equal(degrade_by_tensors(images, tensors, noise), images)
    tensors.set(Degradation())
    assert torch.equal(degrade_by_tensors(images, tensors, noise), images)
