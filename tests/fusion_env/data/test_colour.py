import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_env.data.colour import luma_levels, rgb_to_luma, rgb_to_ycbcr, ycbcr_to_rgb

_PRIMARIES = {
    # r, g, b -> Y, Cb, Cr; from the definition, by hand
    (0, 0, 0): (0.0, 0.5, 0.5),
    (1, 1, 1): (1.0, 0.5, 0.5),
    (1, 0, 0): (0.299, 0.5 - 0.299 / 1.772, 1.0),
    (0, 0, 1): (0.114, 1.0, 0.5 - 0.114 / 1.402),
    (0, 1, 0): (0.587, 0.5 - 0.587 / 1.772, 0.5 - 0.587 / 1.402),
}


def _picture(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("rgb", "expected"), _PRIMARIES.items())
def test_primaries(rgb: tuple[int, ...], expected: tuple[float, ...], device: str) -> None:
    converted = rgb_to_ycbcr(torch.tensor(rgb, dtype=torch.float32, device=device).view(1, 3, 1, 1))
    torch.testing.assert_close(converted.flatten().cpu(), torch.tensor(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 3, 5, 7), (2, 4, 3, 5, 7)])
def test_round_trip_and_shapes(shape: tuple[int, ...], device: str) -> None:
    rgb = _picture(0, *shape).to(device)
    ycbcr = rgb_to_ycbcr(rgb)
    assert ycbcr.shape == shape
    assert torch.equal(ycbcr[..., :1, :, :], rgb_to_luma(rgb))
    torch.testing.assert_close(ycbcr_to_rgb(ycbcr), rgb, atol=1e-6, rtol=0)


def test_round_trip_of_8_bit_storage_moves_at_most_one_level() -> None:
    levels = torch.randint(0, 256, (3, 512, 512), generator=torch.Generator().manual_seed(0))
    stored = (rgb_to_ycbcr(levels / 255) * 255).round() / 255
    back = (ycbcr_to_rgb(stored).clamp(0, 1) * 255).round()
    assert (back - levels).abs().max() == 1


def test_changed_luma_moves_grey_by_the_change() -> None:
    ycbcr = rgb_to_ycbcr(torch.full((3, 2, 2), 0.25))
    ycbcr[0] += 0.5
    torch.testing.assert_close(ycbcr_to_rgb(ycbcr), torch.full((3, 2, 2), 0.75))


def test_conversions_are_differentiable() -> None:
    rgb = _picture(1, 1, 3, 2, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ycbcr_to_rgb(rgb_to_ycbcr(x) ** 2), rgb)


def test_luma_levels_equal_integer_arithmetic() -> None:
    generator = torch.Generator().manual_seed(0)
    rgb = torch.randint(0, 256, (3, 1000, 1000), dtype=torch.uint8, generator=generator)
    red, green, blue = rgb.long()
    assert torch.equal(luma_levels(rgb)[0].long(), (299 * red + 587 * green + 114 * blue + 500) // 1000)


@given(st.integers(0, 255))
@settings(deadline=None, max_examples=30)
def test_luma_levels_keep_grey(level: int) -> None:
    assert luma_levels(torch.full((2, 3, 1, 1), level, dtype=torch.uint8)).flatten().tolist() == [level, level]


def test_luma_levels_round_half_up() -> None:
    # 299 * 10 + 587 * 0 + 114 * 15 = 4700 -> 4.7 -> 5; 299 * 5 + 587 * 1 + 114 * 7 = 2880 -> 3; 299 * 0 + 587 * 0 +
    # 114 * 250 = 28500 -> 28.5 -> 29, where rounding half to even would say 28
    rgb = torch.tensor([[10, 5, 0], [0, 1, 0], [15, 7, 250]], dtype=torch.uint8).view(3, 1, 3)
    assert luma_levels(rgb).flatten().tolist() == [5, 3, 29]


@pytest.mark.parametrize("convert", [rgb_to_luma, rgb_to_ycbcr, ycbcr_to_rgb])
@pytest.mark.parametrize(
    "image", [torch.zeros(1, 4, 4), torch.zeros(3, 4), torch.zeros(3, 4, 4, dtype=torch.uint8)], ids=str
)
def test_wrong_input(convert: callable, image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"must be a floating-point tensor .* Got torch\..* \["):
        convert(image)


@pytest.mark.parametrize("image", [torch.zeros(3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8)], ids=str)
def test_luma_levels_wrong_input(image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="rgb must be a uint8 tensor"):
        luma_levels(image)


def test_agrees_with_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    rgb = _picture(2, 3, 16, 16)
    theirs = cv2.cvtColor(np.ascontiguousarray(rgb.permute(1, 2, 0).numpy()), cv2.COLOR_RGB2YCrCb)
    # OpenCV rounds its chroma factors to three digits
    ours = rgb_to_ycbcr(rgb)[[0, 2, 1]].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(ours, theirs, atol=5e-4)
