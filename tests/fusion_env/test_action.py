import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_env.action import ACTION_NAMES, decode_action, encode_action
from fusion_env.degradation import Degradation


def test_extremes() -> None:
    weights, degradation = decode_action([-1.0] * 7)
    assert degradation == Degradation()
    assert weights.guidance == pytest.approx(0.5)
    _, strongest = decode_action([1.0] * 7)
    assert strongest == Degradation(13, 20, 0.5, 0.5, 0.1)


def test_logits_reach_nearly_all_of_the_range() -> None:
    high, _ = decode_action([1, -1, 0, 0, 0, 0, 0])
    low, _ = decode_action([-1, 1, 0, 0, 0, 0, 0])
    assert high.guidance == pytest.approx(1 / (1 + np.exp(-6)))
    assert low.guidance == pytest.approx(1 - high.guidance)
    unscaled, _ = decode_action([1, -1, 0, 0, 0, 0, 0], logit_scale=1.0)
    assert unscaled.guidance == pytest.approx(0.8808, abs=1e-4)  # the limit of the unscaled softmax


def test_a_loss_can_be_removed_exactly() -> None:
    assert decode_action([-1, 1, 0, 0, 0, 0, 0], self_learning=False)[0].guidance == 1.0
    assert decode_action([1, -1, 0, 0, 0, 0, 0], guidance=False)[0].self_learning == 1.0


def test_out_of_range_is_clipped() -> None:
    assert decode_action([9.0, -9, 5, 5, 5, 5, 5]) == decode_action([1.0, -1, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(7))
def test_non_finite_is_an_error_that_names_the_number(bad: float, place: int) -> None:
    action = np.zeros(7)
    action[place] = bad
    with pytest.raises(ValueError, match=ACTION_NAMES[place]):
        decode_action(action)


def test_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"shape \(7,\). Got \(6,\)"):
        decode_action(np.zeros(6))


@settings(deadline=None, max_examples=100)
@given(
    guidance=st.floats(0.003, 0.997),
    kernel=st.integers(0, 6).map(lambda n: 2 * n + 1),
    quality=st.integers(20, 100),
    brightness=st.floats(0, 0.5),
    contrast=st.floats(0, 0.5),
    noise=st.floats(0, 0.1),
)
def test_encode_then_decode(
    guidance: float, kernel: int, quality: int, brightness: float, contrast: float, noise: float
) -> None:
    action = encode_action(
        guidance=guidance,
        blur_kernel=kernel,
        jpeg_quality=quality,
        brightness=brightness,
        contrast=contrast,
        noise_std=noise,
    )
    assert action.dtype == np.float32
    assert np.abs(action).max() <= 1
    weights, degradation = decode_action(action)
    assert weights.guidance == pytest.approx(guidance, abs=1e-5)
    assert (degradation.blur_kernel, degradation.jpeg_quality) == (kernel, quality)
    assert degradation.brightness == pytest.approx(brightness, abs=1e-6)
    assert degradation.contrast == pytest.approx(contrast, abs=1e-6)
    assert degradation.noise_std == pytest.approx(noise, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"guidance": 0.0}, "guidance must be in"),
        ({"guidance": 1.0}, "remove a loss exactly"),
        ({"blur_kernel": 4}, "odd"),
        ({"blur_kernel": 15}, "1..13"),
        ({"jpeg_quality": 10}, "20..100"),
        ({"noise_std": 0.2}, "noise_std must be in 0..0.1"),
        ({"brightness": -0.1}, "brightness must be in 0..0.5"),
    ],
)
def test_encode_errors(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_action(**values)
