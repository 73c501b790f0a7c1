import cv2
import numpy as np
import pytest
import torch

from experiments.weights.images import Lumas, load_lumas, to_batch
from experiments.weights.measures import spearman
from experiments.weights.train_features import change_distances, draw_batch, recover_images, tap_distances
from fusion_env.data import PairedFolder, ProceduralScenes
from fusion_env.losses import guidance_loss
from fusion_env.perception import load_features, load_quality
from fusion_env.perception.embedded_features import EmbeddedFeatures
from fusion_env.perception.local_moments import local_moments


@pytest.fixture(scope="module")
def network() -> EmbeddedFeatures:
    return load_features("embedded")


@pytest.fixture(scope="module")
def scenes() -> Lumas:
    source = ProceduralScenes(4, 128, 128, 987_654)
    return load_lumas(source, range(4), ("average", "laplacian"))


def rank_agreement(network: EmbeddedFeatures, lumas: Lumas) -> tuple[float, float]:
    """Spearman of distance and 1 - SSIM: pooled, and mean per image."""
    distances, targets = change_distances(network, lumas["average"], lumas["ir"], np.random.default_rng(0))
    single = [spearman(*(values.ravel() for values in pair)) for pair in zip(distances, targets, strict=True)]
    return spearman(distances.ravel(), targets.ravel()), float(np.mean(single))


def test_distance_ranks_changes_as_ssim_does(network: EmbeddedFeatures, scenes: Lumas) -> None:
    assert min(rank_agreement(network, scenes)) >= 0.8


@pytest.mark.slow
def test_distance_ranks_changes_of_real_images(network: EmbeddedFeatures, reference_dir) -> None:
    source = PairedFolder(reference_dir / "data" / "mini")
    lumas = load_lumas(source, range(0, len(source), 3), ("average",))
    assert min(rank_agreement(network, lumas)) >= 0.8


@pytest.mark.parametrize("start", ["grey", "average"])
def test_an_image_is_recovered_from_its_features(network: EmbeddedFeatures, scenes: Lumas, start: str) -> None:
    target, average = (to_batch([image[:48, :48] for image in scenes[name]]) for name in ("laplacian", "average"))
    begin = average if start == "average" else torch.full_like(target, 0.5)
    assert (target - begin).abs().mean() > 0.04
    assert recover_images(network, target, begin).max() < 0.02


def test_half_of_the_distance_is_not_luma(network: EmbeddedFeatures, scenes: Lumas) -> None:
    images, versions = draw_batch(scenes, np.random.default_rng(0))
    own = (network.tap_scale[0] * network.luma_scale) ** 2 * (images - versions).square().mean() / 8
    assert 0.2 < own / tap_distances(network, images, versions).mean(dim=0).sum() < 0.6


def test_local_moments_are_those_of_a_gaussian_window() -> None:
    image = np.random.default_rng(0).random((40, 51), dtype=np.float32)
    mean, variance = local_moments(torch.from_numpy(image)[None, None])

    def blur(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values.astype(np.float64), (7, 7), 7 / 6, borderType=cv2.BORDER_REFLECT_101)

    np.testing.assert_allclose(mean[0, 0], blur(image), atol=1e-6)
    np.testing.assert_allclose(variance[0, 0], blur(image**2) - blur(image) ** 2, atol=1e-6)


def test_shapes_and_batches(network: EmbeddedFeatures) -> None:
    images = torch.rand(3, 1, 48, 50, generator=torch.Generator().manual_seed(0))
    taps = network(images)
    assert [tuple(tap.shape[1:]) for tap in taps] == [(8, 48, 50), (16, 24, 25), (24, 12, 13), (32, 6, 7), (48, 3, 4)]
    for tap, single in zip(taps, network(images[1:2]), strict=True):
        assert torch.allclose(tap[1:2], single, atol=1e-5)


def test_only_equal_images_have_distance_zero(network: EmbeddedFeatures) -> None:
    image = torch.full((1, 1, 32, 32), 0.5)
    assert guidance_loss(network(image), network(image)) == 0
    assert guidance_loss(network(image + 0.01), network(image)) > 0  # even a flat change of brightness


def test_gradient_reaches_the_image_and_not_the_weights(network: EmbeddedFeatures) -> None:
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    sum(tap.square().mean() for tap in network(image)).backward()
    assert image.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_it_is_not_the_network_that_scores(network: EmbeddedFeatures) -> None:
    score = load_quality("embedded")
    own = {tuple(tensor.flatten()[:9].tolist()) for tensor in network.state_dict().values()}
    assert not own & {tuple(tensor.flatten()[:9].tolist()) for tensor in score.state_dict().values()}


def test_fixed_taps_are_said_to_be_fixed() -> None:
    with pytest.raises(ValueError, match="taps"):
        load_features("embedded", taps="after_relu")
