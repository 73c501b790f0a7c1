import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_env import action as actions
from fusion_env.action import (
    ACTION_NAMES,
    ACTION_SIZE,
    STRENGTHS,
    decode_action,
    encode_action,
    even_action,
    even_degradation,
)
from fusion_env.degradation import DEGRADATIONS, Degradation, Operation, degrade, draw_noise
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import UnknownNameError

MOST = {"blur_kernel": 13, "jpeg_quality": 20, "brightness": 0.5, "contrast": 0.5, "noise_std": 0.1}
"""Settings at +1."""


def logits(guidance: float, self_learning: float) -> list[float]:
    """An action with these logits and every degradation at half of its range."""
    return [guidance, self_learning] + [0.0] * len(STRENGTHS)


def test_extremes() -> None:
    weights, degradation = decode_action([-1.0] * ACTION_SIZE)
    assert degradation == Degradation()
    assert weights.guidance == pytest.approx(0.5)
    _, strongest = decode_action([1.0] * ACTION_SIZE)
    assert vars(strongest).items() >= MOST.items()


def test_logits_reach_nearly_all_of_the_range() -> None:
    high, _ = decode_action(logits(1, -1))
    low, _ = decode_action(logits(-1, 1))
    assert high.guidance == pytest.approx(1 / (1 + np.exp(-6)))
    assert low.guidance == pytest.approx(1 - high.guidance)
    unscaled, _ = decode_action(logits(1, -1), logit_scale=1.0)
    assert unscaled.guidance == pytest.approx(0.8808, abs=1e-4)  # the limit of the unscaled softmax


def test_a_loss_can_be_removed_exactly() -> None:
    assert decode_action(logits(-1, 1), self_learning=False)[0].guidance == 1.0
    assert decode_action(logits(1, -1), guidance=False)[0].self_learning == 1.0


def test_out_of_range_is_clipped() -> None:
    far = np.where(np.arange(ACTION_SIZE) % 2, -5.0, 9.0)
    assert decode_action(far) == decode_action(np.sign(far))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(ACTION_SIZE))
def test_non_finite_is_an_error_that_names_the_number(bad: float, place: int) -> None:
    action = np.zeros(ACTION_SIZE)
    action[place] = bad
    with pytest.raises(ValueError, match=ACTION_NAMES[place]):
        decode_action(action)


def test_wrong_shape() -> None:
    with pytest.raises(ValueError, match=rf"shape \({ACTION_SIZE},\). Got \({ACTION_SIZE - 1},\)"):
        decode_action(np.zeros(ACTION_SIZE - 1))


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


def test_a_misspelt_strength_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'blur_kernel'"):
        encode_action(blur_kernal=3)


def test_shares_of_every_range() -> None:
    assert even_degradation(0.0).is_identity
    half = {"blur_kernel": 7, "jpeg_quality": 60, "brightness": 0.25, "contrast": 0.25, "noise_std": 0.05}
    assert vars(even_degradation(0.5)).items() >= half.items()
    assert vars(even_degradation(1.0)).items() >= MOST.items()
    start = even_action(0.25, guidance=0.9, logit_scale=2.0)
    weights, degradation = decode_action(start, logit_scale=2.0)
    assert weights.guidance == pytest.approx(0.9)
    assert degradation == even_degradation(0.25)


def test_every_degradation_is_steered() -> None:
    names = [field.name for field in dataclasses.fields(Degradation)]
    assert sorted(names) == sorted(DEGRADATIONS) == sorted(strength.setting for strength in STRENGTHS)
    for strength in STRENGTHS:
        low, high = DEGRADATIONS[strength.setting].limits
        assert low <= min(strength.off, strength.most) < max(strength.off, strength.most) <= high
        assert strength.off in (low, high)


@dataclasses.dataclass(frozen=True)
class WithHaze(Degradation):
    haze: float = 0.0


@pytest.fixture
def _haze(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more degradation: a field, a function, and an entry in each of the two tables."""

    def haze(images: torch.Tensor, strength: float, noise: object) -> torch.Tensor:
        return images * (1 - strength) + strength

    strengths = (*STRENGTHS, actions.Strength("haze", "share of white", "haze", 0.4))
    monkeypatch.setitem(DEGRADATIONS, "haze", Operation(haze, (0.0, 0.9)))
    monkeypatch.setattr(Degradation, "haze", 0.0, raising=False)
    monkeypatch.setattr(actions, "Degradation", WithHaze)
    monkeypatch.setattr(actions, "STRENGTHS", strengths)
    monkeypatch.setattr(actions, "COORDINATES", (*actions.LOGITS, *strengths))
    monkeypatch.setattr(actions, "ACTION_SIZE", ACTION_SIZE + 1)


@pytest.mark.usefixtures("_haze")
def test_one_more_degradation_is_an_entry_in_two_tables(tiny_env: Callable[..., FusionDistillEnv]) -> None:
    action = encode_action(haze=0.1, blur_kernel=3)
    assert action.tolist() == [*encode_action(blur_kernel=3).tolist()[:-1], -0.5]
    _, degradation = decode_action(action)
    assert (degradation.haze, degradation.blur_kernel) == (pytest.approx(0.1), 3)
    with pytest.raises(ValueError, match=r"haze must be in 0\.\.0\.4\. Got 0\.5"):
        encode_action(haze=0.5)
    with pytest.raises(ValueError, match=r"Degradation\.haze must lie in 0\.0\.\.0\.9"):
        WithHaze(haze=1.0)
    assert actions.action_table().splitlines()[-1] == f"| {ACTION_SIZE} | share of white | 0 (off) | 0.4 |"
    images = torch.full((1, 1, 8, 8), 0.5)
    noise = draw_noise(images.shape, torch.Generator())
    assert degrade(images, WithHaze(haze=0.4), noise).unique().tolist() == pytest.approx([0.7])
    assert degrade(images, WithHaze(), noise) is images
    env = tiny_env()
    env.reset(seed=0)
    *_, info = env.step(action)
    assert info["degradation"]["haze"] == pytest.approx(0.1)
    assert env.action_space.shape == (ACTION_SIZE + 1,)
