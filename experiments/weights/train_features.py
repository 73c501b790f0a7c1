"""Train and measure the embedded feature network, `fusion_env.perception.embedded_features`.

Usage::

    python experiments/weights/train_features.py --out fusion_env/assets --seed 0      # train, write weights and card
    python experiments/weights/train_features.py --evaluate [--data DIR ...] [--report PAGE]

``docs/reference/embedded-networks.md`` is such a PAGE.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from experiments.command_line import exit_on_error
from experiments.output import markdown_table
from experiments.weights.changes import add_noise, compress, gaussian_blur, scale_contrast, shift, shrink, warp
from experiments.weights.images import Image, Lumas, draw_crop, to_batch
from experiments.weights.measures import median_ms, spearman
from experiments.weights.program import Program, run_program
from experiments.weights.training import train_from_scratch
from fusion_env.losses import guidance_loss
from fusion_env.metrics.similarity import ssim_index
from fusion_env.perception.embedded_features import EmbeddedFeatures, load_embedded_features

CROP_SIZE = 64
GROUPS, VERSIONS = 12, 6
LEARNING_RATE = 2e-3
SMALLEST_DISTANCE = 1e-6
LUMA_SHARE = 0.4
"""Share of the luma in the mean distance: with 0.02 free images do not recover their brightness, with 0.4 they do."""


CHANGES: dict[str, Callable[[Image, Image, Image, float], Image]] = {
    "blur": lambda image, other, noise, level: gaussian_blur(image, 0.3 + 3.7 * level**1.5),
    "noise": lambda image, other, noise, level: add_noise(image, noise, 0.005 + 0.155 * level**1.5),
    "JPEG": lambda image, other, noise, level: compress(image, round(5 + 85 * (1 - level) ** 2)),
    "less contrast": lambda image, other, noise, level: scale_contrast(image, 0.95 - 0.85 * level),
    "more contrast": lambda image, other, noise, level: scale_contrast(image, 1.05 + level),
    "brighter": lambda image, other, noise, level: (image + np.float32(0.02 + 0.4 * level)).clip(0, 1),
    "darker": lambda image, other, noise, level: (image - np.float32(0.02 + 0.4 * level)).clip(0, 1),
    "gain": lambda image, other, noise, level: (image * np.float32(1.05 + level)).clip(0, 1),
    "shift": lambda image, other, noise, level: shift(image, 0.25 + 3.75 * level),
    "warp": lambda image, other, noise, level: warp(image, noise, 0.25 + 3.75 * level),
    "lower resolution": lambda image, other, noise, level: shrink(image, 1.25 + 3 * level),
    "blend with the other band": lambda image, other, noise, level: (1 - level) * image + np.float32(level) * other,
}
"""Changes of an image; arguments: image, another image of the scene, a normal field, level in 0..1."""


def draw_group(lumas: Lumas, rng: np.random.Generator) -> tuple[Image, list[Image]]:
    """Draw one crop and `VERSIONS` changed versions of it, three in ten of them changed twice."""
    crops = draw_crop(lumas, CROP_SIZE, rng)
    image, other = (np.ascontiguousarray(crops[str(kind)]) for kind in rng.choice(list(crops), size=2, replace=False))
    versions = []
    for _ in range(VERSIONS):
        version = image
        for change in rng.choice(list(CHANGES), size=2 if rng.random() < 0.3 else 1, replace=False):
            noise = rng.standard_normal(image.shape, dtype=np.float32)
            version = CHANGES[str(change)](version, other, noise, float(rng.random()))
        versions.append(version)
    return image, versions


def tap_distances(network: EmbeddedFeatures, images: Tensor, versions: Tensor) -> Tensor:
    """Return the mean squared feature difference of each pair at each tap, [B, taps]."""
    count = len(images)
    return torch.stack(
        [(tap[:count] - tap[count:]).square().mean(dim=(1, 2, 3)) for tap in network(torch.cat([images, versions]))],
        dim=1,
    )


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Compute Pearson's correlation along the last dimension."""
    first, second = (values - values.mean(dim=-1, keepdim=True) for values in (first, second))
    scale = (first.square().sum(dim=-1) * second.square().sum(dim=-1) + 1e-8).sqrt()
    return (first * second).sum(dim=-1) / scale


def agreement_loss(distances: Tensor, dissimilarities: Tensor) -> Tensor:
    """Measure how far distances are from following 1 - SSIM.

    Args:
        distances: Of the taps, [groups * versions, taps].
        dissimilarities: 1 - SSIM at the resolution of each tap, same shape; the first column is the full resolution.

    Returns:
        A scalar: one minus the correlation of logarithms for the sum of the taps, over all pairs and within groups,
        plus a quarter of the same for each tap by itself.
    """
    shares = distances / distances.mean(dim=0)
    total = (shares.mean(dim=1) + SMALLEST_DISTANCE).log()
    taps = (shares + SMALLEST_DISTANCE).log().T
    wanted = (dissimilarities.clamp_min(0) + 1e-4).log().T
    grouped = correlation(total.view(-1, VERSIONS), wanted[0].view(-1, VERSIONS)).mean()
    return 2.25 - correlation(total, wanted[0]) - grouped - 0.25 * correlation(taps, wanted).mean()


def dissimilarity(images: Tensor, versions: Tensor) -> Tensor:
    """Return 1 - SSIM at full, half and quarter resolution, the last for three taps, [B, 5]."""
    columns = [1 - ssim_index(F.avg_pool2d(images, pool), F.avg_pool2d(versions, pool)) for pool in (1, 2, 4)]
    return torch.stack([*columns, columns[-1], columns[-1]], dim=1)


def draw_batch(lumas: Lumas, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw `GROUPS` groups as aligned batches of images and versions."""
    groups = [draw_group(lumas, rng) for _ in range(GROUPS)]
    images = to_batch([image for image, _ in groups]).repeat_interleave(VERSIONS, dim=0)
    return images, to_batch([version for _, versions in groups for version in versions])


def train(lumas: Lumas, iterations: int, seed: int) -> EmbeddedFeatures:
    """Train from scratch; deterministic for one number of threads.

    Args:
        lumas: From `load_lumas`.
        iterations: Steps of `GROUPS` groups.
        seed: Of the initial weights and of all draws.

    Returns:
        The trained network with calibrated taps, in evaluation mode.
    """
    rng = np.random.default_rng(seed)

    def loss(network: EmbeddedFeatures) -> Tensor:
        images, versions = draw_batch(lumas, rng)
        return agreement_loss(tap_distances(network, images, versions), dissimilarity(images, versions))

    network = train_from_scratch(EmbeddedFeatures, loss, LEARNING_RATE, iterations, seed, "feature network")
    calibrate_taps(network, lumas, rng)
    return network


@torch.no_grad()
def calibrate_taps(network: EmbeddedFeatures, lumas: Lumas, rng: np.random.Generator) -> None:
    """Scale the mean distance to 1: `LUMA_SHARE` of it the luma, the rest equal parts of the taps without it."""
    means, luma_means = [], []
    for _ in range(20):
        images, versions = draw_batch(lumas, rng)
        means.append(tap_distances(network, images, versions).mean(dim=0))
        luma_means.append((images - versions).square().mean() / network.stages[1][1].in_channels)  # type: ignore[index]
    taps, luma = torch.stack(means).mean(dim=0), torch.stack(luma_means).mean()
    taps[0] -= luma
    network.tap_scale.copy_(((1 - LUMA_SHARE) / (len(taps) * taps)).sqrt())
    network.luma_scale.copy_((LUMA_SHARE / luma).sqrt() / network.tap_scale[0])


MIDDLE = 128
EVALUATED_LEVELS = (0.05, 0.3, 0.6, 0.9)


@torch.inference_mode()
def change_distances(
    network: EmbeddedFeatures, images: Sequence[Image], others: Sequence[Image], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the distance and 1 - SSIM of images and their changed versions, [images, changes, levels] each."""
    distances, targets = [], []
    for image, other in zip(images, others, strict=True):
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        versions = to_batch(
            [change(image, other, noise, level) for change in CHANGES.values() for level in EVALUATED_LEVELS]
        )
        originals = to_batch([image]).expand_as(versions)
        distances.append(tap_distances(network, originals, versions).sum(dim=1))
        targets.append(1 - ssim_index(originals, versions))
    shape = (len(images), len(CHANGES), len(EVALUATED_LEVELS))
    return torch.cat(distances).reshape(shape).numpy(), torch.cat(targets).reshape(shape).numpy()


def rank_agreement(network: EmbeddedFeatures, lumas: Lumas) -> str:
    """Tabulate Spearman's correlation of distance and 1 - SSIM over all `CHANGES` at four levels, per kind of image."""
    rng = np.random.default_rng(7)
    rows = []
    for kind, images in lumas.items():
        distances, targets = change_distances(network, images, lumas["vis" if kind == "ir" else "ir"], rng)
        per_image = [spearman(*(values.ravel() for values in pair)) for pair in zip(distances, targets, strict=True)]
        worst = min(
            (spearman(distances[:, index].ravel(), targets[:, index].ravel()), name)
            for index, name in enumerate(CHANGES)
        )
        pooled = spearman(distances.ravel(), targets.ravel())
        rows.append([kind, pooled, float(np.mean(per_image)), min(per_image), f"{worst[0]:.3f} ({worst[1]})"])
    head = ["image", "pooled", "per image, mean", "per image, lowest", "pooled within one change, lowest"]
    return markdown_table(head, rows, decimals=3)


def recover_images(network: EmbeddedFeatures, targets: Tensor, start: Tensor, steps: int = 200) -> Tensor:
    """Optimise free images towards targets with Eq. 1 alone: what a student could learn from this loss.

    Args:
        network: The feature network.
        targets: [B, 1, H, W].
        start: Where the images start, same shape.
        steps: Steps of Adam, learning rate 0.02 falling to 0.

    Returns:
        Mean absolute error of each image, [B].
    """
    wanted = [tap.detach() for tap in network(targets)]
    images = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([images], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        guidance_loss(network(images), wanted).backward()
        optimiser.step()
        schedule.step()
    return (images.detach() - targets).abs().mean(dim=(1, 2, 3))


def recovery(network: EmbeddedFeatures, lumas: Lumas) -> str:
    """Tabulate how well free images recover Laplacian-fused crops from a grey image and from the averaged sources."""
    crops = {name: to_batch([image[:64, :64] for image in lumas[name][:8]]) for name in ("laplacian", "average")}
    targets = crops["laplacian"]
    starts = {"a grey image": torch.full_like(targets, 0.5), "the average of the sources": crops["average"]}
    rows = []
    for name, start in starts.items():
        errors = recover_images(network, targets, start)
        before = (start - targets).abs().mean()
        rows.append([name, float(before), float(errors.mean()), float(errors.max())])
    return markdown_table(["start", "MAE before", "MAE after 200 steps", "worst image"], rows, decimals=3)


def shares(network: EmbeddedFeatures, lumas: Lumas) -> str:
    """Tabulate each tap's share of the mean distance."""
    rng = np.random.default_rng(3)
    with torch.inference_mode():
        means = torch.stack([tap_distances(network, *draw_batch(lumas, rng)).mean(dim=0) for _ in range(10)]).mean(0)
    cells = (means / means.sum()).tolist()
    return markdown_table([f"stride {2**index}" for index in range(len(cells))], [cells], decimals=3)


def measure(network: EmbeddedFeatures, lumas: Lumas) -> str:
    """Tabulate everything that is asked of the network, on the middle of each image."""
    middles = {kind: [_middle(image) for image in images] for kind, images in lumas.items()}
    images = torch.rand(16, 1, 64, 64, requires_grad=True)
    wanted = [tap.detach() for tap in network(torch.rand(16, 1, 64, 64))]
    milliseconds = median_ms(lambda: guidance_loss(network(images), wanted).backward())
    return (
        f"Spearman's correlation of the summed distance and 1 - SSIM over {len(CHANGES)} changes at "
        f"{len(EVALUATED_LEVELS)} levels, on the middle {MIDDLE} pixels:\n\n{rank_agreement(network, middles)}\n\n"
        "A free image optimised with Eq. 1 alone towards a Laplacian fusion (MAE in 0..1):\n\n"
        f"{recovery(network, middles)}\n\n"
        f"Share of each tap in the mean distance, the first with the luma:\n\n{shares(network, middles)}\n\n"
        f"Eq. 1 and its gradient for 16 images of 64x64 take {milliseconds:.1f} ms on one core."
    )


def _middle(image: Image) -> Image:
    top, left = (max(0, (side - MIDDLE) // 2) for side in image.shape)
    return np.ascontiguousarray(image[top : top + MIDDLE, left : left + MIDDLE])


PROGRAM = Program(
    asset="features",
    title="Embedded feature network",
    about="""\
Five feature tensors of a luma image for Eq. 1 of arXiv 2509.02424: `fusion_env.perception.embedded_features`. It
stands in for VGG-19 in the presets that download nothing. The weights maximise the correlation of the logarithms of
the squared feature distance and of 1 - SSIM over pairs of an image and a changed version of it; each tap is also held
to SSIM at its own resolution. Then the luma in the first tap is scaled to two fifths of the mean distance, and the
taps without it to equal parts of the rest: less agreement with SSIM, but a student trained with Eq. 1 recovers the
brightness of its teacher. It shares no weights with the embedded quality score.""",
    iterations=500,
    train=train,
    load=load_embedded_features,
    measure=measure,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_program(PROGRAM, arguments)


if __name__ == "__main__":
    exit_on_error(main)
