from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.evaluation.baselines import POST_PROCESSING
from experiments.weights.changes import gaussian_blur
from experiments.weights.images import Lumas, load_lumas, to_batch
from experiments.weights.measures import spearman
from experiments.weights.train_quality import EVALUATED, Damage, score_curve, train
from experiments.weights.training import seeded
from fusion_env.data import PairedFolder, ProceduralScenes
from fusion_env.perception import load_quality
from fusion_env.perception.embedded_quality import EmbeddedQuality
from student.weights import WeightsError, save_state


@pytest.fixture(scope="module")
def score() -> EmbeddedQuality:
    return load_quality("embedded")


@pytest.fixture(scope="module")
def scenes() -> Lumas:
    source = ProceduralScenes(4, 160, 192, 987_654)
    return load_lumas(source, range(4), ("average", "laplacian"))


def curves(score: EmbeddedQuality, lumas: Lumas, change: str) -> np.ndarray:
    """Scores of all images (rows) at the strengths of a change (columns)."""
    rng = np.random.default_rng(0)
    images = [image for images in lumas.values() for image in images]
    return np.array(
        [score_curve(score, image, change, rng.standard_normal(image.shape, dtype=np.float32)) for image in images]
    )


def check_fall(score: EmbeddedQuality, lumas: Lumas, change: str) -> None:
    """Check that every score falls at the least strength, and that scores go on falling."""
    scores = curves(score, lumas, change)
    assert (scores[:, 1] < scores[:, 0]).all(), (change, (scores[:, 1] - scores[:, 0]).max())
    assert max(spearman(curve, EVALUATED[change][0]) for curve in scores) <= -0.9, change


@pytest.mark.parametrize("change", list(EVALUATED))
def test_score_falls_with_strength(score: EmbeddedQuality, scenes: Lumas, change: str) -> None:
    check_fall(score, scenes, change)


@pytest.mark.slow
def test_score_falls_on_real_images(score: EmbeddedQuality, reference_dir) -> None:
    source = PairedFolder(reference_dir / "data" / "mini")
    lumas = load_lumas(source, range(0, len(source), 3), ("average", "laplacian"))
    for change in EVALUATED:
        check_fall(score, lumas, change)


@pytest.mark.parametrize("seed", range(3))
def test_contrast_and_dimming_lower_the_score_whatever_the_weights(scenes: Lumas, seed: int) -> None:
    untrained = seeded(EmbeddedQuality, seed).freeze()
    for change in ("contrast, loss of 10 to 90 %", "darker, factor 1 to 0.1"):
        # Below a third of the contrast the floor under the deviation shows.
        assert (np.diff(curves(untrained, scenes, change)[:, :6]) < 0).all(), change


@pytest.mark.parametrize("name", list(POST_PROCESSING))
def test_post_processing_buys_nothing(score: EmbeddedQuality, scenes: Lumas, name: str) -> None:
    images = torch.cat([to_batch(images) for images in scenes.values()])
    assert (score(POST_PROCESSING[name](images)) - score(images)).mean() <= 0


def test_a_crisp_fusion_outscores_a_blurred_average(score: EmbeddedQuality, scenes: Lumas) -> None:
    blurred = to_batch([gaussian_blur(image, 1.0) for image in scenes["average"]])
    assert (score(to_batch(scenes["laplacian"])) > score(blurred)).all()


def test_small_damage_is_noticed(score: EmbeddedQuality, scenes: Lumas) -> None:
    clean = score(to_batch(scenes["laplacian"]))
    for damage in (Damage(blur=0.3), Damage(noise=0.2), Damage(jpeg=0.3), Damage(contrast=0.2)):
        noise = np.random.default_rng(0).standard_normal((160, 192), dtype=np.float32)
        damaged = score(to_batch([damage.apply(image, noise) for image in scenes["laplacian"]]))
        assert 0.01 < (clean - damaged).mean() < 0.4, damage


def test_crops_and_whole_images_are_on_one_scale(score: EmbeddedQuality, scenes: Lumas) -> None:
    wholes = to_batch(scenes["average"])
    tiles = wholes.unfold(2, 64, 32).unfold(3, 64, 32).reshape(-1, 1, 64, 64)
    assert abs(float(score(tiles).mean() - score(wholes).mean())) < 0.1


def test_range_shape_and_independence(score: EmbeddedQuality) -> None:
    images = torch.rand(5, 1, 50, 70, generator=torch.Generator().manual_seed(0))
    values = score(images)
    assert values.shape == (5,)
    assert ((values > 0) & (values < 1)).all()
    singles = torch.cat([score(image[None]) for image in images])
    assert torch.allclose(values, singles, atol=1e-6)


def test_colour_is_scored_by_its_luma(score: EmbeddedQuality) -> None:
    grey = torch.rand(2, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(score(grey), score(grey.expand(-1, 3, -1, -1)), atol=1e-4)


def test_too_small(score: EmbeddedQuality) -> None:
    with pytest.raises(ValueError, match="at least 41"):
        score(torch.rand(1, 1, 40, 80))


def test_no_weight_takes_gradients_and_the_fingerprint_follows_the_weights(tmp_path) -> None:
    first = load_quality("embedded")
    assert not any(parameter.requires_grad for parameter in first.parameters())
    state = first.state_dict()
    name = next(iter(state))
    save_state({**state, name: state[name] + 1}, tmp_path / "other.safetensors")
    assert load_quality("embedded", str(tmp_path / "other.safetensors")).fingerprint() != first.fingerprint()
    assert load_quality("embedded").fingerprint() == first.fingerprint()


def test_foreign_weights(tmp_path) -> None:
    save_state({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"x\.safetensors.*missing"):
        load_quality("embedded", str(tmp_path / "x.safetensors"))


def test_training_is_deterministic_and_leaves_the_global_generator_alone(scenes: Lumas) -> None:
    before = torch.get_rng_state()
    first, second = (train(scenes, 3, seed=1).state_dict() for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_saved_from_a_wrapped_network(score: EmbeddedQuality, tmp_path: Path) -> None:
    save_state({f"module.{name}": value for name, value in score.state_dict().items()}, tmp_path / "wrapped")
    assert load_quality("embedded", tmp_path / "wrapped").fingerprint() == score.fingerprint()
