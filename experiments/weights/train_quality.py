"""Train and measure the embedded quality score, `fusion_env.perception.embedded_quality`.

Usage::

    python experiments/weights/train_quality.py --out fusion_env/assets --seed 0      # train, write weights and card
    python experiments/weights/train_quality.py --evaluate [--data DIR ...] [--report PAGE]

``docs/reference/embedded-networks.md`` is such a PAGE.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from experiments.command_line import exit_on_error
from experiments.evaluation.baselines import POST_PROCESSING
from experiments.output import markdown_table
from experiments.weights.changes import (
    PATTERNS,
    add_noise,
    add_pattern,
    add_ringing,
    compress,
    denoise,
    gaussian_blur,
    scale_contrast,
    sharpen,
)
from experiments.weights.images import FUSIONS, Image, Lumas, draw_crop, fuse_lumas, to_batch
from experiments.weights.measures import median_ms, spearman
from experiments.weights.program import Program, run_program
from experiments.weights.training import train_from_scratch
from experiments.weights.training_pairs import texture_pairs
from fusion_env.perception.embedded_quality import EmbeddedQuality, load_embedded_quality

CROP_SIZES = (48, 72, 96)
TEXTURES, TEXTURE_SIZE = 160, (160, 192)
CHAINS, LEVELS = 20, 3
CLEAN_SCORE, WORST_SCORE = 0.82, 0.10
LEARNING_RATE = 3e-3

TONES = ("gain", "lift", "sink", "stretch", "dim")
"""Ways to spoil the tones: multiply, add, subtract, or raise the contrast until it clips; multiply towards black."""

SHARES = {
    "blur": 0.18,
    "sharpening": 0.08,
    "ringing": 0.13,
    "tone": 0.15,
    "contrast": 0.03,
    "noise": 0.21,
    "pattern": 0.06,
    "jpeg": 0.16,
}
"""How often each damage is drawn; what is hardest to tell from detail comes most often."""
TRACE_CHAINS, TRACE = 0.5, (0.05, 0.25)
"""Share of the chains whose severities all lie in `TRACE`: a trace of noise must not pass for detail."""
REGRESSION_WEIGHT = 0.1
MIN_MARGIN = 0.12
"""Of the logits of an image and of any damaged version of it."""


@dataclass(frozen=True)
class Damage:
    """Severities in 0..1, applied in this order; 0 is none.

    Attributes:
        blur: Gaussian of up to 4 px.
        sharpening: Unsharp masking of `halo`, 0.3 to 2.3 times what the blur takes away.
        ringing: Echoes of edges, up to 3 times those of a sharp low-pass of `reach`.
        tone: Severity of the change of tones `tone_kind`.
        contrast: Loss of up to 90 % of the contrast.
        noise: Gaussian noise of standard deviation up to 0.16.
        pattern: A regular pattern of up to 0.1 up and down, `pattern_kind` with `period`.
        jpeg: Compression down to quality 5.
        tone_kind: One of `TONES`, or "" for none. With all but "dim", severity 0 is where the picture begins to clip,
            for before it clips a change of brightness is no loss of quality.
        pattern_kind: One of `PATTERNS`.
        period: In pixels.
        reach: In pixels.
        halo: In pixels.
    """

    blur: float = 0.0
    sharpening: float = 0.0
    ringing: float = 0.0
    tone: float = 0.0
    contrast: float = 0.0
    noise: float = 0.0
    pattern: float = 0.0
    jpeg: float = 0.0
    tone_kind: str = ""
    pattern_kind: str = "checkerboard"
    period: float = 2.0
    reach: float = 2.0
    halo: float = 1.0

    def apply(self, image: Image, noise: Image) -> Image:
        """Return the damaged image; ``noise`` is a standard normal field of its size."""
        if self.blur > 0:
            image = gaussian_blur(image, 0.05 + 4 * self.blur**1.4)
        if self.sharpening > 0:
            image = sharpen(image, self.halo, 0.3 + 2 * self.sharpening)
        if self.ringing > 0:
            image = add_ringing(image, self.reach, 3 * self.ringing)
        if self.tone_kind:
            image = change_tone(image, self.tone_kind, self.tone)
        if self.contrast > 0:
            image = scale_contrast(image, 1 - 0.9 * self.contrast)
        if self.noise > 0:
            image = add_noise(image, noise, 0.16 * self.noise**1.4)
        if self.pattern > 0:
            image = add_pattern(image, self.pattern_kind, self.period, 0.1 * self.pattern**1.4)
        if self.jpeg > 0:
            image = compress(image, round(5 + 95 * (1 - self.jpeg) ** 2))
        return image

    def target(self) -> float:
        """Return the score that training aims at."""
        # Blurring or compressing grainy images takes noise away, and must cost more than the noise did.
        severities = (
            self.blur**0.7,
            0.5 * self.sharpening,
            self.ringing,
            0.8 * self.tone,
            self.contrast,
            self.noise,
            self.pattern,
            self.jpeg**0.7,
        )
        return WORST_SCORE + (CLEAN_SCORE - WORST_SCORE) * math.prod(1 - severity for severity in severities)


def change_tone(image: Image, kind: str, severity: float) -> Image:
    """Brighten or darken; see `Damage.tone_kind`."""
    dark, bright = (float(value) for value in np.quantile(image, (0.01, 0.99)))
    if kind == "gain":
        return (image * (4**severity / max(bright, 0.05))).clip(0, 1)
    if kind == "lift":
        return (image + (1 - bright + 0.6 * severity)).clip(0, 1)
    if kind == "sink":
        return (image - (dark + 0.8 * (bright - dark) * severity)).clip(0, 1)
    if kind == "stretch":
        mean = float(image.mean().clip(0.01, 0.99))
        used = max((bright - mean) / (1 - mean), (mean - dark) / mean, 0.05)
        return scale_contrast(image, 4**severity / used)
    return image * np.float32(0.1**severity)


def draw_damages(rng: np.random.Generator) -> list[Damage]:
    """Draw `LEVELS` damages, each at least as severe as the one before in every respect."""
    count = 1 if rng.random() < 0.75 else int(rng.integers(2, 4))
    chosen = rng.choice(list(SHARES), count, replace=False, p=list(SHARES.values()))
    is_trace = rng.random() < TRACE_CHAINS
    severities = {
        name: np.sort(rng.uniform(*TRACE, LEVELS) if is_trace else rng.random(LEVELS) ** 1.7) for name in chosen
    }
    for rising in severities.values():
        rising[0] = 0.0 if rng.random() < 0.85 else rising[0]
    pattern = str(rng.choice(PATTERNS, p=(0.25, 0.15, 0.15, 0.45)))
    undamaged = Damage(
        tone_kind=str(rng.choice(TONES)) if "tone" in severities else "",
        pattern_kind=pattern,
        period=float(2.5 * 5 ** rng.random() if pattern == "rings" else rng.choice((2, 2, 3, 4, 6, 8))),
        reach=float(rng.uniform(1.2, 4)),
        halo=float(rng.uniform(0.6, 2)),
    )
    levels = zip(*severities.values(), strict=True)
    return [replace(undamaged, **dict(zip(severities, map(float, level), strict=True))) for level in levels]


def draw_chain(lumas: Lumas, size: int, rng: np.random.Generator) -> tuple[list[Image], list[float]]:
    """Draw one crop in `LEVELS` versions of falling quality, and their target scores."""
    crops = draw_crop(lumas, size, rng)
    mirror = -1 if rng.random() < 0.5 else 1
    noise = rng.standard_normal((size, size), dtype=np.float32)

    def crop(kind: str) -> Image:
        return np.ascontiguousarray(crops[kind][:, ::mirror])

    if rng.random() < 0.15:
        good = str(rng.choice([name for name in FUSIONS if name in lumas and name not in ("average", "maximum")]))
        damages = [Damage(blur=float(blur)) for blur in (0, *np.sort(rng.random(LEVELS - 2)))]
        versions = [crop(good), *(damage.apply(crop("average"), noise) for damage in damages)]
        return versions, [CLEAN_SCORE, *(0.88 * damage.target() for damage in damages)]
    image = crop(str(rng.choice(list(lumas))))
    mild_noise = rng.standard_normal((size, size), dtype=np.float32)
    damages = draw_damages(rng)
    if rng.random() < 0.6:
        # Sharpening a soft image is no damage.
        image = _as_found(image, mild_noise, rng, soft=damages[-1].sharpening == 0)
    versions = [damage.apply(image, noise) for damage in damages]
    if rng.random() < 0.3:
        versions = [np.round(version * 255) / np.float32(255) for version in versions]
    return versions, [damage.target() for damage in damages]


def _as_found(image: Image, noise: Image, rng: np.random.Generator, *, soft: bool) -> Image:
    """Make an image as real ones come: denoised, dim, glaring, of few levels, soft, noisy or compressed, if slightly.

    That must not hide further damage, nor further damage that.
    """
    is_denoised = rng.random() < 0.4
    if is_denoised:
        image = denoise(image, rng.uniform(0.005, 0.02))
    if rng.random() < 0.3:
        image = image * np.float32(rng.uniform(0.1, 1))
    if rng.random() < 0.3:
        levels = np.float32(2 ** rng.uniform(5, 8))
        image = np.round(image * levels) / levels
    if rng.random() < 0.2:
        image = scale_contrast(image, rng.uniform(1, 2))
    if rng.random() < 0.3:
        noise = gaussian_blur(noise, rng.uniform(0.3, 1))
    return Damage(
        blur=0.3 * rng.random() if soft else 0.0,
        sharpening=0.3 * max(rng.uniform(-1, 1), 0) if soft else 0.0,
        noise=0.0 if is_denoised else 0.3 * rng.random() ** 2,
        jpeg=0.5 * rng.random() ** 2,
    ).apply(image, noise)


def ranking_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute a margin ranking loss within chains plus a weak regression to the targets.

    Args:
        logits: Of the score, [chains, levels].
        targets: Target scores, same shape, falling along the levels.
    """
    wanted = torch.logit(targets)
    first, second = torch.triu_indices(targets.shape[1], targets.shape[1], offset=1)
    margins = 0.7 * (wanted[:, first] - wanted[:, second])
    is_clean = targets[:, first] == CLEAN_SCORE
    margins = torch.where(is_clean & (margins > 0), margins.clamp_min(MIN_MARGIN), margins)
    # Neighbours are the hardest to tell apart and the ones that must be.
    ranking = (F.relu(margins - (logits[:, first] - logits[:, second])) / (second - first)).mean()
    return ranking + REGRESSION_WEIGHT * F.smooth_l1_loss(logits, wanted)


def train(lumas: Lumas, iterations: int, seed: int) -> EmbeddedQuality:
    """Train from scratch; deterministic for one number of threads.

    Args:
        lumas: From `load_lumas`.
        iterations: Steps of `CHAINS` chains.
        seed: Of the initial weights and of all draws.

    Returns:
        The trained score, in evaluation mode.
    """
    rng = np.random.default_rng(seed)

    def loss(score: EmbeddedQuality) -> Tensor:
        size = int(rng.choice(CROP_SIZES))
        chains = [draw_chain(lumas, size, rng) for _ in range(CHAINS)]
        images = to_batch([image for versions, _ in chains for image in versions])
        targets = torch.tensor([values for _, values in chains])
        return ranking_loss(score.logits(images).view(CHAINS, LEVELS), targets)

    def build() -> EmbeddedQuality:
        return EmbeddedQuality().to(memory_format=torch.channels_last)  # a fifth faster on a CPU

    network = train_from_scratch(build, loss, LEARNING_RATE, iterations, seed, "quality score")
    return network.to(memory_format=torch.contiguous_format)


def train_with_textures(lumas: Lumas, iterations: int, seed: int) -> EmbeddedQuality:
    """Train on the images and on texture pairs, fused in the same ways; see `train`."""
    kinds = [kind for kind in FUSIONS if kind in lumas]
    textures = fuse_lumas(texture_pairs(TEXTURES, *TEXTURE_SIZE, seed), kinds)
    return train({kind: [*images, *textures[kind]] for kind, images in lumas.items()}, iterations, seed)


def _tone_chain(kind: str) -> Callable[[Image, float, Image], Image]:
    return lambda image, severity, _: change_tone(image, kind, severity)


def _pattern(kind: str, period: float) -> Callable[[Image, float, Image], Image]:
    return lambda image, height, _: add_pattern(image, kind, period, height)


Change = Callable[[Image, float, Image], Image]
"""Maps an image, a strength and standard normal noise to the changed image; strength 0 is the start of a chain."""

EVALUATED: dict[str, tuple[Sequence[float] | NDArray[np.float64], Change]] = {
    "Gaussian blur, sigma 0.5 to 4 px": (
        (0, *np.geomspace(0.5, 4, 8)),
        lambda image, sigma, _: gaussian_blur(image, sigma) if sigma else image,
    ),
    "JPEG, quality 80 to 5": (
        (0, 20, 35, 50, 65, 75, 85, 90, 95),
        lambda image, loss, _: compress(image, int(100 - loss)) if loss else image,
    ),
    "noise, std 0.005 to 0.16": (
        (0, *np.geomspace(0.005, 0.16, 8)),
        lambda image, std, noise: add_noise(image, noise, std),
    ),
    "checkerboard of 2 px, 0.005 to 0.1": ((0, *np.geomspace(0.005, 0.1, 8)), _pattern("checkerboard", 2)),
    "checkerboard of 4 px, 0.01 to 0.1": ((0, *np.geomspace(0.01, 0.1, 8)), _pattern("checkerboard", 4)),
    "checkerboard of 8 px, 0.01 to 0.1": ((0, *np.geomspace(0.01, 0.1, 8)), _pattern("checkerboard", 8)),
    "rows of 2 px, 0.01 to 0.1": ((0, *np.geomspace(0.01, 0.1, 8)), _pattern("rows", 2)),
    "columns of 4 px, 0.01 to 0.1": ((0, *np.geomspace(0.01, 0.1, 8)), _pattern("columns", 4)),
    "rings of 6 px, 0.01 to 0.1": ((0, *np.geomspace(0.01, 0.1, 8)), _pattern("rings", 6)),
    "ringing of 2 px, 0.25 to 3 times": (
        (0, *np.geomspace(0.25, 3, 8)),
        lambda image, strength, _: add_ringing(image, 2.0, strength),
    ),
    "contrast, loss of 10 to 90 %": (
        (0, *np.linspace(0.1, 0.9, 8)),
        lambda image, loss, _: scale_contrast(image, 1 - loss),
    ),
    "brighter until it clips, by factor": (np.linspace(0, 1, 9), _tone_chain("gain")),
    "brighter until it clips, by offset": (np.linspace(0, 1, 9), _tone_chain("lift")),
    "darker until it clips, by offset": (np.linspace(0, 1, 9), _tone_chain("sink")),
    "darker, factor 1 to 0.1": (np.linspace(0, 1, 9), _tone_chain("dim")),
}
"""Nine rising strengths from 0 of each change that must lower the score."""


@torch.inference_mode()
def score_curve(score: EmbeddedQuality, image: Image, name: str, noise: Image) -> list[float]:
    """Score an image at all strengths of a change of `EVALUATED`."""
    strengths, change = EVALUATED[name]
    return score(to_batch([change(image, float(strength), noise) for strength in strengths])).tolist()


def rank_correlations(score: EmbeddedQuality, lumas: Lumas) -> str:
    """Tabulate how score and strength go together, and how often the first and every strength lower the score."""
    rng = np.random.default_rng(7)
    rows = []
    for name, (strengths, _) in EVALUATED.items():
        curves: dict[str, list[list[float]]] = {kind: [] for kind in lumas}
        for kind, images in lumas.items():
            for image in images:
                noise = rng.standard_normal(image.shape, dtype=np.float32)
                curves[kind].append(score_curve(score, image, name, noise))
        correlations = {kind: [spearman(curve, strengths) for curve in curves[kind]] for kind in lumas}
        everything = np.array([curve for kind in lumas for curve in curves[kind]])
        falls = everything[:, 1:] < everything[:, :-1]
        rows.append(
            [
                name,
                *(float(np.mean(values)) for values in correlations.values()),
                max(value for values in correlations.values() for value in values),
                *everything.mean(axis=0)[[0, 1, 4, 8]].tolist(),
                float((everything[:, 1] - everything[:, 0]).max()),
                f"{falls[:, 0].sum()} of {len(everything)}",
                f"{falls.all(axis=1).sum()} of {len(everything)}",
            ]
        )
    head = [
        "change",
        *lumas,
        "worst image",
        "strength 0",
        "strength 1",
        "strength 4",
        "strength 8",
        "largest change at strength 1",
        "fell at strength 1",
        "fell at every strength",
    ]
    return markdown_table(head, rows, decimals=3)


@torch.inference_mode()
def side_checks(score: EmbeddedQuality, lumas: Lumas) -> str:
    """Tabulate crops against whole images, crisp fusions against blurred averages, and what post-processing buys."""
    rows: list[list[str | float]] = []
    for size in (64, 96):
        differences, pairs = [], []
        for image in lumas["laplacian"]:
            tiles = [
                image[top : top + size, left : left + size]
                for top in range(0, image.shape[0] - size + 1, size)
                for left in range(0, image.shape[1] - size + 1, size)
            ]
            whole, mean = float(score(to_batch([image]))), float(score(to_batch(tiles)).mean())
            differences.append(mean - whole)
            pairs.append((whole, mean))
        correlation = float(np.corrcoef(np.array(pairs).T)[0, 1])
        rows.append([f"mean score of {size} px tiles minus score of the whole image", float(np.mean(differences))])
        rows.append([f"correlation of both over images, {size} px tiles", correlation])
    for good in ("laplacian", "teacher"):
        for sigma in (0, 1, 2):
            if good not in lumas:
                continue
            rivals = [gaussian_blur(image, sigma) if sigma else image for image in lumas["average"]]
            wins = [
                float(score(to_batch([best]))) > float(score(to_batch([rival])))
                for best, rival in zip(lumas[good], rivals, strict=True)
            ]
            share = float(np.mean(wins))
            rows.append([f"share of scenes where {good} outscores the average, blurred by {sigma} px", share])
    for name, change in POST_PROCESSING.items():
        images = [to_batch([image]) for kind in lumas.values() for image in kind]
        gains = [float(score(change(image)) - score(image)) for image in images]
        rows.append([f"mean change of the score by {name}", float(np.mean(gains))])
        rows.append([f"share of images that {name} raises", float(np.mean(np.array(gains) > 0))])
    return markdown_table(["check", "value"], rows, decimals=3)


def measure(score: EmbeddedQuality, lumas: Lumas) -> str:
    """Tabulate everything that is asked of the score."""
    images = torch.rand(12, 1, 96, 96)
    with torch.inference_mode():
        milliseconds = median_ms(lambda: score(images))
    return (
        "Spearman's correlation of score and strength over nine strengths from 0, mean over images (-1 is best), mean "
        "scores, the largest change of an image's score from strength 0 to 1, and how many images' scores fell:\n\n"
        f"{rank_correlations(score, lumas)}\n\n{side_checks(score, lumas)}\n\n"
        f"12 images of 96x96 take {milliseconds:.1f} ms on one core."
    )


PROGRAM = Program(
    asset="quality",
    title="Embedded quality score",
    about="""\
A no-reference score of image clarity in (0, 1), higher is better: `fusion_env.perception.embedded_quality`. It stands
in for CLIP-IQA in the presets that download nothing. A small network learns to rank versions of one crop that are
damaged more and more (blur, unsharp masking, ringing, clipped or lost tones, loss of contrast, noise, regular
patterns, JPEG, and mixtures; half the time mere traces), and crisp fusions above blurred averages, with a margin; a
weak regression keeps clean images near 0.8 and ruined ones near 0.1. The network sees tones brought to mean 0 and
deviation 1; contrast and clipping are judged by terms of their own, so that losing contrast lowers the score of any
image. Beside the scenes it learns from 160 texture pairs (`experiments/weights/textures.py`). It knows nothing of what
is shown, and an image is not better for containing more objects.""",
    iterations=4500,
    train=train_with_textures,
    load=load_embedded_quality,
    measure=measure,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_program(PROGRAM, arguments)


if __name__ == "__main__":
    exit_on_error(main)
